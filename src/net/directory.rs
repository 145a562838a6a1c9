//! Names and virtual addresses: who answers for them.

use crate::base::{Answer, Error, Kind, Result};
use std::{
    any::Any,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Who asks: directories answer by it (search lists, nearest replica, policy).
#[derive(Clone, Debug)]
pub struct Origin {
    /// Its address.
    pub ip: IpAddr,
    /// Its name; empty where it has none.
    pub name: Arc<str>,
    /// The suffixes tried for a short name, in order, as in `/etc/resolv.conf`.
    pub search: Arc<[String]>,
}

impl Origin {
    /// The names that a short name may stand for: with each suffix in turn, then as it is. A name that ends in a dot
    /// stands for itself alone, without the dot.
    ///
    /// ```
    /// use seedpod::net::Origin;
    /// let origin = Origin { ip: [10, 0, 0, 1].into(), name: "a".into(), search: [String::from("shop.svc")].into() };
    /// assert_eq!(origin.candidates("cart").collect::<Vec<_>>(), ["cart.shop.svc", "cart"]);
    /// assert_eq!(origin.candidates("cart.").collect::<Vec<_>>(), ["cart"]);
    /// ```
    pub fn candidates<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        let (name, absolute) = match name.strip_suffix('.') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let suffixes = if absolute { &[] } else { &*self.search };
        suffixes.iter().map(move |suffix| format!("{name}.{suffix}")).chain([name.to_owned()])
    }
}

/// Where a connection really goes.
pub enum Route {
    /// To the address itself.
    Direct,
    /// To another one: the address is virtual, as a service's is.
    To {
        /// The real address.
        address: SocketAddr,
        /// Kept as long as the connection is, at the end that connected: counts it in flight, for example.
        guard: Option<Box<dyn Any + Send + Sync>>,
    },
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Route::Direct => f.write_str("Direct"),
            Route::To { address, .. } => f.debug_tuple("To").field(address).finish(),
        }
    }
}

/// One place of a service, as an SRV record has it (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// Those with the lowest are to be used, as long as there are any.
    pub priority: u16,
    /// Its share of the calls, against the others of its priority.
    pub weight: u16,
    /// Its port.
    pub port: u16,
    /// The name of its host; `.` alone says that the service is decidedly not there.
    pub target: String,
}

/// Answers for names (DNS) and virtual addresses (services) of a network.
///
/// A network without one knows the names of its hosts, and over TCP then asks the system's resolver.
pub trait Directory: Send + Sync + 'static {
    /// The addresses that a name stands for, the first being tried first.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is no such name.
    fn resolve<'a>(&'a self, from: &'a Origin, name: &'a str) -> Answer<'a, Vec<IpAddr>>;

    /// The places of a service (`_http._tcp.cart.shop`): its SRV records.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is no such name; [`Kind::Unsupported`] where it is not written.
    fn services<'a>(&'a self, from: &'a Origin, name: &'a str) -> Answer<'a, Vec<Srv>> {
        let _ = from;
        Answer::now(Err(no_services(name)))
    }

    /// Where a connection to this address really goes. Asked once per connection, after an outbound interception.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] where the address is virtual and nobody stands behind it: the connection is refused.
    fn route(&self, from: &Origin, to: SocketAddr) -> Result<Route> {
        let _ = (from, to);
        Ok(Route::Direct)
    }
}

impl<D: Directory + ?Sized> Directory for Arc<D> {
    fn resolve<'a>(&'a self, from: &'a Origin, name: &'a str) -> Answer<'a, Vec<IpAddr>> {
        (**self).resolve(from, name)
    }

    fn services<'a>(&'a self, from: &'a Origin, name: &'a str) -> Answer<'a, Vec<Srv>> {
        (**self).services(from, name)
    }

    fn route(&self, from: &Origin, to: SocketAddr) -> Result<Route> {
        (**self).route(from, to)
    }
}

/// No such name.
pub(super) fn unknown(name: &str) -> Error {
    Error::new(Kind::NotFound, "no such host").at(name)
}

/// Nobody to ask for SRV records.
pub(super) fn no_services(name: &str) -> Error {
    Error::new(Kind::Unsupported, "nobody here knows SRV records").at(name)
}

/// The system's resolver.
pub(super) async fn system(name: &str) -> Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((name, 0)).await.map_err(|error| unknown(name).because(error))?;
    let mut ips: Vec<_> = found.map(|address| address.ip()).collect();
    ips.dedup();
    Ok(ips)
}
