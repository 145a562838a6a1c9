//! An answer as it is kept: its head without what belongs to one connection, its body, and for which requests it is.

use super::{directives::members, rules::Terms};
use crate::base::sync::Arc;
use ::http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        AGE, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, DATE, ETAG,
        EXPIRES, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
        TRANSFER_ENCODING, UPGRADE, VARY,
    },
};
use bytes::Bytes;
use std::time::SystemTime;

/// What an answer or a group counts beside its bytes: its places in maps and lists.
const OVERHEAD: usize = 256;
/// What a header counts beside its bytes.
const HEADER: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) terms: Terms,
    /// What the request said in the fields that `Vary` names.
    selecting: Vec<(HeaderName, Vec<u8>)>,
}

impl Stored {
    /// Copies all of it: what came from a connection would hold the buffer that it was read into.
    pub(super) fn new(
        request: &HeaderMap,
        status: StatusCode,
        headers: &HeaderMap,
        body: (Bytes, Option<HeaderMap>),
        terms: Terms,
        shared: bool,
    ) -> Self {
        let mut kept = copied(headers);
        strip(&mut kept, &terms, shared);
        if !kept.contains_key(DATE) {
            stamp(&mut kept, terms.came()); // RFC 9110 §6.6.1
        }
        let selecting = selecting(request, headers);
        let (body, trailers) = (Bytes::copy_from_slice(&body.0), body.1.as_ref().map(copied));
        Stored { status, headers: kept, body, trailers, terms, selecting }
    }

    /// §4.3.4, §3.2: itself, with what "not modified" says anew.
    pub(super) fn freshened(&self, update: &HeaderMap, terms: Terms, shared: bool) -> Self {
        let headers = self.merged(update);
        let mut headers = copied(&headers);
        strip(&mut headers, &terms, shared);
        if !update.contains_key(DATE) {
            stamp(&mut headers, terms.came());
        }
        let (body, trailers) = (self.body.clone(), self.trailers.clone());
        Stored { status: self.status, headers, body, trailers, terms, selecting: self.selecting.clone() }
    }

    /// §3.2: each field of the update in place of what was there, but not what tells of the body.
    pub(super) fn merged(&self, update: &HeaderMap) -> HeaderMap {
        let mut headers = self.headers.clone();
        headers.remove(DATE); // without one, it is the time at which it came
        let keeps = [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE, TRANSFER_ENCODING];
        for name in update.keys().filter(|name| !keeps.contains(name)) {
            headers.remove(name);
            for value in update.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        headers
    }

    /// §4.3.4: whether "not modified" speaks of this one.
    pub(super) fn is_meant_by(&self, update: &HeaderMap) -> bool {
        match (update.get(ETAG), self.headers.get(ETAG)) {
            (Some(theirs), Some(ours)) => is_same(theirs.as_bytes(), ours.as_bytes()),
            (Some(_), None) => false,
            (None, _) => match (update.get(LAST_MODIFIED), self.headers.get(LAST_MODIFIED)) {
                (Some(theirs), Some(ours)) => theirs == ours,
                _ => true,
            },
        }
    }

    /// §4.1: whether it is for a request with these headers.
    pub(super) fn is_for(&self, request: &HeaderMap) -> bool {
        self.selecting.iter().all(|(name, said)| normal(request, name) == *said)
    }

    /// What `Vary` names.
    pub(super) fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.selecting.iter().map(|(name, _)| name)
    }

    /// §4.3.1: asks only for what has changed. False where it has no validator.
    pub(super) fn ask(&self, request: &mut HeaderMap) -> bool {
        let pairs = [(IF_NONE_MATCH, ETAG), (IF_MODIFIED_SINCE, LAST_MODIFIED)];
        for (ask, validator) in &pairs {
            if let Some(value) = self.headers.get(validator) {
                request.insert(ask, value.clone());
            }
        }
        pairs.iter().any(|(_, validator)| self.headers.contains_key(validator))
    }

    /// §4.3.2: whether the client has this one already.
    pub(super) fn is_at_client(&self, request: &HeaderMap) -> bool {
        if !self.status.is_success() {
            return false;
        }
        if request.contains_key(IF_NONE_MATCH) {
            let ours = self.headers.get(ETAG).map(HeaderValue::as_bytes);
            let mut theirs = request.get_all(IF_NONE_MATCH).iter().flat_map(|line| members(line.as_bytes()));
            return theirs.any(|tag| tag == b"*" || ours.is_some_and(|ours| is_same(tag, ours)));
        }
        let since = super::rules::date(request, &IF_MODIFIED_SINCE);
        let changed = super::rules::date(&self.headers, &LAST_MODIFIED);
        matches!((since, changed), (Some(since), Some(changed)) if changed <= since)
    }

