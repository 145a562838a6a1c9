//! The rules of RFC 9111: what may be kept, how long it is fresh, and who may be given it. No clock, no lock.

use super::directives::{Asked, FOREVER, Said, members, seconds};
use ::http::{
    HeaderMap, HeaderName, StatusCode,
    header::{AGE, AUTHORIZATION, COOKIE, DATE, EXPIRES, LAST_MODIFIED, SET_COOKIE, VARY},
};
use std::time::{Duration, SystemTime};

/// How the cache is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rules {
    /// Whether it stands between several users and the service.
    pub(super) shared: bool,
    /// The part of the time since the last change for which an answer without a time is taken as fresh, and the most.
    pub(super) heuristic: (f64, Duration),
    /// What holds where the answer does not say.
    pub(super) stale_while_revalidate: Duration,
    pub(super) stale_if_error: Duration,
}

/// When a request was sent on and when its answer came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) sent: SystemTime,
    pub(super) came: SystemTime,
}

/// The terms on which an answer may be given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) said: Said,
    pub(super) lifetime: Duration,
    /// How old it was when it came.
    age: Duration,
    came: SystemTime,
}

/// What a kept answer is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Fresh,
    /// Given though it is stale: the request said that it will do.
    Stale,
    /// Given, and refreshed behind it.
    Refresh,
    /// To be asked for first: it is stale.
    Ask,
    /// To be asked for first: the request wants it so.
    Asked,
}

impl Use {
    /// Whether it is given, and not only asked for.
    pub(super) fn gives(self) -> bool {
        matches!(self, Use::Fresh | Use::Stale | Use::Refresh)
    }
}

/// When this header says, where that can be read.
pub(super) fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?.trim()).ok()
}

fn since(later: SystemTime, earlier: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}

fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs().min(FOREVER))
}

/// §3: the statuses that this cache understands; parts and "not modified" are no answers of their own.
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200..=205 | 300..=303 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 451 | 500..=505)
}

