//! Checks from outside: of something that is not in this pod.

use super::{
    Check,
    run::{Target, over},
};
use crate::{base::Result, net::Host};
use std::net::{IpAddr, SocketAddr};

/// Makes the check once, over the network of this host. `at` is a host's name or address; with a port, that one is asked
/// in the place of the check's.
///
/// # Errors
/// What the check finds; [`Kind::Unsupported`](crate::base::Kind::Unsupported) for one that is made inside of a container.
pub(crate) async fn ask(check: &Check, host: &Host, at: &str) -> Result {
    match check {
        Check::Tcp(port) | Check::Http { port, .. } | Check::Grpc { port, .. } => {
            over(check, &outside(host, at, *port)).await
        }
        _ => over(check, &outside(host, at, 0)).await,
    }
}

/// From elsewhere; the check's port counts where `at` has none of its own.
fn outside(host: &Host, at: &str, port: u16) -> Target {
    let own = |(name, port): (&str, &str)| !name.contains(':') && port.parse::<u16>().is_ok();
    let authority = match at.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        _ if at.parse::<SocketAddr>().is_ok() || at.rsplit_once(':').is_some_and(own) => at.to_owned(),
        _ => format!("{at}:{port}"),
    };
    Target { host: host.clone(), place: authority.clone(), authority }
}
