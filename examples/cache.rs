//! Cache: one for all replicas, asked before one of them is picked. A stampede costs one call, languages do not mix, what
//! has not changed is not sent again, and while all replicas are out the page is still there.
//!
//! ```text
//! cargo run --example cache
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use ::http::{HeaderMap, Request, Response, StatusCode, header};
use seedpod::{
    Error,
    base::{Seed, time},
    http::{Body, Client, serve},
    layer::{HttpCacheLayer, HttpStatus},
    net::{HostOptions, Net},
    serving::{Endpoints, Replicas},
};
use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tower::{Layer, Service, ServiceExt, service_fn};

fn main() -> seedpod::Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time and one seed, so that it always tells the same.
pub(crate) fn story() -> seedpod::Result<String> {
    let _simulation = Seed::new(7).simulate();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(tell())
}

async fn tell() -> seedpod::Result<String> {
    let mut story = Vec::new();
    let net = Net::memory().seed(Seed::new(7)).build();
    let host = |name: &str| net.host(HostOptions { name: name.into(), ..Default::default() });
    let (browser, calls) = (host("browser")?, Arc::new(AtomicU32::new(0)));
    let endpoints = Endpoints::named("news").seed(Seed::new(7));
    for name in ["a", "b", "c"] {
        let server = host(name)?;
        server.scope().spawn(serve(server.listen(80).await?, service_fn(news(calls.clone()))).into_future());
        endpoints.insert(name, Client::new(&browser).base(&format!("http://{name}"))?);
    }
    let layer = HttpCacheLayer::new().clock(net.wall_clock());
    let service = layer.layer(Replicas::new(endpoints.clone()).classify(HttpStatus));
    let since = |before: u32| calls.load(SeqCst) - before;

    let stampede = futures::future::join_all((0..1_000).map(|_| get(service.clone(), "en"))).await;
    let answered = stampede.iter().filter(|answer| answer.is_ok()).count();
    story.push(format!("1,000 readers at once: {answered} answered, {} call", since(0)));
    story.push(format!("one more:       {}", get(service.clone(), "en").await?));
    story.push(format!("in German:      {}", get(service.clone(), "de").await?));
    story.push(format!("and again:      {}", get(service.clone(), "de").await?));

    time::sleep(Duration::from_secs(60)).await;
    story.push(format!("a minute later: {}", get(service.clone(), "en").await?));

    endpoints.update(|change| change.clear());
    time::sleep(Duration::from_secs(600)).await;
    story.push(format!("all are out:    {}", get(service.clone(), "en").await?));
    time::sleep(Duration::from_secs(3_600)).await;
    let gone = get(service.clone(), "en").await.err().map(|error| error.to_string());
    story.push(format!("for too long:   {}", gone.unwrap_or_default()));

    let stats = layer.handle().stats();
    story.push(format!(
        "in all {} requests: {} calls, {} hits, {} shared a call, {} revalidated, {} stale",
        stats.misses + stats.hits + stats.coalesced,
        since(0),
        stats.hits,
        stats.coalesced,
        stats.revalidated,
        stats.stale_if_error
    ));
    Ok(story.join("\n"))
}

/// A page in two languages that is good for a minute, for an hour where nobody answers, and never changes.
fn news(
    calls: Arc<AtomicU32>,
) -> impl Fn(Request<Body>) -> futures::future::BoxFuture<'static, seedpod::Result<Response<Body>>> + Clone {
    move |request| {
        calls.fetch_add(1, SeqCst);
        Box::pin(async move {
            time::sleep(Duration::from_millis(20)).await;
            let german = says(request.headers(), header::ACCEPT_LANGUAGE) == "de";
            let (tag, text) = if german { ("\"de-1\"", "Nichts Neues") } else { ("\"en-1\"", "No news") };
            let response = Response::builder()
                .header(header::CACHE_CONTROL, "max-age=60, stale-if-error=3600")
                .header(header::VARY, "accept-language")
                .header(header::ETAG, tag);
            if says(request.headers(), header::IF_NONE_MATCH) == tag {
                return Ok(response.status(StatusCode::NOT_MODIFIED).body(Body::empty())?);
            }
            Ok(response.body(Body::from(text))?)
        })
    }
}

fn says(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The page, its age, and what the cache says of it.
async fn get<S, B>(service: S, language: &str) -> seedpod::Result<String>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Error>,
    B: http_body::Body<Data = bytes::Bytes, Error = Error> + Send + 'static,
{
    let request = Request::get("/").header(header::ACCEPT_LANGUAGE, language).body(Body::empty())?;
    let response = service.oneshot(request).await?;
    let status = says(response.headers(), header::HeaderName::from_static("cache-status")).to_owned();
    let age = says(response.headers(), header::AGE).to_owned();
    let page = Body::new(response.into_body()).text().await?;
    Ok(format!("{page:<13}age {:<4}{status}", if age.is_empty() { "0" } else { &age }))
}
