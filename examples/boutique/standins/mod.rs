//! Stand-ins for the images of Google's Online Boutique: what their probes and their callers need, and no more.
//!
//! The real ones are programs in Go, C#, Node, Python and Java. These do the same on the network: gRPC with health
//! checks, HTTP pages made from calls to every backend, a Redis that answers, a shell that waits for the frontend. An
//! image that is not among them is one that cannot be pulled.

mod backend;
mod busybox;
mod frontend;
mod grpc;
mod loadgenerator;
mod peers;
mod redis;

use seedpod::pod::Image;

/// The images, under their names without registry, tag and digest.
pub(crate) fn images() -> Vec<(&'static str, Image)> {
    let backends = [
        "microservices-demo/adservice",
        "microservices-demo/cartservice",
        "microservices-demo/checkoutservice",
        "microservices-demo/currencyservice",
        "microservices-demo/emailservice",
        "microservices-demo/paymentservice",
        "microservices-demo/productcatalogservice",
        "microservices-demo/recommendationservice",
        "microservices-demo/shippingservice",
    ];
    let mut images: Vec<_> = backends.map(|name| (name, Image::new(backend::backend))).into();
    images.push(("microservices-demo/frontend", Image::new(frontend::frontend)));
    images.push(("microservices-demo/loadgenerator", Image::new(loadgenerator::loadgenerator)));
    images.push(("redis", Image::new(redis::redis)));
    images.push(("busybox", Image::new(busybox::busybox)));
    images
}
