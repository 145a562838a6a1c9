//! Cookies that come back as they were given, and all those that do not.

use super::*;
use crate::base::Seed;

const KEYS: [&str; 3] = ["10.0.0.1:7070", "10.0.0.2:7070", "10.0.0.3:7070"];

fn key(byte: u8) -> CookieKey {
    CookieKey::new(&[byte; 32]).unwrap()
}

fn cookie() -> Cookie {
    Cookie::new("seat", key(1)).unwrap()
}

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000 + second)
}

fn value(set: &HeaderValue) -> String {
    set.to_str().unwrap().split(';').next().unwrap().strip_prefix("seat=").unwrap().to_string()
}

fn headers(cookies: &[String]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for text in cookies {
        headers.append(COOKIE, HeaderValue::from_str(text).unwrap());
    }
    headers
}

fn read(cookie: &Cookie, value: &str, now: u64) -> Read {
    cookie.read(&headers(&[format!("seat={value}")]), at(now))
}

#[test]
fn it_comes_back_as_it_was_given_until_it_ends() {
    let cookie = cookie();
    let given = value(&cookie.issue(KEYS[1], 42, at(0)));
    let Read::Valid(ticket) = read(&cookie, &given, 0) else { panic!() };
    assert_eq!((ticket.session(), ticket.renew()), (42, false));
    assert_eq!(cookie.roster(KEYS).find(&ticket), Some(1));
    assert_eq!(cookie.roster([KEYS[0]]).find(&ticket), None);
    for (second, renew) in [(1_799, false), (1_800, true), (3_599, true)] {
        assert!(matches!(read(&cookie, &given, second), Read::Valid(ticket) if ticket.renew() == renew), "{second}");
    }
    assert_eq!(read(&cookie, &given, 3_600), Read::Expired);
}

#[test]
fn every_changed_bit_and_every_cut_is_a_forgery() {
    let cookie = cookie();
    let given = value(&cookie.issue(KEYS[0], 42, at(0)));
    let digits = b"0123456789abcdef";
    for place in 0..given.len() {
        for digit in digits.iter().filter(|digit| **digit != given.as_bytes()[place]) {
            let mut changed = given.clone().into_bytes();
            changed[place] = *digit;
            assert_eq!(read(&cookie, std::str::from_utf8(&changed).unwrap(), 0), Read::Forged, "{place}");
        }
        assert_eq!(read(&cookie, &given[..place], 0), Read::Forged);
        assert_eq!(read(&cookie, &given[place + 1..], 0), Read::Forged);
    }
    for wrong in [format!("{given}0"), format!("{given}00"), given.to_uppercase(), format!("\"{given}\""), "é".into()]
    {
        assert_eq!(read(&cookie, &wrong, 0), Read::Forged, "{wrong}");
    }
}

#[test]
fn another_key_another_name_and_another_version_are_forgeries() {
    let cookie = cookie();
    let foreign = value(&Cookie::new("seat", key(2)).unwrap().issue(KEYS[0], 42, at(0)));
    assert_eq!(read(&cookie, &foreign, 0), Read::Forged);
    assert_eq!(read(&cookie, &foreign, 9_999), Read::Forged, "not even that it is too old is believed");
    let other = Cookie::new("chair", key(1)).unwrap();
    let given = other.issue(KEYS[0], 42, at(0)).to_str().unwrap().split(';').next().unwrap().replace("chair", "seat");
    assert_eq!(cookie.read(&headers(&[given]), at(0)), Read::Forged);
    let mut body = vec![VERSION + 1];
    body.extend([0xFF; BODY - 1]);
    let tag = key(1).mac(b'c', "seat", &body).finalize().into_bytes();
    body.extend(&tag[..TAG]);
    let text: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(read(&cookie, &text, 0), Read::Forged);
}

#[test]
fn nothing_of_the_endpoint_can_be_read_from_it() {
    let (one, two) = (cookie(), Cookie::new("seat", key(2)).unwrap());
    for endpoint in KEYS {
        let set = one.issue(endpoint, 1, at(0));
        assert!(!set.to_str().unwrap().contains(endpoint) && value(&set).bytes().all(|byte| byte.is_ascii_hexdigit()));
        let bare: String = endpoint.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!value(&set).contains(&bare));
        assert_ne!(one.named(&one.keys[0], endpoint), two.named(&two.keys[0], endpoint), "only by the key");
    }
}

