//! Who answers for names.

use crate::{
    base::{Answer, Error, Kind, Result},
    net::{Host, Srv},
};
use std::{net::IpAddr, sync::Arc, time::Duration};

/// What a question was answered with, and how long that may be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records<T> {
    /// The records, in any order.
    pub list: Vec<T>,
    /// The least of their times to live; none where the resolver does not tell.
    pub ttl: Option<Duration>,
}

impl<T> Records<T> {
    /// These, for as long as nobody says.
    pub fn new(list: impl Into<Vec<T>>) -> Self {
        Records { list: list.into(), ttl: None }
    }

    /// To be kept this long.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Records { ttl: Some(ttl), ..self }
    }
}

/// Answers questions about names, once each: [`Dns`](super::Dns) asks again, bounds the time and keeps what was good.
///
/// [`Host`] is one, the network of a pod with its directory (over TCP without one: the system's), and so is [`System`], for
/// addresses alone. Neither tells times to live. A cluster's network has SRV records for the named ports of its services;
/// for those of the world put this in front of a library that speaks DNS (`hickory-resolver` is one).
///
/// ```
/// use seedpod::base::Answer;
/// use seedpod::serving::{Records, Resolver, Srv};
/// use std::net::IpAddr;
///
/// /// Answers as a test wants it.
/// struct Script;
///
/// impl Resolver for Script {
///     fn addresses<'a>(&'a self, _name: &'a str) -> Answer<'a, Records<IpAddr>> {
///         Answer::ok(Records::new([[10, 0, 0, 1].into()]))
///     }
///
///     fn services<'a>(&'a self, _name: &'a str) -> Answer<'a, Records<Srv>> {
///         let target = "a.cart.shop".to_string();
///         Answer::ok(Records::new([Srv { priority: 0, weight: 5, port: 7070, target }]))
///     }
/// }
/// ```
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of this name: its A and AAAA records.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where it is known that there is no such name (NXDOMAIN); any other kind where it could not be
    /// found out.
    fn addresses<'a>(&'a self, name: &'a str) -> Answer<'a, Records<IpAddr>>;

    /// The places of this service (`_http._tcp.cart.shop`): its SRV records.
    ///
    /// # Errors
    /// As [`addresses`](Resolver::addresses); [`Kind::Unsupported`] where it is not written.
    fn services<'a>(&'a self, name: &'a str) -> Answer<'a, Records<Srv>> {
        Answer::now(Err(Error::new(Kind::Unsupported, "this resolver knows no SRV records").at(name)))
    }
}

impl<R: Resolver + ?Sized> Resolver for Arc<R> {
    fn addresses<'a>(&'a self, name: &'a str) -> Answer<'a, Records<IpAddr>> {
        (**self).addresses(name)
    }

    fn services<'a>(&'a self, name: &'a str) -> Answer<'a, Records<Srv>> {
        (**self).services(name)
    }
}

/// The pod network's own names.
impl Resolver for Host {
    fn addresses<'a>(&'a self, name: &'a str) -> Answer<'a, Records<IpAddr>> {
        Answer::later(async move { Ok(Records::new(self.resolve(name).await?)) })
    }

    fn services<'a>(&'a self, name: &'a str) -> Answer<'a, Records<Srv>> {
        Answer::later(async move { Ok(Records::new(Host::services(self, name).await?)) })
    }
}

/// The system's resolver, which knows addresses alone, and does not tell how long they may be kept.
///
/// It cannot tell a name that is not there from one that could not be asked for: what it fails with is
/// [`Kind::Unavailable`], so that the last good answer stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct System;

impl Resolver for System {
    fn addresses<'a>(&'a self, name: &'a str) -> Answer<'a, Records<IpAddr>> {
        Answer::later(async move { Ok(Records::new(look_up(name).await?)) })
    }
}

async fn look_up(name: &str) -> Result<Vec<IpAddr>> {
    let failed = |error| Error::new(Kind::Unavailable, "it does not resolve").because(error).at(name);
    let found = tokio::net::lookup_host((name, 0)).await.map_err(failed)?;
    Ok(found.map(|address| address.ip()).collect())
}
