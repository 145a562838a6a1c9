//! What `Cache-Control` says, however it is written: nothing in it can overflow, and nothing is taken for more than it is.

use ::http::{
    HeaderMap, HeaderName,
    header::{CACHE_CONTROL, PRAGMA},
};

/// The longest time that is told apart, in seconds: RFC 9111 §1.2.2 asks for 2^31 where a number is larger.
pub(super) const FOREVER: u64 = 1 << 31;

/// What a request asks of a cache (RFC 9111 §5.2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<u64>,
    pub(super) max_stale: Option<u64>,
    pub(super) min_fresh: Option<u64>,
    pub(super) stale_if_error: Option<u64>,
}

impl Asked {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut asked = Asked::default();
        if !headers.contains_key(CACHE_CONTROL) {
            // §5.4: only where there is nothing newer
            each(headers, &PRAGMA, |name, _| asked.no_cache |= name.eq_ignore_ascii_case(b"no-cache"));
            return asked;
        }
        each(headers, &CACHE_CONTROL, |name, argument| match &*name.to_ascii_lowercase() {
            b"no-store" => asked.no_store = true,
            b"no-cache" => asked.no_cache = true,
            b"only-if-cached" => asked.only_if_cached = true,
            // a limit that cannot be read is taken as the strictest, a permission as none
            b"max-age" => first(&mut asked.max_age, Some(argument.and_then(seconds).unwrap_or(0))),
            b"max-stale" => first(&mut asked.max_stale, argument.map_or(Some(FOREVER), seconds)),
            b"min-fresh" => first(&mut asked.min_fresh, argument.and_then(seconds)),
            b"stale-if-error" => first(&mut asked.stale_if_error, argument.and_then(seconds)),
            _ => {}
        });
        asked
    }
}

/// What a response says to caches (RFC 9111 §5.2.2, RFC 5861, RFC 8246).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) private: bool,
    pub(super) public: bool,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) must_understand: bool,
    pub(super) immutable: bool,
    pub(super) max_age: Option<u64>,
    pub(super) s_maxage: Option<u64>,
    pub(super) stale_while_revalidate: Option<u64>,
    pub(super) stale_if_error: Option<u64>,
    /// The fields of `no-cache="…"`: not to be given without asking.
    pub(super) no_cache_fields: Vec<HeaderName>,
    /// The fields of `private="…"`: not for others.
    pub(super) private_fields: Vec<HeaderName>,
}

impl Said {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut said = Said::default();
        each(headers, &CACHE_CONTROL, |name, argument| match &*name.to_ascii_lowercase() {
            b"no-store" => said.no_store = true,
            b"no-cache" => said.no_cache |= !fields(argument, &mut said.no_cache_fields),
            b"private" => said.private |= !fields(argument, &mut said.private_fields),
            b"public" => said.public = true,
            b"must-revalidate" => said.must_revalidate = true,
            b"proxy-revalidate" => said.proxy_revalidate = true,
            b"must-understand" => said.must_understand = true,
            b"immutable" => said.immutable = true,
            // §4.2.1: what cannot be read is stale; of several the first holds
            b"max-age" => first(&mut said.max_age, Some(argument.and_then(seconds).unwrap_or(0))),
            b"s-maxage" => first(&mut said.s_maxage, Some(argument.and_then(seconds).unwrap_or(0))),
            b"stale-while-revalidate" => first(&mut said.stale_while_revalidate, argument.and_then(seconds)),
            b"stale-if-error" => first(&mut said.stale_if_error, argument.and_then(seconds)),
            _ => {}
        });
        said
    }

    /// The fields that are left out of what is kept.
    pub(super) fn left_out(&self, shared: bool) -> impl Iterator<Item = &HeaderName> {
        self.no_cache_fields.iter().chain(self.private_fields.iter().filter(move |_| shared))
    }
}

fn first(slot: &mut Option<u64>, value: Option<u64>) {
    *slot = slot.or(value);
}

