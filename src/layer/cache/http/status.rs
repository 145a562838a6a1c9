//! What an answer says of how it came: `Cache-Status` (RFC 9211).

use super::rules::Use;
use crate::base::{Error, Kind, Result, sync::Arc};
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::fmt::Write;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went on to the service (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Bypass,
    Method,
    UriMiss,
    VaryMiss,
    Stale,
    Request,
}

impl Why {
    pub(super) fn of(judged: Use) -> Self {
        if judged == Use::Asked { Why::Request } else { Why::Stale }
    }

    fn as_str(self) -> &'static str {
        match self {
            Why::Bypass => "bypass",
            Why::Method => "method",
            Why::UriMiss => "uri-miss",
            Why::VaryMiss => "vary-miss",
            Why::Stale => "stale",
            Why::Request => "request",
        }
    }
}

/// How an answer came.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Hit,
    /// From the service; with what status it answered, and whether for another who asked at the same time.
    Forwarded {
        why: Why,
        status: Option<StatusCode>,
        collapsed: bool,
    },
    /// Kept, in place of a failure.
    InPlaceOfError {
        why: Why,
        status: Option<StatusCode>,
    },
    /// Not at all: it was not to be sent on.
    OnlyIfCached,
}

/// The name of the cache as the field has it: a token, or in quotes.
pub(super) fn name(name: &str) -> Result<Arc<str>> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
    if name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '*') && name.bytes().all(token) {
        return Ok(name.into());
    }
    if name.is_empty() || !name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(Error::new(Kind::Invalid, "the name of a cache is printable ASCII").at(name));
    }
    Ok(format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")).into())
}

/// Adds this cache at the end: the one closest to the user is the last.
pub(super) fn add(headers: &mut HeaderMap, name: &str, way: Way, left: Option<i64>) {
    let mut said = String::with_capacity(64);
    said.push_str(name);
    let written = match way {
        Way::Hit => write!(said, "; hit"),
        Way::OnlyIfCached => write!(said, "; detail=only-if-cached"),
        Way::Forwarded { why, status, collapsed } => {
            let status = status.map(|status| format!("; fwd-status={}", status.as_u16())).unwrap_or_default();
            let stored = if left.is_some() { "; stored" } else { "" };
            let collapsed = if collapsed { "; collapsed" } else { "" };
            write!(said, "; fwd={}{status}{stored}{collapsed}", why.as_str())
        }
        Way::InPlaceOfError { why, status } => {
            let status = status.map(|status| format!("; fwd-status={}", status.as_u16())).unwrap_or_default();
            write!(said, "; fwd={}{status}; detail=stale-if-error", why.as_str())
        }
    };
    let written = written.and_then(|()| left.map_or(Ok(()), |left| write!(said, "; ttl={left}")));
    if written.is_ok()
        && let Ok(value) = HeaderValue::try_from(said)
    {
        headers.append(CACHE_STATUS, value);
    }
}
