//! One row of a mapping: what comes in, what the application gets, and what goes back.

use super::{
    Edits,
    template::{Pattern, Query, Target},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

/// One row of a [`Mapping`](super::Mapping): a method and a path of the interface that is expected, and what the application
/// has in its place.
///
/// ```
/// use seedpod::adapter::api::{Edits, Route};
/// let create = Route::new("POST", "/v2/orders")
///     .to("POST", "/order.cgi?action=new")
///     .request_header("x-legacy-client", "v2")
///     .request_json(Edits::new().rename("customer.name", "cust_nm"))
///     .status(200, 201)
///     .response_json(Edits::new().rename("order_no", "id"));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a route does nothing until a mapping has it"]
pub struct Route {
    pub(super) method: Text<Method>,
    pub(super) path: String,
    to: Option<(Text<Method>, String)>,
    query: Query,
    statuses: Vec<(u16, u16)>,
    request_headers: Vec<HeaderEdit>,
    response_headers: Vec<HeaderEdit>,
    request: Edits,
    response: Edits,
    failure: Edits,
}

/// Something that is read from a text when the mapping is built.
#[derive(Clone, Debug)]
pub(super) struct Text<T>(pub(super) String, std::marker::PhantomData<fn() -> T>);

impl<T: std::str::FromStr> Text<T> {
    fn new(text: &str) -> Self {
        Text(text.into(), std::marker::PhantomData)
    }

    fn read(&self) -> Result<T, String> {
        self.0.parse().map_err(|_| format!("{:?} is not a method of HTTP", self.0))
    }
}

#[derive(Clone, Debug)]
enum HeaderEdit {
    Set(String, String),
    Rename(String, String),
    Remove(String),
}

impl Route {
    /// For requests of this method on this path, in which `{name}` stands for one part and `{*name}`, at the end, for the rest.
    pub fn new(method: &str, path: &str) -> Self {
        Route {
            method: Text::new(method),
            path: path.into(),
            to: None,
            query: Query::default(),
            statuses: Vec::new(),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            request: Edits::new(),
            response: Edits::new(),
            failure: Edits::new(),
        }
    }

    /// What the application gets: method, path and query, in which `{name}` stands for what it stands for in the path. Default:
    /// the same.
    ///
    /// The request's own query follows, without what this one says itself.
    pub fn to(self, method: &str, target: &str) -> Self {
        Route { to: Some((Text::new(method), target.into())), ..self }
    }

    /// Renames a parameter of the query.
    pub fn rename_query(mut self, from: &str, to: &str) -> Self {
        self.query.0.push((from.into(), Some(to.into())));
        self
    }

    /// Removes a parameter of the query.
    pub fn remove_query(mut self, name: &str) -> Self {
        self.query.0.push((name.into(), None));
        self
    }

    /// Sets a header of the request.
    pub fn request_header(mut self, name: &str, value: &str) -> Self {
        self.request_headers.push(HeaderEdit::Set(name.into(), value.into()));
        self
    }

    /// Renames a header of the request.
    pub fn rename_request_header(mut self, from: &str, to: &str) -> Self {
        self.request_headers.push(HeaderEdit::Rename(from.into(), to.into()));
        self
    }

    /// Removes a header of the request.
    pub fn remove_request_header(mut self, name: &str) -> Self {
        self.request_headers.push(HeaderEdit::Remove(name.into()));
        self
    }

    /// Sets a header of the response.
    pub fn response_header(mut self, name: &str, value: &str) -> Self {
        self.response_headers.push(HeaderEdit::Set(name.into(), value.into()));
        self
    }

    /// Renames a header of the response.
    pub fn rename_response_header(mut self, from: &str, to: &str) -> Self {
        self.response_headers.push(HeaderEdit::Rename(from.into(), to.into()));
        self
    }

    /// Removes a header of the response.
    pub fn remove_response_header(mut self, name: &str) -> Self {
        self.response_headers.push(HeaderEdit::Remove(name.into()));
        self
    }

    /// Answers with another status where the application answers with this one.
    pub fn status(mut self, from: u16, to: u16) -> Self {
        self.statuses.push((from, to));
        self
    }

    /// Edits the JSON of requests. A body that is no JSON is refused with 415, one that does not read with 400.
    pub fn request_json(self, edits: Edits) -> Self {
        Route { request: edits, ..self }
    }

    /// Edits the JSON of the application's answers of success (2xx). One that does not read is answered with 502; what is no
    /// JSON passes.
    pub fn response_json(self, edits: Edits) -> Self {
        Route { response: edits, ..self }
    }

    /// Edits the JSON of the application's other answers.
    pub fn failure_json(self, edits: Edits) -> Self {
        Route { failure: edits, ..self }
    }

    /// Checked, or all that is wrong with it.
    pub(super) fn build(self) -> Result<Row, Vec<String>> {
        let place = format!("{} {}", self.method.0, self.path);
        let mut mistakes = Vec::new();
        let method = keep(&mut mistakes, self.method.read());
        let pattern = keep(&mut mistakes, Pattern::parse(&self.path));
        let (to_method, target) = match &self.to {
            Some((method, target)) => (method.clone(), target.clone()),
            None => (self.method.clone(), self.path.replace("{*", "{")),
        };
        let to_method = keep(&mut mistakes, to_method.read());
        let target = pattern.as_ref().and_then(|pattern| keep(&mut mistakes, Target::parse(&target, pattern)));
        let mut statuses = Vec::new();
        for (from, to) in self.statuses {
            match (StatusCode::from_u16(from), StatusCode::from_u16(to)) {
                (Ok(from), Ok(to)) if to.as_u16() >= 200 => statuses.push((from, to)),
                _ => mistakes.push(format!("{from} or {to} is not a status of an answer")),
            }
        }
        let mut headers = |edits: Vec<HeaderEdit>| {
            edits.into_iter().filter_map(|edit| keep(&mut mistakes, edit.build())).collect::<Vec<_>>()
        };
        let request_headers = headers(self.request_headers);
        let response_headers = headers(self.response_headers);
        for edits in [&self.request, &self.response, &self.failure] {
            mistakes.extend(edits.mistakes());
        }
        match (method, pattern, to_method, target) {
            (Some(method), Some(pattern), Some(to_method), Some(target)) if mistakes.is_empty() => Ok(Row {
                method,
                pattern,
                to_method,
                target,
                query: self.query,
                statuses,
                request_headers,
                response_headers,
                request: self.request,
                response: self.response,
                failure: self.failure,
            }),
            _ => Err(mistakes.into_iter().map(|mistake| format!("{place}: {mistake}")).collect()),
        }
    }
}

fn keep<T>(mistakes: &mut Vec<String>, read: Result<T, String>) -> Option<T> {
    read.map_err(|mistake| mistakes.push(mistake)).ok()
}

/// A route that has been checked.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) method: Method,
    pub(super) pattern: Pattern,
    pub(super) to_method: Method,
    pub(super) target: Target,
    pub(super) query: Query,
    statuses: Vec<(StatusCode, StatusCode)>,
    pub(super) request_headers: Vec<Header>,
    pub(super) response_headers: Vec<Header>,
    pub(super) request: Edits,
    pub(super) response: Edits,
    pub(super) failure: Edits,
}