#[test]
fn an_older_key_is_believed_and_replaced() {
    let given = value(&cookie().issue(KEYS[2], 7, at(0)));
    let rotated = Cookie::new("seat", key(9)).unwrap().previous(key(1));
    let Read::Valid(ticket) = read(&rotated, &given, 0) else { panic!() };
    assert_eq!((ticket.renew(), rotated.roster(KEYS).find(&ticket)), (true, Some(2)));
    let renewed = value(&rotated.issue(KEYS[2], 7, at(0)));
    assert!(matches!(read(&rotated, &renewed, 0), Read::Valid(ticket) if !ticket.renew()));
    let done = Cookie::new("seat", key(9)).unwrap();
    assert_eq!((read(&done, &given, 0), read(&cookie(), &renewed, 0)), (Read::Forged, Read::Forged));
}

#[test]
fn among_many_cookies_ours_is_found_and_hostile_headers_are_bounded() {
    let cookie = cookie();
    let given = value(&cookie.issue(KEYS[0], 42, at(0)));
    let mixed = [format!("a=b; seats=1;seat=x ;seat=; seat={given}; c"), "z=1".into()];
    assert!(matches!(cookie.read(&headers(&mixed), at(0)), Read::Valid(_)));
    let split = ["a=b".into(), format!("seat={given}")];
    assert!(matches!(cookie.read(&headers(&split), at(0)), Read::Valid(_)));
    let flood = format!("{}seat={given}", "seat=x;".repeat(LOOKED_AT));
    assert_eq!(cookie.read(&headers(&[flood]), at(0)), Read::Forged);
    for none in ["", ";;;", "seat", "se", "xseat=1", "Seat=1"] {
        assert_eq!(cookie.read(&headers(&[none.into()]), at(0)), Read::Missing, "{none:?}");
    }
    let mut rng = Seed::new(5).rng();
    for _ in 0..50_000 {
        let mut text = format!("seat={given}").into_bytes();
        for _ in 0..rng.range(1..6) {
            let place = rng.below(text.len() as u64) as usize;
            text[place] = rng.range(0x20..0x100) as u8;
        }
        let mut headers = HeaderMap::new();
        let Ok(value) = HeaderValue::from_bytes(&text) else { continue };
        headers.insert(COOKIE, value);
        let unchanged = text == format!("seat={given}").into_bytes();
        assert!(unchanged || !matches!(cookie.read(&headers, at(0)), Read::Valid(_)), "{text:?}");
    }
}

#[test]
fn attributes_are_what_was_asked_for_and_nothing_can_be_smuggled_in() {
    let cookie = cookie().path("/shop").unwrap().max_age(Duration::from_secs(60)).unwrap();
    let set = cookie.clone().same_site(SameSite::Strict).secure(false).issue(KEYS[0], 1, at(0));
    assert!(set.to_str().unwrap().ends_with("; Path=/shop; Max-Age=60; HttpOnly; SameSite=Strict"), "{set:?}");
    let set = cookie.same_site(SameSite::None).issue(KEYS[0], 1, at(0));
    assert!(set.to_str().unwrap().ends_with("; HttpOnly; SameSite=None; Secure"), "{set:?}");
    for name in ["", "a b", "a;b", "a=b", "a\r\nb", "é", "a,b", "\"a\""] {
        assert_eq!(Cookie::new(name, key(1)).unwrap_err().kind(), Kind::Invalid, "{name:?}");
    }
    for path in ["", "shop", "/;Secure", "/\r\n", "/é", "/\0"] {
        assert_eq!(Cookie::new("a", key(1)).unwrap().path(path).unwrap_err().kind(), Kind::Invalid, "{path:?}");
    }
    for age in [Duration::ZERO, Duration::from_millis(999), Duration::MAX] {
        assert!(Cookie::new("a", key(1)).unwrap().max_age(age).is_err());
    }
    let error = CookieKey::new(&[1; 31]).unwrap_err();
    assert_eq!(error.to_string(), "affinity cookie: invalid: the key must have 32 bytes or more, not 31");
    assert_eq!(format!("{:?}", key(1)), "CookieKey(..)");
}
