//! Golden vectors, and what is malformed.

use super::*;
use crate::base::Seed;
use crate::queue::Json;

fn pairs(frame: &Frame) -> Vec<(&str, &str)> {
    frame.headers.iter().map(|(name, value)| (&**name, value.as_str())).collect()
}

fn back(frame: &Frame) -> Result<Publish> {
    read(&"orders".into(), pairs(frame), frame.body.clone(), Id::of("stranger"))
}

fn items(publish: &Publish) -> Vec<Bytes> {
    (0..publish.payload.len()).map(|index| publish.payload.bytes(index).unwrap()).collect()
}

/// Everything that a message may carry.
fn full() -> Publish {
    Publish::new("orders", Id::of("order 17"), Payload::values(vec!["a".to_string(), "bc".to_string()], Json))
        .priority(9)
        .delay(Duration::from_micros(1_500_001))
        .key("customer \"7\"\n")
        .header("content-type", "text/plain")
        .header("X-Death", "mine")
        .header("née", "grün")
        .header("empty", "")
}

#[test]
fn the_form_is_a_contract() {
    let frame =
        write(&Publish::new("orders", Id::of("order 17"), "a book").header("traceparent", "00-1-2-01")).unwrap();
    let expected =
        [("Seedpod-Wire", "1"), ("Seedpod-Id", "87c4c04b43ea728b7b255245cac3bb0f"), ("traceparent", "00-1-2-01")];
    assert_eq!((pairs(&frame), &frame.body[..]), (expected.to_vec(), &b"a book"[..]));
    assert_eq!(frame.size(), 12 + 1 + 10 + 32 + 11 + 9 + 6);

    let frame = write(&full()).unwrap();
    let expected = [
        ("Seedpod-Wire", "1"),
        ("Seedpod-Id", "87c4c04b43ea728b7b255245cac3bb0f"),
        ("Seedpod-Items", "2"),
        ("Seedpod-Key", r#""customer \"7\"\n""#),
        ("Seedpod-Priority", "9"),
        ("Seedpod-Delay", "1501"),
        ("content-type", "text/plain"),
        ("Seedpod-Headers", r#"{"X-Death":"mine","empty":"","née":"grün"}"#),
    ];
    assert_eq!(pairs(&frame), expected);
    assert_eq!(&frame.body[..], b"\x03\0\0\0\x04\0\0\0\"a\"\"bc\"");
}

#[test]
fn what_was_written_reads_back() {
    let (publish, again) = (full(), back(&write(&full()).unwrap()).unwrap());
    assert_eq!((again.id, again.priority, &again.key), (publish.id, publish.priority, &publish.key));
    assert_eq!((&again.headers, again.delay), (&publish.headers, Duration::from_millis(1501)));
    assert_eq!(items(&again), items(&publish));
    for count in [0, 1, 2, 1000_usize] {
        let batch: Vec<_> = (0..count).map(|index| Bytes::from(vec![7; index % 9])).collect();
        let frame = write(&Publish::new("orders", Id::of("x"), Payload::many(batch.clone()))).unwrap();
        assert_eq!(items(&back(&frame).unwrap()), batch, "{count}");
    }
}

#[test]
fn a_stranger_is_taken_as_it_is() {
    let given = [("traceparent", "00-1-2-01"), ("Nats-Msg-Id", "7"), ("x-death", "2"), ("BCC", "everyone")];
    let publish = read(&"orders".into(), given, Bytes::from_static(b"\xFF"), Id::of("stranger")).unwrap();
    assert_eq!((publish.id, items(&publish)), (Id::of("stranger"), vec![Bytes::from_static(b"\xFF")]));
    assert_eq!(publish.headers.iter().collect::<Vec<_>>(), [("traceparent", "00-1-2-01")]);
}

#[test]
fn what_is_malformed_says_so() {
    let id = ("Seedpod-Id", "87c4c04b43ea728b7b255245cac3bb0f");
    let wire = ("Seedpod-Wire", "1");
    let cases: &[(&[(&str, &str)], &[u8], &str)] = &[
        (&[id], b"", "header Seedpod-Wire is missing"),
        (&[wire], b"", "header Seedpod-Id is missing"),
        (&[("Seedpod-Wire", "2"), id], b"", r#"wire version "2" is not known here, 1 is"#),
        (&[wire, ("Seedpod-Id", "zz")], b"", r#"header Seedpod-Id is no message id: "zz""#),
        (&[wire, id, id], b"", "header Seedpod-Id stands there twice"),
        (&[wire, id, ("Seedpod-Priority", "256")], b"", r#"header Seedpod-Priority is no such number: "256""#),
        (&[wire, id, ("Seedpod-Priority", "+1")], b"", r#"header Seedpod-Priority is no such number: "+1""#),
        (&[wire, id, ("Seedpod-Delay", "")], b"", r#"header Seedpod-Delay is no such number: """#),
        (&[wire, id, ("Seedpod-Key", "a")], b"", r#"header Seedpod-Key is no JSON string: "a""#),
        (&[wire, id, ("Seedpod-Headers", "[]")], b"", "header Seedpod-Headers is no JSON object of strings"),
        (&[wire, id, ("Seedpod-Items", "4294967295")], b"", "a body of 0 bytes does not hold 4294967295 items"),
        (&[wire, id, ("Seedpod-Items", "2")], b"\x01\0\0\0\x02\0\0\0ab", "item 1 of 2 ends beyond the body"),
        (&[wire, id, ("Seedpod-Items", "1")], b"\xFF\xFF\xFF\xFF", "item 0 of 1 ends beyond the body"),
        (&[wire, id, ("Seedpod-Items", "1")], b"\x01\0\0\0ab", "1 bytes are left behind the 1 items"),
        (&[wire, id, ("Seedpod-Items", "0")], b"a", "1 bytes are left behind the 0 items"),
    ];
    for (headers, body, message) in cases {
        let error = read(&"orders".into(), headers.iter().copied(), Bytes::from_static(body), Id::of("x")).unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::Invalid, *message));
    }
    let long = "v".repeat(HEADERS_MAX);
    let error = read(&"orders".into(), [("a", long.as_str())], Bytes::new(), Id::of("x")).unwrap_err();
    assert_eq!(error.message(), "its headers have more than 65536 bytes");
    let error = write(&Publish::new("orders", Id::of("x"), "").header("a", long)).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.place().unwrap().starts_with("topic orders, message "), "{error}");
}

#[test]
fn a_damaged_frame_is_an_error_or_another_message_and_never_a_panic() {
    let whole = write(&full()).unwrap();
    let mut rng = Seed::new(7).rng();
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut frame = whole.clone();
        let mut body = frame.body.to_vec();
        match rng.next_u64() % 4 {
            0 => body.truncate((rng.next_u64() % (body.len() as u64 + 1)) as usize),
            1 => {
                let at = (rng.next_u64() % body.len() as u64) as usize;
                body[at] ^= 1 << (rng.next_u64() % 8);
            }
            2 => {
                let at = (rng.next_u64() % frame.headers.len() as u64) as usize;
                let value: String = frame.headers[at]
                    .1
                    .chars()
                    .map(|c| if rng.next_u64().is_multiple_of(4) { '9' } else { c })
                    .collect();
                frame.headers[at].1 = value;
            }
            _ => {
                let at = (rng.next_u64() % frame.headers.len() as u64) as usize;
                frame.headers.remove(at);
            }
        }
        frame.body = body.into();
        match back(&frame) {
            Ok(publish) => drop(items(&publish)),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Invalid);
                refused += 1;
            }
        }
    }
    assert!(refused > 5_000, "{refused}");
}
