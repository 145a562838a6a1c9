//! What is known of an endpoint beside its service.

use crate::base::Labels;
use std::{fmt, sync::Arc};

/// What is known of an endpoint beside its service: how much it takes, where it is, what it runs.
///
/// [`Changes::insert`](super::Changes::insert) gives them to be set in place; each method changes one and gives them
/// back. Without any an endpoint weighs 1, is ready, and is nowhere in particular.
///
/// ```
/// use seedpod::serving::Endpoints;
///
/// let endpoints = Endpoints::named("cart");
/// endpoints.update(|changes| {
///     changes.insert("a", 'a').weight(3).zone("eu-1a").label("tier", "web");
///     changes.insert("b", 'b').version("v2");
/// });
/// let told: Vec<String> = endpoints.describe().iter().map(ToString::to_string).collect();
/// assert_eq!(told, ["a: ready, weight 3, zone eu-1a, tier=web", "b: ready, version v2"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Its share of the calls, against the others'. 0 takes it out of new picks, as draining does.
    pub weight: u32,
    /// Where it is.
    pub zone: Option<Arc<str>>,
    /// What it runs.
    pub version: Option<Arc<str>>,
    /// Whatever else selects it.
    pub labels: Labels,
    /// Whether whoever put it in says that it takes calls. Probes have a word of their own:
    /// [`Endpoints::set_ready`](super::Endpoints::set_ready).
    pub ready: bool,
}

impl Default for Attributes {
    fn default() -> Self {
        Attributes { weight: 1, zone: None, version: None, labels: Labels::new(), ready: true }
    }
}

impl Attributes {
    /// Its share of the calls, against the others': 1 by default, 0 for no new picks.
    pub fn weight(&mut self, weight: u32) -> &mut Self {
        self.weight = weight;
        self
    }

    /// Where it is.
    pub fn zone(&mut self, zone: impl Into<Arc<str>>) -> &mut Self {
        self.zone = Some(zone.into());
        self
    }

    /// What it runs.
    pub fn version(&mut self, version: impl Into<Arc<str>>) -> &mut Self {
        self.version = Some(version.into());
        self
    }

    /// One more label, or another value of one.
    pub fn label(&mut self, key: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.labels.insert(key, value);
        self
    }

    /// All labels, in place of those before.
    pub fn labels(&mut self, labels: Labels) -> &mut Self {
        self.labels = labels;
        self
    }

    /// Whether it takes calls: true by default.
    pub fn ready(&mut self, ready: bool) -> &mut Self {
        self.ready = ready;
        self
    }
}

/// Why an endpoint gets the calls that it gets, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Status {
    /// It gets its share.
    Ready,
    /// It gets this fraction of its share, since it has just come: [`SlowStart`](super::SlowStart).
    Warming(f64),
    /// It gets none: its source or a probe says that it is not ready.
    Unready,
    /// It gets none for a while: it failed too much, as [`Endpoints::explain`](super::Endpoints::explain) tells.
    Ejected,
    /// It failed too much and gets its share all the same, since too many did.
    Panic,
    /// It gets none: it drains, or weighs 0.
    Draining,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Ready => f.write_str("ready"),
            Status::Warming(share) => write!(f, "warming at {:.0} %", share * 100.0),
            Status::Unready => f.write_str("not ready"),
            Status::Ejected => f.write_str("ejected"),
            Status::Panic => f.write_str("ejected, used all the same"),
            Status::Draining => f.write_str("draining"),
        }
    }
}

/// One endpoint as it is at this moment: [`Endpoints::describe`](super::Endpoints::describe). It prints on one line.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Its key.
    pub key: Arc<str>,
    /// What it was put in with.
    pub attributes: Attributes,
    /// Whether it gets calls.
    pub status: Status,
    /// How many calls and leases it has in flight.
    pub pending: u32,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Description { key, attributes, status, pending } = self;
        write!(f, "{key}: {status}")?;
        if *pending > 0 {
            write!(f, ", {pending} in flight")?;
        }
        if attributes.weight != 1 {
            write!(f, ", weight {}", attributes.weight)?;
        }
        for (name, value) in [("zone", &attributes.zone), ("version", &attributes.version)] {
            if let Some(value) = value {
                write!(f, ", {name} {value}")?;
            }
        }
        if !attributes.labels.is_empty() {
            write!(f, ", {}", attributes.labels)?;
        }
        Ok(())
    }
}
