//! The `Date` header, from a clock that can be paused.

use crate::base::{sync::Lock, time::WallClock};
use http::{HeaderMap, HeaderValue, header::DATE};
use std::time::{Duration, SystemTime};

/// Says what time it is. hyper's own would read the system's clock, and no two runs would send the same bytes.
pub(super) struct DateHeader {
    clock: WallClock,
    /// The second it was last written for, and as what.
    last: Lock<(u64, HeaderValue)>,
}

impl DateHeader {
    pub(super) fn new(clock: WallClock) -> Self {
        DateHeader { clock, last: Lock::new((u64::MAX, HeaderValue::from_static(""))) }
    }

    /// Adds it, unless the service has.
    pub(super) fn stamp(&self, headers: &mut HeaderMap) {
        if !headers.contains_key(DATE) {
            headers.insert(DATE, self.at(self.clock.now()));
        }
    }

    fn at(&self, now: SystemTime) -> HeaderValue {
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut last = self.last.lock();
        if last.0 != second {
            let text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
            // a date is always a header value
            *last = (second, HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("")));
        }
        last.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn follows_the_paused_clock_and_respects_the_service() {
        let date = DateHeader::new(WallClock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)));
        let mut headers = HeaderMap::new();
        date.stamp(&mut headers);
        assert_eq!(headers["date"], "Sun, 06 Nov 1994 08:49:37 GMT");
        tokio::time::sleep(Duration::from_secs(1)).await;
        date.stamp(&mut headers);
        assert_eq!(headers["date"], "Sun, 06 Nov 1994 08:49:37 GMT");
        headers.clear();
        date.stamp(&mut headers);
        assert_eq!(headers["date"], "Sun, 06 Nov 1994 08:49:38 GMT");
    }
}
