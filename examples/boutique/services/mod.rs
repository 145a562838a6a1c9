//! The services of the shop, each an image: a named async function that serves HTTP in its pod until told to stop.

mod ads;
mod cart;
mod catalogue;
mod checkout;
mod currency;
mod email;
mod frontend;
mod ledger;
pub(crate) mod payment;
mod recommendation;
mod shipping;
mod store;
mod work;

pub(crate) use ledger::Ledger;

use super::telemetry::Reporter;
use axum::{Router, extract::Request, middleware, routing::get};
use seedpod::{
    Result, http,
    pod::{Context, Image},
};

/// The port on which every service listens in its pod.
const PORT: u16 = 8080;

/// The images that `shop.yaml` names.
pub(crate) fn images() -> [(&'static str, Image); 12] {
    [
        ("shop/frontend:v1", Image::new(frontend::frontend)),
        ("shop/catalogue:v1", Image::new(catalogue::catalogue)),
        ("shop/cart:v1", Image::new(cart::cart)),
        ("shop/checkout:v1", Image::new(checkout::checkout)),
        ("shop/currency:v1", Image::new(currency::currency)),
        ("shop/payment:v1", Image::new(payment::payment)),
        ("shop/shipping:v1", Image::new(shipping::shipping)),
        ("shop/email:v1", Image::new(email::email)),
        ("shop/recommendation:v1", Image::new(recommendation::recommendation_v1)),
        ("shop/recommendation:v2", Image::new(recommendation::recommendation_v2)),
        ("shop/ads:v1", Image::new(ads::ads)),
        ("shop/store:v1", Image::new(store::store)),
    ]
}

/// Serves a router on the pod's port until the container is told to stop, and reports every request of it.
pub(crate) async fn serve(context: &Context, router: Router) -> Result {
    let reporter = Reporter::new(context);
    let reported = middleware::from_fn(move |request: Request, next: middleware::Next| {
        let flight = reporter.arrived(format!("{} {}", request.method(), request.uri().path()));
        async move {
            let response = next.run(request).await;
            flight.answered(!response.status().is_server_error());
            response
        }
    });
    let router = router.layer(reported).route("/healthz", get(async || "ok")); // probes are no traffic
    let listener = context.listen(PORT).await?;
    http::serve(listener, router).until(context.stopped()).await
}
