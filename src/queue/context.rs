//! Which broker a container gets: configuration says, code does not.

use super::{
    Broker,
    schemes::{self, shown},
};
use crate::{
    base::{Error, Kind, Result, sync::Lock},
    pod::Context,
};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// The brokers that containers find by URL. It outlives the pods, which share it through their resource map.
///
/// A broker of scheme `memory` is made when it is first asked for, and with their features those of `file`, `nats` and
/// `amqp`; others are [put in](Brokers::insert). Clones share.
///
/// ```
/// use seedpod::{net::Net, pod::{Context, ContainerSpec, Pod, PodSpec}};
/// use seedpod::queue::{Broker, Brokers, BrokerExt, Id, Publish, Topic, TopicOptions};
///
/// async fn shop(context: Context) -> seedpod::Result {
///     let (broker, orders) = (context.broker("orders")?, Topic::new("orders"));
///     broker.declare(&orders, TopicOptions::new().subscription("mailer")).await?;
///     broker.send(Publish::json(&orders, Id::of("order 17"), "a book".to_string())).await.map(drop)
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let brokers = Brokers::default();
/// let spec = PodSpec::new("shop")
///     .restart(seedpod::pod::RestartPolicy::Never)
///     .env("SEEDPOD_BROKER_ORDERS", "memory:sales")
///     .resource(Brokers::RESOURCE, brokers.clone())
///     .container(ContainerSpec::new("shop", shop));
/// Pod::start(spec, &Net::memory().build())?.finished().await;
/// assert_eq!(brokers.get("memory:sales")?.inspect(&Topic::new("orders")).await?.ready, 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Brokers(Arc<Lock<BTreeMap<String, Arc<dyn Broker>>>>);

impl Brokers {
    /// The name under which a pod's resource map holds them.
    pub const RESOURCE: &str = "brokers";

    /// The broker at this URL: `memory:`, or `memory:<instance>` for one of several; `file:<path>` with feature
    /// `durable`, `nats://<host>` with feature `nats`, `amqp://<host>` with feature `amqp`. It is made here, and not
    /// connected: a server that is not there is an error of the first call.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for what is no URL; [`Kind::Unsupported`], naming the scheme, where nobody has put in such a
    /// broker and it cannot be made here.
    pub fn get(&self, url: &str) -> Result<Arc<dyn Broker>> {
        let Some((scheme, rest)) = url.split_once(':') else {
            let message = "it has no scheme, such as memory:";
            return Err(Error::new(Kind::Invalid, message).at(format!("broker {:?}", shown(url))));
        };
        let mut brokers = self.0.lock();
        if let Some(broker) = brokers.get(&key(scheme, rest)) {
            return Ok(broker.clone());
        }
        let broker = schemes::open(scheme, url).map_err(|error| error.at(format!("broker {:?}", shown(url))))?;
        brokers.insert(key(scheme, rest), broker.clone());
        Ok(broker)
    }

    /// Puts in the broker that stands at this URL from now on; the one that stood there before, if any.
    pub fn insert(&self, url: &str, broker: Arc<dyn Broker>) -> Option<Arc<dyn Broker>> {
        let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
        self.0.lock().insert(key(scheme, rest), broker)
    }
}

/// `memory:` and `memory://` are the same place.
fn key(scheme: &str, rest: &str) -> String {
    format!("{scheme}:{}", rest.strip_prefix("//").unwrap_or(rest))
}

impl fmt::Debug for Brokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.lock().keys().map(|url| shown(url))).finish()
    }
}

impl Context {
    /// The broker that configuration gives to this name: the URL in `SEEDPOD_BROKER_<NAME>` (in capitals, with `_` for
    /// all but letters and digits), else in `SEEDPOD_BROKER`, else `memory:`, which is one broker for all whose pods
    /// share the [`Brokers`] in their resource map.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where the pod's resource map holds no [`Brokers`]; [`Kind::Invalid`] for what is no URL;
    /// [`Kind::Unsupported`] for a scheme that is not there. They name the broker, its variable and the URL.
    pub fn broker(&self, name: &str) -> Result<Arc<dyn Broker>> {
        let variable = variable(name);
        let own = self.env(&variable).map(|url| (variable.as_str(), url));
        let (variable, url) =
            own.or_else(|| self.env(ALL).map(|url| (ALL, url))).unwrap_or(("neither variable set", "memory:"));
        let place = || format!("broker {name:?} ({variable}: {})", shown(url));
        let Some(brokers) = self.resource::<Brokers>(Brokers::RESOURCE) else {
            let message = format!("the pod's resource map holds no queue::Brokers under {:?}", Brokers::RESOURCE);
            return Err(Error::new(Kind::NotFound, message).at(place()));
        };
        brokers.get(url).map_err(|error| Error::new(error.kind(), error.message().to_string()).at(place()))
    }
}

const ALL: &str = "SEEDPOD_BROKER";

fn variable(name: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    format!("{ALL}_{}", name.chars().map(letter).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broker_per_url() {
        let brokers = Brokers::default();
        let same = |one: &str, other: &str| Arc::ptr_eq(&brokers.get(one).unwrap(), &brokers.get(other).unwrap());
        assert!(same("memory:", "memory:") && same("memory:", "memory://") && same("memory:a", "memory://a"));
        assert!(!same("memory:a", "memory:b"));
        let own = brokers.get("memory:a").unwrap();
        assert!(brokers.insert("own:x", own).is_none());
        assert!(same("own:x", "memory:a"));
        assert_eq!(
            brokers.get("kafka://host:4222").err().unwrap().to_string(),
            r#"broker "kafka://host:4222": unsupported: no broker of scheme kafka; there are: memory, file, nats, amqp"#
        );
        assert_eq!(brokers.get("memory").err().unwrap().kind(), Kind::Invalid);
    }

    #[test]
    fn no_password_is_shown() {
        let brokers = Brokers::default();
        let memory = brokers.get("memory:").unwrap();
        brokers.insert("own://me:secret@host", memory);
        assert_eq!(format!("{brokers:?}"), r#"{"memory:", "own:host"}"#);
        let error = brokers.get("kafka://me:se@cret@host").err().unwrap();
        assert!(error.to_string().starts_with(r#"broker "kafka://host": unsupported"#), "{error}");
    }

    #[test]
    fn variables() {
        assert_eq!(variable("order-events.v2"), "SEEDPOD_BROKER_ORDER_EVENTS_V2");
    }
}
