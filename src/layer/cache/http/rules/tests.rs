//! The rules, one row each.

use super::*;
use ::http::HeaderValue;
use proptest::prelude::*;

/// Sun, 06 Nov 1994 08:49:37 GMT.
const EPOCH: u64 = 784_111_777;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH + seconds)
}

fn headers(text: &str) -> HeaderMap {
    let lines = text.split(" | ").filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        })
        .collect()
}

fn shared() -> Rules {
    let heuristic = (0.1, Duration::from_secs(86_400));
    Rules { shared: true, heuristic, stale_while_revalidate: Duration::ZERO, stale_if_error: Duration::from_secs(10) }
}

fn terms(rules: &Rules, request: &str, status: u16, response: &str) -> Option<Terms> {
    let (request, status) = (headers(request), StatusCode::from_u16(status).unwrap());
    let times = Times { sent: at(0), came: at(0) };
    rules.terms(&request, &Asked::read(&request), status, &headers(response), times)
}

#[test]
fn what_may_be_kept_and_for_how_long() {
    let private = Rules { shared: false, ..shared() };
    let (old, date) = ("Last-Modified: Sun, 06 Nov 1994 08:32:57 GMT", "Date: Sun, 06 Nov 1994 08:49:37 GMT"); // 1,000 s
    let expires = |value: &str| format!("{date} | Expires: {value}");
    let changed = format!("{date} | {old}");
    let twice = format!("{} | Expires: 0", expires("Sun, 06 Nov 1994 08:50:37 GMT"));
    let rows: &[(&str, &Rules, &str, u16, &str, Option<u64>)] = &[
        ("§3 nothing says that it may", &shared(), "", 200, "", None),
        ("§3 explicit on any final status", &shared(), "", 503, "cache-control: max-age=5", Some(5)),
        ("§3 not without it", &shared(), "", 503, &changed, None),
        ("§3 a part", &shared(), "", 206, "cache-control: max-age=5", None),
        ("§3 not modified is no answer", &shared(), "", 304, "cache-control: max-age=5", None),
        ("§3.5 authorized", &shared(), "authorization: a", 200, "cache-control: max-age=5", None),
        ("§3.5 public", &shared(), "authorization: a", 200, "cache-control: max-age=5, public", Some(5)),
        ("§3.5 s-maxage", &shared(), "authorization: a", 200, "cache-control: s-maxage=5", Some(5)),
        ("§3.5 must", &shared(), "authorization: a", 200, "cache-control: max-age=5, must-revalidate", Some(5)),
        ("§3.5 one user", &private, "authorization: a", 200, "cache-control: max-age=5", Some(5)),
        ("§4.1 vary by all", &shared(), "", 200, "cache-control: max-age=5 | vary: accept, *", None),
        ("§4.2.1 shared first", &shared(), "", 200, "cache-control: max-age=5, s-maxage=7", Some(7)),
        ("§4.2.1 not for one user", &private, "", 200, "cache-control: max-age=5, s-maxage=7", Some(5)),
        ("§4.2.1 the first of two", &shared(), "", 200, "cache-control: max-age=5, max-age=7", Some(5)),
        ("§4.2.1 unreadable is stale", &shared(), "", 200, "cache-control: max-age=x | etag: \"1\"", Some(0)),
        ("§4.2.2 a tenth", &shared(), "", 200, &changed, Some(100)),
        ("§4.2.2 at most", &Rules { heuristic: (0.1, Duration::from_secs(9)), ..shared() }, "", 200, &changed, Some(9)),
        ("§4.2.2 not of any status", &shared(), "", 302, &changed, None),
        ("§4.2.2 public", &shared(), "", 302, &format!("{changed} | cache-control: public"), Some(100)),
        ("§4.2.2 by cookie, ask", &shared(), "cookie: a", 200, &changed, Some(0)),
        ("§5.2.1.5 request no-store", &shared(), "cache-control: no-store", 200, "cache-control: max-age=5", None),
        ("§5.2.2.3 understood", &shared(), "", 200, "cache-control: max-age=5, no-store, must-understand", Some(5)),
        ("§5.2.2.3 not understood", &shared(), "", 299, "cache-control: max-age=5, must-understand", None),
        ("§5.2.2.5 no-store", &shared(), "", 200, "cache-control: max-age=5, no-store", None),
        ("§5.2.2.7 private", &shared(), "", 200, "cache-control: max-age=5, private", None),
        ("§5.2.2.7 for one user", &private, "", 200, "cache-control: max-age=5, private", Some(5)),
        ("§5.2.2.7 fields", &shared(), "", 200, "cache-control: max-age=5, private=\"x\"", Some(5)),
        ("§5.3 expires", &shared(), "", 200, &expires("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60)),
        ("§5.3 max-age first", &shared(), "", 200, "cache-control: max-age=5 | expires: 0", Some(5)),
        ("§5.3 no date", &shared(), "", 200, &format!("{} | etag: \"1\"", expires("0")), Some(0)),
        ("§5.3 zero, and kept", &shared(), "", 200, "cache-control: max-age=0, public | etag: \"1\"", Some(0)),
        ("§4.2.1 the first date", &shared(), "", 200, &twice, Some(60)),
        ("RFC 9110 §5.6.7 RFC 850", &shared(), "", 200, &expires("Sunday, 06-Nov-94 08:50:37 GMT"), Some(60)),
        ("RFC 9110 §5.6.7 asctime", &shared(), "", 200, &expires("Sun Nov  6 08:50:37 1994"), Some(60)),
        ("§5.3 long ago", &shared(), "", 200, "expires: Mon, 13 Feb 0002 12:00:00 GMT | etag: \"1\"", Some(0)),
        ("§5.3 no such year", &shared(), "", 200, "expires: Fri, 01 Dec 99999 16:00:00 GMT | etag: \"1\"", Some(0)),
        ("§5.3 past", &shared(), "", 200, "expires: Sun, 06 Nov 1994 08:00:00 GMT | etag: \"1\"", Some(0)),
        ("§7.3 a cookie is one user's", &shared(), "", 200, "cache-control: max-age=5 | set-cookie: a=1", None),
        ("§7.3 unless", &shared(), "", 200, "cache-control: max-age=5, public | set-cookie: a=1", Some(5)),
        ("§7.3 or", &shared(), "", 200, "cache-control: max-age=5, no-cache=set-cookie | set-cookie: a=1", Some(5)),
        ("§1.2.2 too large", &shared(), "", 200, "cache-control: max-age=99999999999999999999", Some(FOREVER)),
    ];
    for (name, rules, request, status, response, lifetime) in rows {
        let got = terms(rules, request, *status, response).map(|terms| terms.lifetime.as_secs());
        assert_eq!(got, *lifetime, "{name}: {response}");
    }
}

#[test]
fn who_is_given_what_at_which_age() {
    use Use::{Ask, Asked as Wants, Fresh, Refresh, Stale};
    let rows: &[(&str, &str, &str, u64, Use, bool)] = &[
        ("§4.2 fresh", "max-age=10", "", 9, Fresh, true),
        ("§4.2 no longer", "max-age=10", "", 10, Ask, true),
        ("§4.2.4 an error, as set", "max-age=10", "", 19, Ask, true),
        ("§4.2.4 too old", "max-age=10", "", 20, Ask, false),
        ("§5.2.1.1 max-age", "max-age=10", "max-age=5", 5, Fresh, true),
        ("§5.2.1.1 older", "max-age=10", "max-age=5", 6, Wants, true),
        ("§5.2.1.1 reload", "max-age=10", "max-age=0", 0, Wants, true),
        ("RFC 8246 §2 immutable", "max-age=10, immutable", "max-age=0", 9, Fresh, true),
        ("RFC 8246 §2 while fresh", "max-age=10, immutable", "max-age=0", 10, Wants, true),
        ("RFC 8246 §2 forced", "max-age=10, immutable", "no-cache", 0, Wants, false),
        ("§5.2.1.2 any", "max-age=10", "max-stale", 9_999, Stale, false),
        ("§5.2.1.2 some", "max-age=10", "max-stale=5", 15, Stale, true),
        ("§5.2.1.2 more", "max-age=10", "max-stale=5", 16, Ask, true),
        ("§5.2.1.3 enough left", "max-age=10", "min-fresh=4", 6, Fresh, true),
        ("§5.2.1.3 too little", "max-age=10", "min-fresh=4", 7, Wants, true),
        ("§5.2.1.4 no-cache", "max-age=10", "no-cache", 0, Wants, false),
        ("§5.2.2.2 must", "max-age=10, must-revalidate", "max-stale", 10, Ask, false),
        ("§5.2.2.2 fresh all the same", "max-age=10, must-revalidate", "", 9, Fresh, false),
        ("§5.2.2.4 no-cache", "max-age=10, no-cache", "max-stale", 0, Ask, false),
        ("§5.2.2.8 proxy", "max-age=10, proxy-revalidate", "max-stale", 10, Ask, false),
        ("§5.2.2.10 s-maxage", "s-maxage=10", "max-stale", 10, Ask, false),
        ("RFC 5861 §3", "max-age=10, stale-while-revalidate=5", "", 14, Refresh, true),
        ("RFC 5861 §3 over", "max-age=10, stale-while-revalidate=5", "", 15, Ask, true),
        ("RFC 5861 §3 must", "max-age=10, stale-while-revalidate=5, must-revalidate", "", 12, Ask, false),
        ("RFC 5861 §3 said with s-maxage", "s-maxage=10, stale-while-revalidate=5", "", 12, Refresh, false),
        ("RFC 5861 §3 min-fresh", "max-age=10, stale-while-revalidate=5", "min-fresh=1", 12, Ask, true),
        ("RFC 5861 §4", "max-age=10, stale-if-error=60", "", 69, Ask, true),
        ("RFC 5861 §4 over", "max-age=10, stale-if-error=60", "", 70, Ask, false),
        ("RFC 5861 §4 none", "max-age=10, stale-if-error=0", "", 10, Ask, false),
        ("RFC 5861 §4 asked for", "max-age=10", "stale-if-error=60", 69, Ask, true),
        ("RFC 5861 §4 must", "max-age=10, stale-if-error=60, must-revalidate", "", 10, Ask, false),
    ];
    for (name, response, request, age, judged, rescued) in rows {
        let terms = terms(&shared(), "", 200, &format!("etag: \"1\" | cache-control: {response}")).unwrap();
        let asked = Asked::read(&headers(&if request.is_empty() {
            String::new()
        } else {
            format!("cache-control: {request}")
        }));
        assert_eq!(shared().judge(&terms, &asked, at(*age)), *judged, "{name}: {response}, {request}");
        assert_eq!(
            shared().rescues(&terms, &asked, at(*age)),
            *rescued,
            "{name}: {response}, {request}, in place of an error"
        );
    }
    let private = Rules { shared: false, ..shared() };
    for response in ["max-age=10, proxy-revalidate", "max-age=10, s-maxage=1"] {
        let terms = terms(&private, "", 200, &format!("cache-control: {response}")).unwrap();
        let asked = Asked { max_stale: Some(FOREVER), ..Asked::default() };
        assert_eq!(private.judge(&terms, &asked, at(50)), Stale, "{response} is for shared caches");
    }
}

#[test]
fn age_counts_the_way_here_and_what_others_say() {
    let date = "date: Sun, 06 Nov 1994 08:49:37 GMT";
    for (name, response, sent, came, age) in [
        ("§4.2.3 here at once", format!("{date} | x: y"), 0, 0, 0),
        ("§4.2.3 the date", format!("{date} | x: y"), 30, 30, 30),
        ("§4.2.3 the way", "x: y".to_owned(), 0, 7, 7),
        ("§4.2.3 said and the way", format!("{date} | age: 20"), 0, 7, 27),
        ("§4.2.3 the larger", format!("{date} | age: 20"), 50, 50, 50),
        ("§4.2.3 a clock ahead", "date: Sun, 06 Nov 1994 09:49:37 GMT".to_owned(), 0, 0, 0),
        ("§5.1 the first of two", "age: 20, 0".to_owned(), 0, 0, 20),
        ("§5.1 unreadable", "age: -5".to_owned(), 0, 0, 0),
        ("§1.2.2 too large", "age: 99999999999999999999".to_owned(), 0, 0, FOREVER),
    ] {
        let times = Times { sent: at(sent), came: at(came) };
        assert_eq!(super::age(&headers(&response), times).as_secs(), age, "{name}");
    }
    let terms = terms(&shared(), "", 200, "cache-control: max-age=10 | age: 4").unwrap();
    assert_eq!((terms.age_at(at(3)).as_secs(), terms.left_at(at(3)), terms.left_at(at(8))), (7, 3, -2));
}

proptest! {
    #[test]
    fn no_header_breaks_the_rules_and_nothing_is_fresh_for_ever(
        lines in prop::collection::vec((0..9_usize, "(([a-z-]{1,22}|max-age|s-maxage|no-cache|private)(=\"?[0-9a-z, \\\\é]{0,30}\"?)?[, ]{0,2}){0,5}"), 0..6),
        now in any::<u32>(),
    ) {
        let names = ["cache-control", "age", "date", "expires", "last-modified", "vary", "etag", "pragma", "set-cookie"];
        let mut all = HeaderMap::new();
        for (name, value) in &lines {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                all.append(names[*name], value);
            }
        }
        let asked = Asked::read(&all);
        let times = Times { sent: at(9), came: at(3) };
        let terms = shared().terms(&all, &asked, StatusCode::OK, &all, times);
        if let Some(terms) = terms {
            prop_assert!(terms.lifetime <= Duration::from_secs(FOREVER) && terms.age <= Duration::from_secs(2 * FOREVER));
            let judged = shared().judge(&terms, &Asked::default(), at(now.into()));
            prop_assert!(judged != Use::Fresh || u64::from(now) < FOREVER);
            let _ = (shared().rescues(&terms, &asked, at(0)), terms.left_at(SystemTime::UNIX_EPOCH));
        }
    }
}