    /// What a 304 carries (RFC 9110 §15.4.5).
    pub(super) fn unmodified(&self) -> HeaderMap {
        let names = [CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY];
        let pairs = self.headers.iter().filter(|(name, _)| names.contains(name));
        pairs.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// How many bytes it holds.
    pub(super) fn weight(&self) -> usize {
        let selecting: usize =
            self.selecting.iter().map(|(name, said)| name.as_str().len() + said.len() + HEADER).sum();
        let trailers = self.trailers.as_ref().map_or(0, weight);
        OVERHEAD + self.body.len() + weight(&self.headers) + trailers + selecting
    }
}

/// All that is known of one address: its answers, the newest last.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) answers: Vec<Arc<Stored>>,
    /// Until then nobody waits for the answer of another: it has turned out to be for one alone.
    pub(super) alone: Option<SystemTime>,
}

impl Group {
    /// The newest that is for this request.
    pub(super) fn pick(&self, request: &HeaderMap) -> Option<&Arc<Stored>> {
        self.answers.iter().rev().find(|answer| answer.is_for(request))
    }

    /// What distinguishes this request from others to the address, as far as its answers have told.
    pub(super) fn variant(&self, request: &HeaderMap) -> Vec<u8> {
        let mut variant = Vec::new();
        for name in self.answers.last().iter().flat_map(|newest| newest.names()) {
            variant.extend_from_slice(name.as_str().as_bytes());
            variant.push(b':');
            variant.extend(normal(request, name));
            variant.push(b'\n');
        }
        variant
    }

    pub(super) fn weight(&self) -> usize {
        OVERHEAD + self.answers.iter().map(|answer| answer.weight()).sum::<usize>()
    }
}

fn weight(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER).sum()
}

/// The same in memory of its own: what came from a connection holds the buffer that it was read into.
pub(crate) fn copied(headers: &HeaderMap) -> HeaderMap {
    let mut copy = HeaderMap::with_capacity(headers.keys_len());
    for (name, value) in headers {
        if let Ok(mut owned) = HeaderValue::from_bytes(value.as_bytes()) {
            owned.set_sensitive(value.is_sensitive());
            copy.append(name.clone(), owned);
        }
    }
    copy
}

/// What is left out of what is kept: for the one who asked, and nobody else.
pub(super) fn left_out(headers: &HeaderMap, terms: &Terms, shared: bool) -> HeaderMap {
    let mut own = HeaderMap::new();
    if terms.said.left_out(shared).next().is_none() {
        return own;
    }
    let mut headers = headers.clone();
    disconnect(&mut headers);
    for name in terms.said.left_out(shared) {
        // named twice, it is there once
        for value in headers.get_all(name) {
            own.append(name.clone(), value.clone());
        }
        headers.remove(name);
    }
    own
}

/// §3.1: what belongs to the connection, and what is not for others.
fn strip(headers: &mut HeaderMap, terms: &Terms, shared: bool) {
    disconnect(headers);
    terms.said.left_out(shared).for_each(|name| drop(headers.remove(name)));
}

fn disconnect(headers: &mut HeaderMap) {
    let lines: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    for name in lines.iter().flat_map(|line| members(line.as_bytes())) {
        if let Ok(name) = HeaderName::from_bytes(name) {
            headers.remove(name);
        }
    }
    let names = [AGE, CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE];
    names.iter().for_each(|name| drop(headers.remove(name)));
    for name in ["keep-alive", "proxy-connection", "proxy-authentication-info"] {
        headers.remove(name);
    }
}

fn stamp(headers: &mut HeaderMap, when: SystemTime) {
    // a year that HTTP cannot write is beyond every clock that is in use
    if when < SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(253_402_300_800)
        && let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(when.max(SystemTime::UNIX_EPOCH)))
    {
        headers.insert(DATE, date);
    }
}

fn selecting(request: &HeaderMap, response: &HeaderMap) -> Vec<(HeaderName, Vec<u8>)> {
    let mut names: Vec<HeaderName> = response
        .get_all(VARY)
        .iter()
        .flat_map(|line| members(line.as_bytes()))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    names.into_iter().map(|name| (normal(request, &name), name)).map(|(said, name)| (name, said)).collect()
}

/// All lines of a field as one, without the space around its members (§4.1). A field that is not there is like no other.
fn normal(request: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    let mut said = Vec::new();
    for line in request.get_all(name) {
        for member in members(line.as_bytes()) {
            said.extend_from_slice(if said.is_empty() { b"=" } else { b", " });
            said.extend_from_slice(member);
        }
        if said.is_empty() {
            said.push(b'=');
        }
    }
    said
}

/// RFC 9110 §8.8.3.2: weakly the same.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let strong = |tag: &[u8]| tag.trim_ascii().strip_prefix(b"W/").unwrap_or(tag.trim_ascii()).to_owned();
    strong(one) == strong(other)
}
