//! What the tests run: images, and manifests of them.

use seedpod::{
    base::Seed,
    cluster::{
        Builder, Cluster,
        object::{Object, PodStatus},
    },
    http::{self, Body},
    pod::Context,
};
use std::convert::Infallible;

pub(super) use super::shop::{pods, ready, shop};

/// Answers every request with the pod's name; reads the body first, and takes as long as `DELAY` (ms) says.
pub(super) async fn web(context: Context) -> seedpod::Result {
    let listener = context.listen(context.env("PORT").and_then(|port| port.parse().ok()).unwrap_or(8080)).await?;
    context.log("serving");
    let delay = context.env("DELAY").and_then(|text| text.parse().ok()).unwrap_or(0);
    let name = context.pod().to_owned();
    let answer = move |request: ::http::Request<Body>| {
        let name = name.clone();
        async move {
            let _ = request.into_body().bytes().await;
            if delay > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
            }
            Ok::<_, Infallible>(http::text(200, name))
        }
    };
    http::serve(listener, tower::service_fn(answer)).until(context.stopped()).await
}

pub(super) fn builder(seed: u64) -> Builder {
    Cluster::builder().nodes(3).seed(Seed::new(seed)).image("web", web)
}

pub(super) async fn start() -> Cluster {
    builder(1).start().await.unwrap()
}

pub(super) async fn fetch(cluster: &Cluster, url: &str) -> seedpod::Result<String> {
    cluster.http().get(url).await?.into_body().text().await
}

/// The reason that the first container waits for.
pub(super) fn waiting(pod: &Object) -> Option<String> {
    let status = pod.view::<PodStatus>().unwrap();
    status.container_statuses.first()?.state.waiting.as_ref().map(|waiting| waiting.reason.clone())
}