/// Digits, and nothing else; larger than the largest is the largest.
pub(super) fn seconds(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let sum = text.iter().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some(sum.min(FOREVER))
}

/// Adds the fields that are named; false where none is, or one cannot be read: then the directive holds for all.
fn fields(argument: Option<&[u8]>, names: &mut Vec<HeaderName>) -> bool {
    let Some(argument) = argument else { return false };
    let read: Option<Vec<_>> = argument
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
        .map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    match read {
        Some(read) if !read.is_empty() => {
            names.extend(read);
            true
        }
        _ => false,
    }
}

/// Every directive in all lines of a field, with its argument, where it has one, without quotes.
fn each(headers: &HeaderMap, field: &HeaderName, mut take: impl FnMut(&[u8], Option<&[u8]>)) {
    for line in headers.get_all(field) {
        for member in members(line.as_bytes()) {
            match member.iter().position(|byte| *byte == b'=') {
                None => take(member, None),
                Some(at) => {
                    let (name, argument) = member.split_at(at);
                    let argument = argument.strip_prefix(b"=").unwrap_or_default().trim_ascii();
                    match argument.strip_prefix(b"\"") {
                        None => take(name.trim_ascii(), Some(argument)),
                        Some(quoted) => take(name.trim_ascii(), Some(&unquoted(quoted))),
                    }
                }
            }
        }
    }
}

/// What stands in quotes, up to the closing one.
fn unquoted(text: &[u8]) -> Vec<u8> {
    let (mut out, mut bytes) = (Vec::with_capacity(text.len()), text.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => break,
            b'\\' => out.extend(bytes.next()),
            byte => out.push(*byte),
        }
    }
    out
}

/// The members of a comma-separated list; a comma in quotes separates nothing.
pub(super) fn members(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |byte| {
        let separates = *byte == b',' && !quoted;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        separates
    })
    .map(<[u8]>::trim_ascii)
    .filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderValue;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (CACHE_CONTROL, HeaderValue::from_bytes(line.as_bytes()).unwrap())).collect()
    }

    #[test]
    fn directives_are_read_in_any_case_quoted_repeated_and_hostile() {
        let said = Said::read(&headers(&["Max-Age=\"60\", PUBLIC ,, no-cache=\"Set-Cookie, x-one\"", "max-age=5"]));
        let names = ["set-cookie", "x-one"].map(HeaderName::from_static).to_vec();
        let expected = Said { public: true, max_age: Some(60), no_cache_fields: names, ..Said::default() };
        assert_eq!(said, expected);
        for (text, seconds) in [
            ("max-age=99999999999999999999999", FOREVER),
            ("max-age=-1", 0),
            ("max-age=1.5", 0),
            ("max-age", 0),
            ("max-age=", 0),
            ("max-age=\"", 0),
            ("max-age=1\u{e9}", 0),
            ("x=\"max-age=3, \\\"\", max-age=7", 7),
        ] {
            assert_eq!(Said::read(&headers(&[text])).max_age, Some(seconds), "{text}");
        }
        for unqualified in ["private=\"\"", "private=\"a b\"", "private"] {
            assert!(Said::read(&headers(&[unqualified])).private, "{unqualified}");
        }
        assert!(!Said::read(&headers(&["x=\"no-store", "y"])).no_store, "what is in quotes is no directive");
    }

    #[test]
    fn a_request_that_cannot_be_read_gets_the_strictest_of_it() {
        let asked = |text| Asked::read(&headers(&[text]));
        assert_eq!(asked("max-stale").max_stale, Some(FOREVER));
        assert_eq!((asked("max-stale=x").max_stale, asked("max-age=x").max_age), (None, Some(0)));
        assert!(asked("ONLY-IF-CACHED").only_if_cached && asked("no-cache=\"x\"").no_cache);
        let old: HeaderMap = [(PRAGMA, HeaderValue::from_static("No-Cache"))].into_iter().collect();
        assert!(Asked::read(&old).no_cache);
    }
}
