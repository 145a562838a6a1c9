//! All routes together, checked; which of them a request is for.

use super::{
    layer::MappingLayer,
    route::{Route, Row},
    template::leads_up,
};
use crate::base::{Error, Kind, Result, sync::Arc};
use http::{Method, Uri};

/// One interface made of another: routes, in their order; the first that fits counts.
///
/// What no route is for is answered with 404, since the application's own interface is not the one that is expected; or passes
/// as it is ([`pass_others`](Mapping::pass_others)). A path without its method is 405.
///
/// ```
/// use seedpod::adapter::api::{Edits, Mapping, Route};
/// let layer = Mapping::new()
///     .route(Route::new("GET", "/v2/orders/{id}").to("GET", "/order.cgi?no={id}"))
///     .layer()?;
/// let wrong = Mapping::new().route(Route::new("GET IT", "/a/{b").to("GET", "/{c}").status(200, 99)).layer().unwrap_err();
/// assert_eq!(wrong.to_string().lines().count(), 4, "all mistakes at once: {wrong}");
/// # seedpod::Result::<()>::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a mapping does nothing until it is a layer"]
pub struct Mapping {
    routes: Vec<Route>,
    pass_others: bool,
}

impl Mapping {
    /// Without routes.
    pub fn new() -> Self {
        Mapping::default()
    }

    /// Adds a route behind those that are there.
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// What no route is for passes as it is.
    pub fn pass_others(self) -> Self {
        Mapping { pass_others: true, ..self }
    }

    /// The layer that does it.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with all mistakes, each with its route: methods, templates, statuses, headers, JSON paths.
    pub fn layer(self) -> Result<MappingLayer> {
        let (mut rows, mut mistakes) = (Vec::new(), Vec::new());
        for route in self.routes {
            match route.build() {
                Ok(row) => rows.push(row),
                Err(more) => mistakes.extend(more),
            }
        }
        match mistakes.is_empty() {
            true => Ok(MappingLayer::new(Table { rows: rows.into(), pass_others: self.pass_others })),
            false => Err(Error::new(Kind::Invalid, format!("the mapping cannot be used:\n{}", mistakes.join("\n")))),
        }
    }
}

/// The routes, checked.
#[derive(Clone, Debug)]
pub(super) struct Table {
    rows: Arc<[Row]>,
    pass_others: bool,
}

/// What becomes of a request.
pub(super) enum Decision<'t> {
    /// The row, and the path and query that the application gets.
    Mapped(&'t Row, String),
    Passed,
    NotFound,
    /// The methods that there are.
    NotAllowed(String),
    /// It leads up, out of the path that the template means.
    Refused,
}

impl Table {
    pub(super) fn decide(&self, method: &Method, uri: &Uri) -> Decision<'_> {
        let path = uri.path();
        let mut allowed: Vec<&str> = Vec::new();
        for row in self.rows.iter() {
            let Some(captures) = row.pattern.read(path) else { continue };
            // whoever serves GET serves HEAD
            let head = method == Method::HEAD && row.method == Method::GET && row.to_method == Method::GET;
            if row.method != *method && !head {
                allowed.push(row.method.as_str());
                continue;
            }
            return match leads_up(path) {
                true => Decision::Refused,
                false => Decision::Mapped(row, row.target.fill(&captures, &row.query, uri.query())),
            };
        }
        match (allowed.is_empty(), self.pass_others) {
            (false, _) => Decision::NotAllowed(allowed.join(", ")),
            (true, true) => Decision::Passed,
            (true, false) => Decision::NotFound,
        }
    }
}
