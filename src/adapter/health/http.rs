//! Health as it is asked for: over HTTP, and over gRPC on the same port.

use super::{
    board::{Board, Role},
    grpc,
};
use crate::{
    base::{Error, Result},
    http::{self, Body},
    pod::Context,
};
use ::http::{
    HeaderValue, Method, Request, Response,
    header::{ALLOW, CACHE_CONTROL},
};
use tokio::sync::watch;
use tower::service_fn;

/// Answers until the container is asked to stop.
pub(super) async fn answer(context: &Context, port: u16, board: &watch::Sender<Board>) -> Result {
    let listener = context.listen(port).await?;
    context.ready();
    let seen = board.subscribe();
    let service = service_fn(move |request: Request<Body>| {
        let board = seen.clone();
        async move {
            Ok::<_, Error>(match request.uri().path() {
                path if path.starts_with("/grpc.health.v1.Health/") => grpc::answer(request, board).await,
                _ => page(&request, &board.borrow()),
            })
        }
    });
    let stop = async {
        context.stopped().await;
        board.send_modify(Board::stop);
    };
    http::serve(listener, service).until(stop).await
}

fn page(request: &Request<Body>, board: &Board) -> Response<Body> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = http::text(405, "GET alone\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let path = request.uri().path().trim_matches('/');
    let (title, name) = path.split_once('/').unwrap_or((path, ""));
    let role = match title {
        "healthz" | "livez" => Role::Live,
        "readyz" => Role::Ready,
        _ => return http::text(404, "/healthz, /livez, /readyz\n"),
    };
    let verbose = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "verbose"));
    let (good, text) = match (name, board.one(name)) {
        ("", _) => board.report(role, verbose, title),
        (_, Some((true, _))) => (true, "ok".into()),
        (_, Some((false, said))) => (false, format!("{name} failed: {said}\n")),
        (_, None) => return http::text(404, "no such check\n"),
    };
    let mut answer = http::text(if good { 200 } else { 503 }, text);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}
