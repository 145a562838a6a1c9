//! A body that is at hand, or one that is read on.

use crate::base::{BoxError, Error, Kind, Result};
use ::http::HeaderMap;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

/// The body of an answer that has come through a layer which keeps answers: kept bytes, or what comes from the service,
/// as it comes.
pub struct KeptBody<B> {
    first: Bytes,
    rest: Option<Pin<Box<B>>>,
    trailers: Option<HeaderMap>,
}

impl<B: Body<Data = Bytes>> KeptBody<B> {
    pub(crate) fn kept(bytes: Bytes, trailers: Option<HeaderMap>) -> Self {
        KeptBody { first: bytes, rest: None, trailers }
    }

    pub(crate) fn passing(body: B) -> Self {
        KeptBody { first: Bytes::new(), rest: Some(Box::pin(body)), trailers: None }
    }
}

/// What reading a body up to a limit comes to.
pub(crate) enum Read<B> {
    Whole(Bytes, Option<HeaderMap>),
    /// There is more; nothing of it is lost.
    Longer(KeptBody<B>),
}

/// Reads a body to its end, or up to this many bytes.
pub(crate) async fn read<B>(body: B, limit: usize) -> Result<Read<B>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError> + 'static,
{
    let longer = |first, rest| Ok(Read::Longer(KeptBody { first, rest: Some(rest), trailers: None }));
    let mut body = Box::pin(body);
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return longer(Bytes::new(), body);
    }
    let (mut first, mut more, mut trailers) = (Bytes::new(), BytesMut::new(), None);
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        match frame.map_err(|error| Error::adopt(error, Kind::Unavailable))?.into_data() {
            Ok(data) => {
                if first.is_empty() {
                    first = data; // most bodies are one piece: no copy
                } else {
                    more.extend_from_slice(&data);
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
        if first.len() + more.len() > limit {
            return longer(joined(first, more), body);
        }
    }
    Ok(Read::Whole(joined(first, more), trailers))
}

fn joined(first: Bytes, more: BytesMut) -> Bytes {
    if more.is_empty() {
        return first;
    }
    let mut all = BytesMut::with_capacity(first.len() + more.len());
    all.extend_from_slice(&first);
    all.extend_from_slice(&more);
    all.freeze()
}

impl<B> Body for KeptBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError> + 'static,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        if let Some(rest) = &mut self.rest {
            let frame = std::task::ready!(rest.as_mut().poll_frame(cx));
            if frame.is_none() {
                self.rest = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| Error::adopt(error, Kind::Failed))));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.trailers.is_none() && self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.len() as u64;
        let rest = self.rest.as_ref().map_or(SizeHint::with_exact(0), |rest| rest.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(first));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(first)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl<B> Default for KeptBody<B> {
    fn default() -> Self {
        KeptBody { first: Bytes::new(), rest: None, trailers: None }
    }
}

impl<B> fmt::Debug for KeptBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = if self.rest.is_some() { ", and what comes" } else { "" };
        write!(f, "KeptBody({} bytes{rest})", self.first.len())
    }
}
