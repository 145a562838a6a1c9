//! HTTP checks.

pub(super) use super::grpc::health;
use crate::{
    base::{Error, Kind, Result},
    http::{Body, Client},
    pod::Context,
};
use http::{
    HeaderName, HeaderValue, Request,
    header::{HOST, USER_AGENT},
};
use std::time::Duration;

/// Any status from 200 to 399 is good, as in Kubernetes; redirects are not followed. Each check has a connection of its
/// own, as a stranger would.
pub(super) async fn get(context: &Context, port: u16, path: &str, headers: &[(String, String)]) -> Result {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut request = Request::get(format!("http://localhost:{port}{slash}{path}")).body(Body::empty())?;
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
    let response = client(context).request(request).await?;
    match response.status().as_u16() {
        200..400 => Ok(()),
        _ => {
            Err(Error::new(Kind::Failed, format!("status {}", response.status()))
                .at(format!("port {port}, path {path}")))
        }
    }
}

/// From within the pod, past an intercepting proxy, with nothing kept.
pub(super) fn client(context: &Context) -> Client {
    Client::new(&context.host().exempt()).idle(0, Duration::ZERO)
}
