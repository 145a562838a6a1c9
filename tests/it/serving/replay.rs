//! Bodies over HTTP: what is sent again is whole, what comes too slowly ends.

use super::*;
use ::http::{HeaderMap, Request as Ask, Response, StatusCode};
use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use seedpod::{
    http::{Body, Client, serve},
    layer::{IdleLayer, TimeoutLayer},
    net::{HostOptions, Net},
};
use std::{
    collections::VecDeque,
    convert::Infallible,
    future::IntoFuture,
    pin::Pin,
    task::{Context, Poll},
};

const PIECE: usize = 1 << 16;

/// A body of many pieces and trailers that can be copied until it is read.
#[derive(Clone)]
struct Pieces {
    left: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Pieces {
    fn new(count: u8) -> Self {
        let trailers = [("x-sum".parse().unwrap(), "17".parse().unwrap())].into_iter().collect();
        Pieces { left: (0..count).map(|number| vec![number; PIECE].into()).collect(), trailers: Some(trailers) }
    }

    fn bytes(&self) -> Bytes {
        self.left.iter().flatten().copied().collect()
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.left.pop_front().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }
}

/// A body whose pieces come after these pauses, in seconds.
fn paced(pauses: &'static [u32]) -> Body {
    let frames = stream::iter(pauses).then(|pause| async move {
        time::sleep(*pause * SECOND).await;
        Ok::<_, Error>(Frame::data(Bytes::from_static(b".")))
    });
    Body::new(StreamBody::new(Box::pin(frames)))
}

/// A client of this server.
async fn served<S>(service: S) -> Client
where
    S: Service<Ask<Body>, Response = Response<Body>, Error = Error, Future: Send> + Clone + Send + Sync + 'static,
{
    let net = Net::memory().seed(Seed::new(3)).build();
    let host = |name: &str| net.host(HostOptions { name: name.into(), ..Default::default() }).unwrap();
    let (server, caller) = (host("server"), host("caller"));
    server.scope().spawn(serve(server.listen(80).await.unwrap(), service).into_future());
    Client::new(&caller).base("http://server").unwrap()
}

fn answer(status: StatusCode, body: impl Into<Body>) -> Result<Response<Body>> {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    Ok(answer)
}

#[tokio::test(start_paused = true)]
async fn every_attempt_sends_the_whole_body_and_its_trailers_whatever_was_read_of_those_before() {
    let (attempts, whole) = (Arc::new(AtomicU32::new(0)), Arc::new(Lock::new(None)));
    let (counted, kept) = (attempts.clone(), whole.clone());
    let client = served(service_fn(move |request: Ask<Body>| {
        let (attempt, kept) = (counted.fetch_add(1, SeqCst) + 1, kept.clone());
        async move {
            let mut body = request.into_body();
            if attempt <= 3 {
                for _ in 1..attempt {
                    body.frame().await.unwrap().unwrap(); // nothing of it, a piece, two pieces
                }
                return answer(StatusCode::SERVICE_UNAVAILABLE, ());
            }
            let all = body.collect().await.unwrap();
            let trailers = all.trailers().cloned();
            *kept.lock() = Some((all.to_bytes(), trailers));
            answer(StatusCode::OK, "thanks")
        }
    }))
    .await;
    let body = Pieces::new(40);
    let (bytes, trailers) = (body.bytes(), body.trailers.clone());
    let service = RetryLayer::new().attempts(4).classify(HttpStatus).layer(client);
    let put = Ask::put("/").header("trailer", "x-sum").body(body).unwrap();
    let answer = service.oneshot(put).await.unwrap();
    assert_eq!((answer.status(), attempts.load(SeqCst)), (StatusCode::OK, 4));
    assert!(*whole.lock() == Some((bytes, trailers)), "whole, in order, ended by its trailers");
}

fn put(body: impl Into<Body>) -> Ask<Body> {
    Ask::put("/").body(body.into()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn bytes_are_sent_again_and_a_stream_of_any_length_is_sent_once_and_kept_nowhere() {
    let log = Arc::new(Lock::new(Vec::new()));
    let read = log.clone();
    let client = served(service_fn(move |request: Ask<Body>| {
        let log = read.clone();
        async move {
            let length = request.into_body().collect().await.unwrap().to_bytes().len();
            log.lock().push(length);
            answer(StatusCode::SERVICE_UNAVAILABLE, ())
        }
    }))
    .await;
    let layer = RetryLayer::new().classify(HttpStatus);
    let service = layer.layer(client);
    let bytes = vec![1; 3 * PIECE];
    assert_eq!(service.clone().oneshot(put(bytes)).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((log.lock().drain(..).collect::<Vec<_>>(), layer.handle().once_only()), (vec![3 * PIECE; 3], 0));

    let stream = Body::new(Pieces::new(100));
    let answer = service.oneshot(put(stream)).await.unwrap();
    assert_eq!((answer.status(), log.lock().clone()), (StatusCode::SERVICE_UNAVAILABLE, vec![100 * PIECE]));
    assert_eq!(layer.handle().once_only(), 1, "and it is told");
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_of_attempts_the_last_answer_stands_or_the_last_time_out() {
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = attempts.clone();
    let client = served(service_fn(move |request: Ask<Body>| {
        let attempt = counted.fetch_add(1, SeqCst) + 1;
        async move {
            if request.uri().path() == "/hangs" || (request.uri().path() == "/recovers" && attempt < 3) {
                std::future::pending::<()>().await;
            }
            answer(StatusCode::SERVICE_UNAVAILABLE, attempt.to_string())
        }
    }))
    .await;
    let layer = RetryLayer::new().classify(HttpStatus).backoff(Backoff::new(SECOND, SECOND).exact());
    let service = layer.attempt_timeout(SECOND).layer(client);
    let get = |path: &str| service.clone().oneshot(Ask::get(path).body(Full::<Bytes>::default()).unwrap());
    for path in ["/fails", "/recovers"] {
        let answer = get(path).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((answer.into_body().text().await.unwrap(), attempts.swap(0, SeqCst)), ("3".into(), 3), "{path}");
    }
    let start = time::now();
    let error = get("/hangs").await.unwrap_err();
    assert_eq!((error.is_timeout(), attempts.load(SeqCst)), (true, 3));
    assert!(error.message().contains("attempt 3 of 3"), "{error}");
    assert_eq!(start.elapsed(), 5 * SECOND, "three attempts and two pauses");
}

#[tokio::test(start_paused = true)]
async fn a_time_out_of_the_call_counts_the_request_s_body_and_one_of_pauses_does_not() {
    let client = served(service_fn(|request: Ask<Body>| async move {
        let length = request.into_body().bytes().await?.len();
        answer(StatusCode::OK, length.to_string())
    }))
    .await;
    let post = |body: Body| Ask::post("/").body(body).unwrap();
    let start = time::now();
    let within = |limit: u32| TimeoutLayer::new(limit * SECOND).layer(client.clone());
    let error = within(3).oneshot(post(paced(&[1; 5]))).await.unwrap_err();
    assert_eq!((error.is_timeout(), start.elapsed()), (true, 3 * SECOND), "the upload is a part of the call");
    let answer = within(6).oneshot(post(paced(&[1; 5]))).await.unwrap();
    assert_eq!(answer.into_body().text().await.unwrap(), "5");

    let pauses = IdleLayer::new().idle(2 * SECOND);
    let long = Body::new(pauses.bound(paced(&[1; 60])));
    let answer = client.clone().oneshot(post(long)).await.unwrap();
    assert_eq!(answer.into_body().text().await.unwrap(), "60", "it moves, however long it is");
    let start = time::now();
    let stalled = Body::new(pauses.bound(paced(&[1, 60])));
    client.clone().oneshot(post(stalled)).await.unwrap_err();
    assert_eq!(start.elapsed(), 3 * SECOND);
}

/// A server whose bodies move or stall, as the path says; a failing one stalls.
async fn pausing() -> Client {
    served(service_fn(|request: Ask<Body>| async move {
        match request.uri().path() {
            "/moves" => answer(StatusCode::OK, paced(&[2; 5])),
            "/stalls" => answer(StatusCode::OK, paced(&[1, 60])),
            _ => answer(StatusCode::SERVICE_UNAVAILABLE, paced(&[1, 60])),
        }
    }))
    .await
}

fn get(path: &str) -> Ask<Body> {
    Ask::get(path).body(Body::empty()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn over_http_a_response_goes_on_while_it_moves_and_ends_when_it_stalls() {
    let service = IdleLayer::new().idle(3 * SECOND).layer(pausing().await);
    let moves = service.clone().oneshot(get("/moves")).await.unwrap();
    assert_eq!(moves.into_body().collect().await.unwrap().to_bytes().len(), 5);

    let start = time::now();
    let mut stalls = service.oneshot(get("/stalls")).await.unwrap().into_body();
    assert!(stalls.frame().await.unwrap().is_ok());
    let error = stalls.frame().await.unwrap().unwrap_err();
    assert_eq!((error.is_timeout(), start.elapsed()), (true, 4 * SECOND), "{error}");
    assert!(stalls.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_failure_counts_once_at_the_head_whatever_becomes_of_the_body() {
    let outcomes = Arc::new(Lock::new(Vec::new()));
    let log = outcomes.clone();
    let judge = move |result: Result<&Response<Body>, &Error>| {
        let outcome =
            if result.is_ok_and(|answer| answer.status().is_success()) { Outcome::Success } else { Outcome::Failure };
        log.lock().push(outcome);
        outcome
    };
    let endpoints = seeded("shop");
    endpoints.insert("a", pausing().await);
    let mut replicas = Replicas::new(endpoints.clone()).classify(judge);
    let start = time::now();
    let answer = replicas.call(get("/fails")).await.unwrap();
    assert_eq!((start.elapsed(), endpoints.pending("a")), (Duration::ZERO, Some(0)), "at the head");
    assert_eq!(*outcomes.lock(), [Outcome::Failure]);
    let mut body = IdleLayer::new().idle(3 * SECOND).bound(answer.into_body());
    assert!(body.frame().await.unwrap().is_ok());
    assert!(body.frame().await.unwrap().unwrap_err().is_timeout());
    drop(body);
    assert_eq!((&*outcomes.lock(), endpoints.pending("a")), (&vec![Outcome::Failure], Some(0)), "and only then");
}
