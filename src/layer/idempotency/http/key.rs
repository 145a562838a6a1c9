//! What a request is recognised by: the key it names, whose that is, and what it asks for.

use crate::layer::http::IDEMPOTENCY_KEY;
use ::http::{
    Method, Request,
    header::{AUTHORIZATION, COOKIE, HOST},
    request::Parts,
};
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// How long a key may be.
const LENGTH: usize = 255;

/// Whether a request of this method may have a key.
pub(super) fn is_meant(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PATCH)
}

/// What the header says, where it is meant: a string in quotes, as structured fields have it, or as it is.
pub(super) fn name<B>(request: &Request<B>) -> Result<Option<String>, &'static str> {
    if !is_meant(request.method()) {
        return Ok(None);
    }
    let mut keys = request.headers().get_all(IDEMPOTENCY_KEY).iter();
    match (keys.next(), keys.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err("there are two Idempotency-Keys"),
        (Some(key), None) => {
            let key = key.to_str().map_err(|_| "an Idempotency-Key is printable ASCII")?.trim();
            let key = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
            if key.is_empty() || key.len() > LENGTH {
                return Err("an Idempotency-Key has 1 to 255 characters");
            }
            Ok(Some(key.to_owned()))
        }
    }
}

/// What a request brings to say who sends it.
pub(super) fn credentials(head: &Parts) -> Vec<u8> {
    let mut all = Vec::new();
    for name in [AUTHORIZATION, COOKIE] {
        for value in head.headers.get_all(&name) {
            all.extend_from_slice(name.as_str().as_bytes());
            all.extend_from_slice(value.as_bytes());
            all.push(b'\n'); // which no value contains
        }
    }
    all
}

/// Another user's key is another key: told apart by a digest, so that no secret is kept, which ends every name, so that
/// none can be chosen that is another's.
pub(super) fn owned(mut name: String, owner: &[u8]) -> String {
    name.push(' ');
    name.extend(Sha256::digest(owner).iter().map(|byte| format!("{byte:02x}")));
    name
}

/// What the key stands for; an address that names two hosts counts as it is written.
pub(super) fn content(address: Option<&str>, head: &Parts, body: &Bytes) -> Vec<u8> {
    let mut digest = Sha256::new();
    let mut add = |part: &[u8]| {
        digest.update(part);
        digest.update(b"\n");
    };
    add(head.method.as_str().as_bytes());
    match address {
        Some(address) => add(address.as_bytes()),
        None => {
            add(head.uri.to_string().as_bytes());
            head.headers.get_all(HOST).iter().for_each(|host| add(host.as_bytes()));
        }
    }
    digest.update(body);
    digest.finalize().to_vec()
}
