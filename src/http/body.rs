//! The one body type: what requests and responses carry, here and at the other end.

use super::pool::Pooled;
use crate::base::{BoxError, Error, Kind, Repeat, Result};
use bytes::{Bytes, BytesMut};
use futures::future::poll_fn;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use std::{
    any::Any,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

/// The body of a request or a response: bytes at hand, or a stream of them.
///
/// It is the same type for what is sent and what is received, so that a client is a service like any other and can be
/// served itself. `From` takes bytes and text; [`Body::new`] takes any other body.
///
/// ```
/// use seedpod::http::Body;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let body = Body::from("hello");
/// assert_eq!(body.text().await?, "hello");
/// # seedpod::Result::<()>::Ok(()) }).unwrap();
/// ```
pub struct Body(Inner);

#[derive(Default)]
enum Inner {
    #[default]
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    Pooled(Pooled),
    Boxed(Pin<Box<dyn HttpBody<Data = Bytes, Error = Error> + Send>>),
}

impl Body {
    /// What [`bytes`](Body::bytes) reads at most: 2 MiB, as axum's extractors do by default.
    pub const LIMIT: usize = 2 << 20;

    /// No bytes.
    pub fn empty() -> Self {
        Body(Inner::Empty)
    }

    /// Any other body. One of ours passes through as it is.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut slot = Some(body);
        let any: &mut dyn Any = &mut slot;
        if let Some(ours) = any.downcast_mut::<Option<Body>>().and_then(Option::take) {
            return ours;
        }
        if let Some(incoming) = any.downcast_mut::<Option<Incoming>>().and_then(Option::take) {
            return incoming.into();
        }
        slot.map_or_else(Body::empty, |body| Body(Inner::Boxed(Box::pin(Foreign { body }))))
    }

    pub(super) fn pooled(pooled: Pooled) -> Self {
        Body(Inner::Pooled(pooled))
    }

    /// A copy, where nothing of it can only be read once: bytes at hand. What a retry needs, and asks for by [`Repeat`].
    pub fn try_clone(&self) -> Option<Body> {
        match &self.0 {
            Inner::Empty => Some(Body::empty()),
            Inner::Full(bytes) => Some(bytes.clone().into()),
            _ => None,
        }
    }

    /// Reads it to the end, up to [`Body::LIMIT`].
    ///
    /// # Errors
    /// As [`bytes_within`](Body::bytes_within).
    pub async fn bytes(self) -> Result<Bytes> {
        self.bytes_within(Body::LIMIT).await
    }

    /// Reads it to the end, up to this many bytes.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where it is longer; [`Kind::Unavailable`] where the connection fails on the way.
    pub async fn bytes_within(mut self, limit: usize) -> Result<Bytes> {
        if let Inner::Full(bytes) = &self.0
            && bytes.len() <= limit
        {
            return Ok(bytes.clone());
        }
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await {
            let Ok(data) = frame?.into_data() else { continue }; // trailers
            if data.len() > limit.saturating_sub(first.len() + rest.len()) {
                return Err(Error::new(Kind::Invalid, format!("the body is longer than {limit} bytes")));
            }
            if first.is_empty() {
                first = data; // most bodies are one piece: no copy
            } else {
                rest.extend_from_slice(&data);
            }
        }
        if rest.is_empty() {
            return Ok(first);
        }
        let mut all = BytesMut::with_capacity(first.len() + rest.len());
        all.extend_from_slice(&first);
        all.extend_from_slice(&rest);
        Ok(all.freeze())
    }

    /// Reads it to the end as text, up to [`Body::LIMIT`].
    ///
    /// # Errors
    /// As [`bytes`](Body::bytes); [`Kind::Invalid`] where it is not UTF-8.
    pub async fn text(self) -> Result<String> {
        let bytes = self.bytes().await?;
        String::from_utf8(bytes.into())
            .map_err(|error| Error::new(Kind::Invalid, "the body is not UTF-8").because(error))
    }

    /// Reads it to the end as JSON, up to [`Body::LIMIT`].
    ///
    /// # Errors
    /// As [`bytes`](Body::bytes); [`Kind::Invalid`] where it is not the JSON expected.
    pub async fn json<T: serde::de::DeserializeOwned>(self) -> Result<T> {
        Ok(serde_json::from_slice(&self.bytes().await?)?)
    }
}

impl Repeat for Body {
    fn again(&self) -> Option<Body> {
        self.try_clone()
    }
}

impl Default for Body {
    fn default() -> Self {
        Body::empty()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Body::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Body::empty() } else { Body(Inner::Full(bytes)) }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from(text).into()
    }
}

impl From<Incoming> for Body {
    fn from(incoming: Incoming) -> Self {
        Body(Inner::Incoming(incoming))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Error::from),
            Inner::Pooled(body) => body.poll_frame(cx),
            Inner::Boxed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Full(_) => false,
            Inner::Incoming(body) => body.is_end_stream(),
            Inner::Pooled(body) => body.body().is_end_stream(),
            Inner::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Incoming(body) => body.size_hint(),
            Inner::Pooled(body) => body.body().size_hint(),
            Inner::Boxed(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.size_hint();
        match size.exact() {
            Some(bytes) => write!(f, "Body({bytes} bytes)"),
            None => write!(f, "Body({} bytes or more)", size.lower()),
        }
    }
}

pin_project! {
    /// A body whose error is widened to ours.
    struct Foreign<B> {
        #[pin]
        body: B,
    }
}

impl<B> HttpBody for Foreign<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let frame = self.project().body.poll_frame(cx);
        frame.map_err(|error| Error::adopt::<BoxError>(error.into(), Kind::Failed))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Full, StreamBody};

    fn pieces(pieces: &[&'static str]) -> Body {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok::<_, Error>(Frame::data(Bytes::from(*piece)))).collect();
        Body::new(StreamBody::new(futures::stream::iter(pieces)))
    }

    #[tokio::test]
    async fn reads_all_pieces_within_the_limit() {
        assert_eq!(pieces(&["one ", "two ", "three"]).text().await.unwrap(), "one two three");
        assert_eq!(pieces(&[]).text().await.unwrap(), "");
        let error = pieces(&["123", "45"]).bytes_within(4).await.unwrap_err();
        assert_eq!(error.to_string(), "invalid: the body is longer than 4 bytes");
        assert_eq!(Body::from("12345").bytes_within(4).await.unwrap_err().kind(), Kind::Invalid);
        assert_eq!(pieces(&["123", "45"]).bytes_within(5).await.unwrap(), "12345");
    }

    #[test]
    fn ours_passes_through_and_bytes_can_be_sent_again() {
        assert!(Body::new(Body::from("x")).try_clone().is_some());
        assert!(Body::new(Full::new(Bytes::from("x"))).try_clone().is_none());
        assert!(Body::from(String::new()).is_end_stream());
        assert_eq!(format!("{:?} {:?}", Body::from("abc"), pieces(&["x"])), "Body(3 bytes) Body(0 bytes or more)");
    }
}