/// RFC 9110 §15.1, without 206.
fn is_heuristic(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// RFC 5861 §4.
pub(super) fn is_error(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

impl Rules {
    /// §3: the terms on which this answer to a GET may be kept; none where it may not, or where that would serve nobody.
    pub(super) fn terms(
        &self,
        request: &HeaderMap,
        asked: &Asked,
        status: StatusCode,
        headers: &HeaderMap,
        times: Times,
    ) -> Option<Terms> {
        let said = Said::read(headers);
        if status.is_informational() || matches!(status.as_u16(), 206 | 304) || asked.no_store {
            return None;
        }
        // §5.2.2.3: what has to be understood, and is, is kept whatever no-store says to others
        let forbidden = if said.must_understand { !is_understood(status) } else { said.no_store };
        if forbidden {
            return None;
        }
        if headers.get_all(VARY).iter().any(|vary| members(vary.as_bytes()).any(|name| name == b"*")) {
            return None; // §4.1: it would be given to nobody
        }
        if self.shared {
            let for_all = said.public || said.s_maxage.is_some();
            if said.private
                || request.contains_key(AUTHORIZATION) && !for_all && !said.must_revalidate // §3.5
                || remains(&said, headers, SET_COOKIE) && !for_all
            {
                return None;
            }
        }
        let explicit = self.explicit(&said, headers, times);
        let validator = headers.contains_key(::http::header::ETAG) || headers.contains_key(LAST_MODIFIED);
        let lifetime = match explicit {
            Some(lifetime) => lifetime,
            None if !(is_heuristic(status) || said.public || said.private) => return None,
            None if self.shared && request.contains_key(COOKIE) => Duration::ZERO,
            None => self.guess(headers, times),
        };
        let useful =
            !lifetime.is_zero() || validator || said.stale_if_error.is_some() || said.stale_while_revalidate.is_some();
        useful.then(|| Terms { said, lifetime, age: age(headers, times), came: times.came })
    }

    /// §4.2.1: how long the answer says that it is fresh.
    fn explicit(&self, said: &Said, headers: &HeaderMap, times: Times) -> Option<Duration> {
        if let Some(seconds) = said.s_maxage.filter(|_| self.shared).or(said.max_age) {
            return Some(Duration::from_secs(seconds));
        }
        headers.contains_key(EXPIRES).then(|| {
            // §5.3: what is no date, "0" above all, is long over
            let from = date(headers, &DATE).unwrap_or(times.came);
            date(headers, &EXPIRES).map_or(Duration::ZERO, |until| whole(since(until, from)))
        })
    }

    /// §4.2.2: a part of the time since the last change.
    fn guess(&self, headers: &HeaderMap, times: Times) -> Duration {
        let Some(changed) = date(headers, &LAST_MODIFIED) else { return Duration::ZERO };
        let since = since(date(headers, &DATE).unwrap_or(times.came), changed).as_secs_f64();
        let (part, most) = self.heuristic;
        whole(Duration::try_from_secs_f64(since * part).unwrap_or(most).min(most))
    }

    /// §4: what a kept answer is good for, now and for this request.
    pub(super) fn judge(&self, terms: &Terms, asked: &Asked, now: SystemTime) -> Use {
        let age = terms.age_at(now);
        let fresh = age < terms.lifetime;
        if terms.said.no_cache {
            return Use::Ask; // §5.2.2.4
        }
        // a reload asks for max-age=0; while it is fresh, what never changes need not be asked for (RFC 8246 §2)
        let reload = asked.max_age.is_some_and(|most| most == 0 || age > Duration::from_secs(most));
        if asked.no_cache || reload && !(fresh && terms.said.immutable) {
            return Use::Asked; // §5.2.1.1, §5.2.1.4
        }
        let left = terms.lifetime.saturating_sub(age);
        let soon = asked.min_fresh.is_some_and(|least| left < Duration::from_secs(least)); // §5.2.1.3
        if fresh {
            return if soon { Use::Asked } else { Use::Fresh };
        }
        let over = age.saturating_sub(terms.lifetime);
        if asked.max_stale.is_some_and(|most| over <= Duration::from_secs(most)) && !self.forbids_stale(&terms.said) {
            return Use::Stale; // §5.2.1.2
        }
        let more = self.beyond(&terms.said, terms.said.stale_while_revalidate, self.stale_while_revalidate);
        if !soon && over < more { Use::Refresh } else { Use::Ask }
    }

    /// Whether it may be given where the call failed (§4.2.4, RFC 5861 §4).
    pub(super) fn rescues(&self, terms: &Terms, asked: &Asked, now: SystemTime) -> bool {
        if terms.said.no_cache || asked.no_cache {
            return false;
        }
        let own = terms.said.stale_if_error.max(asked.stale_if_error);
        let more = self.beyond(&terms.said, own, self.stale_if_error);
        !more.is_zero() && terms.age_at(now).saturating_sub(terms.lifetime) < more
    }

    /// How long after it was fresh: as the answer says, or else as set. Where it must be asked for, not at all; `s-maxage`
    /// forbids only what the answer does not allow itself.
    fn beyond(&self, said: &Said, own: Option<u64>, set: Duration) -> Duration {
        match own {
            _ if said.must_revalidate || self.shared && said.proxy_revalidate => Duration::ZERO,
            Some(seconds) => Duration::from_secs(seconds),
            None if self.forbids_stale(said) => Duration::ZERO,
            None => set,
        }
    }

    /// §4.2.4, §5.2.2.2, §5.2.2.8, §5.2.2.10.
    fn forbids_stale(&self, said: &Said) -> bool {
        said.must_revalidate || self.shared && (said.proxy_revalidate || said.s_maxage.is_some())
    }
}

/// Whether this field is there, and is not left out of what is kept.
fn remains(said: &Said, headers: &HeaderMap, name: HeaderName) -> bool {
    headers.contains_key(&name) && !said.no_cache_fields.contains(&name) && !said.private_fields.contains(&name)
}

/// §4.2.3: how old an answer was when it came.
fn age(headers: &HeaderMap, times: Times) -> Duration {
    let apparent = whole(since(times.came, date(headers, &DATE).unwrap_or(times.came)));
    let first = headers.get(AGE).and_then(|age| seconds(members(age.as_bytes()).next()?));
    let corrected = Duration::from_secs(first.unwrap_or(0)) + since(times.came, times.sent);
    apparent.max(corrected)
}

impl Terms {
    /// When it came.
    pub(super) fn came(&self) -> SystemTime {
        self.came
    }

    /// §4.2.3: how old it is now.
    pub(super) fn age_at(&self, now: SystemTime) -> Duration {
        self.age.saturating_add(since(now, self.came))
    }

    /// How much longer it is fresh, in seconds; below zero where it no longer is.
    pub(super) fn left_at(&self, now: SystemTime) -> i64 {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        seconds(self.lifetime).saturating_sub(seconds(self.age_at(now)))
    }
}

#[cfg(test)]
mod tests;
