//! Where the server is, from a URL; and how that is told to others: never with the password.

use crate::base::{Error, Kind, Result};
use crate::queue::schemes::shown;
use lapin::uri::{AMQPScheme, AMQPUri};
use std::fmt;

/// How often both sides say that they are there, in seconds, unless the URL says otherwise. The connection is given up
/// after two of them in silence. RabbitMQ's default is 60, which is long for a worker that waits.
const HEARTBEAT: u16 = 10;

/// A server, a virtual host on it, and who connects.
#[derive(Clone)]
pub(super) struct Address {
    uri: AMQPUri,
    shown: String,
}

impl Address {
    /// The address in a URL such as `amqp://user:password@host:5672/virtual-host?heartbeat=10`; what is left out is
    /// RabbitMQ's default.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for what is no such URL; [`Kind::Unsupported`] for TLS.
    pub(super) fn parse(url: &str) -> Result<Address> {
        let shown = shown(url);
        let place = || format!("broker {shown}");
        // the parser's own words may repeat the password
        let Ok(mut uri) = url.parse::<AMQPUri>() else {
            let message = "it is not a URL such as amqp://127.0.0.1:5672";
            return Err(Error::new(Kind::Invalid, message).at(place()));
        };
        if uri.scheme == AMQPScheme::AMQPS {
            let message = "this build speaks no TLS to RabbitMQ: use amqp: to a proxy beside it that does";
            return Err(Error::new(Kind::Unsupported, message).at(place()));
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        let slash = if uri.vhost == "/" { String::new() } else { format!("/{}", uri.vhost) };
        let shown = format!("amqp://{}:{}{slash}", uri.authority.host, uri.authority.port);
        Ok(Address { uri, shown })
    }

    pub(super) fn uri(&self) -> AMQPUri {
        self.uri.clone()
    }

    pub(super) fn virtual_host(&self) -> &str {
        &self.uri.vhost
    }
}

/// The URL without user and password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_rabbitmqs_default() {
        let address = Address::parse("amqp://127.0.0.1").unwrap();
        assert_eq!((address.to_string().as_str(), address.virtual_host()), ("amqp://127.0.0.1:5672", "/"));
        assert_eq!(address.uri().query.heartbeat, Some(HEARTBEAT));
        assert_eq!(address.uri().authority.userinfo.username, "guest");
        let address = Address::parse("amqp://host:1/sales?heartbeat=3").unwrap();
        assert_eq!((address.to_string().as_str(), address.uri().query.heartbeat), ("amqp://host:1/sales", Some(3)));
    }

    #[test]
    fn no_password_is_ever_shown() {
        let address = Address::parse("amqp://me:se%40cret@host/x").unwrap();
        assert_eq!(format!("{address} {address:?}"), "amqp://host:5672/x amqp://host:5672/x");
        for url in ["amqp://me:secret@host:port", "amqps://me:secret@host", "x:me:secret@host", "x://me:secret@@host"] {
            let error = Address::parse(url).unwrap_err();
            assert!(!error.chain().contains("secret") && !format!("{error:?}").contains("secret"), "{error:?}");
            assert!(error.to_string().contains("host"), "{error}");
        }
        assert_eq!(Address::parse("amqps://me:secret@host").unwrap_err().kind(), Kind::Unsupported);
    }
}
