//! HTTP checks.

pub(super) use super::grpc::health;
use super::run::Target;
use crate::{
    base::{Error, Kind, Result},
    http::{Body, Client},
};
use http::{
    HeaderName, HeaderValue, Request,
    header::{HOST, USER_AGENT},
};
use std::time::Duration;

/// Any status from 200 to 399 is good, as in Kubernetes; redirects are not followed. Each check has a connection of its
/// own, as a stranger would.
pub(super) async fn get(target: &Target, path: &str, headers: &[(String, String)]) -> Result {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut request = Request::get(format!("http://{}{slash}{path}", target.authority)).body(Body::empty())?;
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("seedpod-probe"));
    for (name, value) in headers {
        let name: HeaderName = name.parse()?;
        let value = HeaderValue::from_str(value)?;
        // the first Host in the request is the one that counts
        match name == HOST {
            true => drop(request.headers_mut().insert(name, value)),
            false => drop(request.headers_mut().append(name, value)),
        }
    }
    let response = client(target).request(request).await?;
    match response.status().as_u16() {
        200..400 => Ok(()),
        _ => {
            let place = format!("{}, path {path}", target.place);
            Err(Error::new(Kind::Failed, format!("status {}", response.status())).at(place))
        }
    }
}

/// With nothing kept.
pub(super) fn client(target: &Target) -> Client {
    Client::new(&target.host).idle(0, Duration::ZERO)
}
