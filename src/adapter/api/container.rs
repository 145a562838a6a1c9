//! The container: the mapping in front of an application.

use super::MappingLayer;
use crate::{
    base::Result,
    http,
    pod::{Container, Context},
};
use futures::future::BoxFuture;
use tower::Layer;

/// Shows one interface in front of an application that has another: a container beside it.
///
/// ```text
///   client ── GET /v2/orders/7 ──> adapter ── GET /order.cgi?no=7 ──> application
///   client <── 200 {"id": 7} ───── adapter <── 200 {"order_no": 7} ── application
/// ```
///
/// It listens on a port of the pod and calls the application on another, over localhost; what is mapped and how is what
/// [`Mapping`](super::Mapping) and [`MappingLayer`] say. An application that does not answer is a 503, as
/// [`http::serve`] has it.
///
/// ```
/// use seedpod::adapter::{ApiAdapter, api::{Mapping, Route}};
/// use seedpod::pod::ContainerSpec;
/// let layer = Mapping::new().route(Route::new("GET", "/v2/orders/{id}").to("GET", "/order.cgi?no={id}")).layer()?;
/// let container = ContainerSpec::new("api", ApiAdapter::new(80, 8080, layer)).port(80);
/// # seedpod::Result::<()>::Ok(())
/// ```
///
/// Asked to stop, it lets what is under way come to its end.
#[derive(Clone, Debug)]
#[must_use = "it is a container: a pod has to run it"]
pub struct ApiAdapter {
    port: u16,
    application: u16,
    layer: MappingLayer,
}

impl ApiAdapter {
    /// Listens on `port`, and calls the application on the port `application` of the same pod.
    pub fn new(port: u16, application: u16, layer: MappingLayer) -> Self {
        ApiAdapter { port, application, layer }
    }
}

impl Container for ApiAdapter {
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        let adapter = self.clone();
        Box::pin(async move {
            let listener = context.listen(adapter.port).await?;
            let client = context.http().base(&format!("http://localhost:{}", adapter.application))?;
            context.ready();
            http::serve(listener, adapter.layer.layer(client)).until(context.stopped()).await
        })
    }
}
