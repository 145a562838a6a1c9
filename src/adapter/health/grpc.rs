//! gRPC's health interface, version 1, by hand: two methods, one field each way.

use super::{asked::Answered, board::Board};
use crate::{
    base::{Error, Result},
    http::Body,
};
use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::watch;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Far more than the name of a service has.
const REQUEST_BYTES_MAX: usize = 4096;

/// What gRPC calls its outcomes, as far as they are needed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Ok = 0,
    InvalidArgument = 3,
    NotFound = 5,
    Unimplemented = 12,
    Unavailable = 14,
}

/// Answers a call, whatever it is.
pub(super) async fn answer(request: Request<Body>, board: watch::Receiver<Board>) -> Response<Body> {
    let grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    if request.method() != Method::POST || !request.headers().get(CONTENT_TYPE).is_some_and(grpc) {
        let mut refused = Response::new(Body::empty());
        *refused.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return refused;
    }
    let watch = match request.uri().path() {
        "/grpc.health.v1.Health/Check" => false,
        "/grpc.health.v1.Health/Watch" => true,
        _ => return refusal(Code::Unimplemented, "no such method"),
    };
    let service = match service(request.into_body()).await {
        Ok(service) => service,
        Err((code, message)) => return refusal(code, message),
    };
    if watch {
        return respond(Body::new(StreamBody::new(Box::pin(changes(service, board)))));
    }
    let said = board.borrow().serving(&service);
    match said {
        Answered::Unknown => refusal(Code::NotFound, "unknown service"),
        said => respond(Body::new(StreamBody::new(stream::iter([Ok::<_, Error>(data(said)), Ok(end(Code::Ok))])))),
    }
}

/// Each status that is another than the one before; the end, when the adapter stops.
fn changes(
    service: String,
    mut board: watch::Receiver<Board>,
) -> impl futures::Stream<Item = Result<Frame<Bytes>>> + Send + 'static {
    board.mark_changed();
    stream::unfold(Some((board, None::<Answered>)), move |state| {
        let service = service.clone();
        async move {
            let (mut board, before) = state?;
            loop {
                if board.changed().await.is_err() {
                    return Some((Ok(end(Code::Unavailable)), None));
                }
                let (said, stopping) = {
                    let board = board.borrow_and_update();
                    (board.serving(&service), board.is_stopping())
                };
                if before != Some(said) {
                    if stopping {
                        board.mark_changed(); // the end comes next
                    }
                    return Some((Ok(data(said)), Some((board, Some(said)))));
                }
                if stopping {
                    return Some((Ok(end(Code::Unavailable)), None));
                }
            }
        }
    })
}

fn respond(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// A call that fails at once has its status among the headers.
fn refusal(code: Code, message: &'static str) -> Response<Body> {
    let mut response = respond(Body::empty());
    response.headers_mut().insert(STATUS, HeaderValue::from(code as u16));
    response.headers_mut().insert(MESSAGE, HeaderValue::from_static(message));
    response
}

fn end(code: Code) -> Frame<Bytes> {
    Frame::trailers(HeaderMap::from_iter([(STATUS, HeaderValue::from(code as u16))]))
}

/// `HealthCheckResponse { ServingStatus status = 1 }`, behind gRPC's five bytes: not compressed, length.
fn data(said: Answered) -> Frame<Bytes> {
    Frame::data(Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 1 << 3, said as u8]))
}

/// The service that is asked about. A client that watches need not end its side, so the first message is enough.
async fn service(mut body: Body) -> Result<String, (Code, &'static str)> {
    let mut bytes = BytesMut::new();
    while message(&bytes)?.is_none() {
        let Some(Ok(frame)) = body.frame().await else { return Err((Code::InvalidArgument, "no message")) };
        if let Ok(piece) = frame.into_data() {
            if bytes.len() + piece.len() > REQUEST_BYTES_MAX {
                return Err((Code::InvalidArgument, "the message is too long"));
            }
            bytes.extend_from_slice(&piece);
        }
    }
    let message = message(&bytes)?.unwrap_or_default();
    decode(message).ok_or((Code::InvalidArgument, "the message is no request for health"))
}

/// The first message in these bytes, once it is all there.
fn message(bytes: &[u8]) -> Result<Option<&[u8]>, (Code, &'static str)> {
    let Some((head, rest)) = bytes.split_first_chunk::<5>() else { return Ok(None) };
    let [compressed, length @ ..] = *head;
    if compressed != 0 {
        return Err((Code::Unimplemented, "messages are not to be compressed"));
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > REQUEST_BYTES_MAX {
        return Err((Code::InvalidArgument, "the message is too long"));
    }
    Ok(rest.get(..length))
}

/// `HealthCheckRequest { string service = 1 }`; fields of later versions are skipped.
fn decode(mut rest: &[u8]) -> Option<String> {
    let mut service = String::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (0, _) => return None,
            (number, 2) => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let (text, after) = rest.split_at_checked(length)?;
                if number == 1 {
                    service = String::from_utf8(text.to_vec()).ok()?;
                }
                rest = after;
            }
            (_, 0) => drop(varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(service)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
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
        assert_eq!(message(b"\0\0\0\0"), Ok(None));
        assert_eq!(message(b"\0\0\0\0\x02\x0a"), Ok(None));
        assert_eq!(message(b"\0\0\0\0\x02\x0a\0more"), Ok(Some(&b"\x0a\0"[..])));
        assert_eq!(message(b"\x01\0\0\0\0").unwrap_err().0, Code::Unimplemented);
        assert_eq!(message(b"\0\xff\0\0\0").unwrap_err().0, Code::InvalidArgument);
        assert_eq!(decode(b"").as_deref(), Some(""));
        assert_eq!(decode(b"\x0a\x04cart\x10\x05\x1a\x01x").as_deref(), Some("cart"));
        assert_eq!(
            (decode(b"\x0a\x05cart"), decode(b"\x0a\x01\xff"), decode(b"\x0b"), decode(b"\0")),
            (None, None, None, None)
        );
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        let mut rng = crate::base::Seed::new(8).rng();
        let mut read = 0;
        for _ in 0..200_000 {
            let bytes: Vec<u8> = (0..rng.below(16)).map(|_| rng.below(12) as u8 * 8 + rng.below(6) as u8).collect();
            read += u32::from(decode(&bytes).is_some());
            let _ = message(&bytes);
        }
        assert!(read > 1000, "{read}");
    }
}
