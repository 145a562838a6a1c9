//! gRPC's health check, version 1, by hand: one call over HTTP/2, two fields on the wire.

use super::{http::client, run::Target};
use crate::{
    base::{Error, Kind, Result},
    http::Body,
};
use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Request,
    header::{CONTENT_TYPE, TE},
};
use http_body_util::{BodyExt, Limited};

/// Far more than an answer of one field has.
const ANSWER_BYTES_MAX: usize = 4096;

/// Asks `grpc.health.v1.Health/Check`; good is `SERVING` alone.
pub(super) async fn health(target: &Target, service: &str) -> Result {
    let place = || format!("{}, gRPC service {service:?}", target.place);
    let mut request = Request::post(format!("http://{}/grpc.health.v1.Health/Check", target.authority))
        .body(Body::from(encode(service)))?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    let (head, body) = client(target).http2().request(request).await?.into_parts();
    if head.status != http::StatusCode::OK {
        return Err(Error::new(Kind::Failed, format!("HTTP status {}", head.status)).at(place()));
    }
    let answer = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let answer = answer.map_err(|error| Error::adopt(error, Kind::Failed).at(place()))?;
    let trailers = answer.trailers().cloned();
    // a refusal at once has its status among the headers, and no body
    check_status(trailers.as_ref().unwrap_or(&head.headers)).map_err(|error| error.at(place()))?;
    match decode(&answer.to_bytes()) {
        Some(1) => Ok(()),
        Some(status) => Err(Error::new(Kind::Failed, format!("it says {}", name(status))).at(place())),
        None => Err(Error::new(Kind::Invalid, "the answer is no health check's").at(place())),
    }
}

fn check_status(headers: &HeaderMap) -> Result {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        Some("0") => Ok(()),
        Some("5") => Err(Error::new(Kind::NotFound, "the server knows no such service")),
        Some("12") => Err(Error::new(Kind::Failed, "the server has no health check")),
        Some(code) => {
            let said = text("grpc-message").unwrap_or_default();
            Err(Error::new(Kind::Failed, format!("gRPC status {code} {said}")))
        }
        None => Err(Error::new(Kind::Invalid, "the answer has no gRPC status")),
    }
}

fn name(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        1 => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "a status that is none",
    }
}

/// `HealthCheckRequest { string service = 1 }`, behind gRPC's five bytes: not compressed, length.
fn encode(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(1 << 3 | 2);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put(message);
    frame.freeze()
}

/// `HealthCheckResponse { ServingStatus status = 1 }`: the status; fields of later versions are skipped.
fn decode(frame: &[u8]) -> Option<u64> {
    let (head, mut rest) = frame.split_first_chunk::<5>()?;
    let [0, length @ ..] = *head else { return None };
    if usize::try_from(u32::from_be_bytes(length)).ok()? != rest.len() {
        return None;
    }
    let mut status = 0;
    while !rest.is_empty() {
        let tag = take_varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = take_varint(&mut rest)?,
            (_, 0) => drop(take_varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(take_varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn put_varint(bytes: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        bytes.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.put_u8(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_wire() {
        assert_eq!(encode("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(encode("cart")[..], *b"\x00\x00\x00\x00\x06\x0a\x04cart");
        assert_eq!(encode(&"x".repeat(300))[4..8], [(303 & 0xff) as u8, 0x0a, 0xac, 0x02]);
        assert_eq!(decode(b"\x00\x00\x00\x00\x02\x08\x01"), Some(1));
        assert_eq!(decode(b"\x00\x00\x00\x00\x00"), Some(0), "the default is not sent");
        let later = b"\x00\x00\x00\x00\x12\x12\x01a\x19\0\0\0\0\0\0\0\0\x25\0\0\0\0\x08";
        assert_eq!(decode(&[later, &b"\x02"[..]].concat()), None, "the length is wrong");
        let later = b"\x00\x00\x00\x00\x13\x12\x01a\x19\0\0\0\0\0\0\0\0\x25\0\0\0\0\x08\x02";
        assert_eq!(decode(later), Some(2));
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        let mut rng = crate::base::Seed::new(6).rng();
        let mut read = 0;
        for _ in 0..1_000_000 {
            let length = rng.below(24) as usize;
            let mut frame: Vec<u8> = vec![0, 0, 0, 0, length as u8];
            frame.extend((0..length).map(|_| rng.below(12) as u8 * 8 + rng.below(6) as u8));
            read += u32::from(decode(&frame).is_some());
        }
        assert!(read > 1000, "{read}");
    }

    #[test]
    fn refusals_are_told_apart() {
        let said = |code| {
            let headers =
                HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static(code))]);
            check_status(&headers).map_err(|error| error.to_string())
        };
        assert_eq!(said("0"), Ok(()));
        assert_eq!(said("5").unwrap_err(), "not found: the server knows no such service");
        assert_eq!(said("14").unwrap_err(), "failed: gRPC status 14 ");
        assert!(check_status(&HeaderMap::new()).is_err());
    }
}