impl Row {
    pub(super) fn status(&self, status: StatusCode) -> StatusCode {
        self.statuses.iter().rev().find(|(from, _)| *from == status).map_or(status, |(_, to)| *to)
    }
}

/// An edit of headers that has been checked.
#[derive(Clone, Debug)]
pub(super) enum Header {
    Set(HeaderName, HeaderValue),
    Rename(HeaderName, HeaderName),
    Remove(HeaderName),
}

impl HeaderEdit {
    fn build(self) -> Result<Header, String> {
        let name = |name: &str| {
            let read: HeaderName = name.parse().map_err(|_| format!("{name:?} is not a header's name"))?;
            // what frames a message is the servers' own
            match ["content-length", "transfer-encoding", "connection"].contains(&read.as_str()) {
                true => Err(format!("the header {name:?} is not to be changed")),
                false => Ok(read),
            }
        };
        Ok(match self {
            HeaderEdit::Set(header, value) => {
                let text = HeaderValue::from_str(&value);
                Header::Set(name(&header)?, text.map_err(|_| format!("{value:?} is not a header's value"))?)
            }
            HeaderEdit::Rename(from, to) => Header::Rename(name(&from)?, name(&to)?),
            HeaderEdit::Remove(header) => Header::Remove(name(&header)?),
        })
    }
}

pub(super) fn edit(headers: &mut HeaderMap, edits: &[Header]) {
    for edit in edits {
        match edit {
            Header::Set(name, value) => drop(headers.insert(name, value.clone())),
            Header::Remove(name) => drop(headers.remove(name)),
            Header::Rename(from, to) if from == to => {}
            Header::Rename(from, to) => {
                let values: Vec<_> = headers.get_all(from).iter().cloned().collect();
                if !values.is_empty() {
                    headers.remove(from);
                    headers.remove(to);
                    for value in values {
                        headers.append(to, value);
                    }
                }
            }
        }
    }
}
