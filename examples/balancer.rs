//! A balancer as a process of its own: HTTP servers behind one port, probed, ejected when they fail, and named by their
//! balancer when somebody asks how they are.
//!
//! ```text
//! cargo run --example balancer -- --listen 127.0.0.1:8080 --admin 127.0.0.1:8081 --probe /healthz a=10.0.0.1:80 b=10.0.0.2:80*3
//! curl 127.0.0.1:8081                # who is ready, who is out, why, until when
//! cargo run --example balancer       # the same with three servers of its own, of which one falls ill and one ends
//! ```
//!
//! A server is `name=address`, with `*weight` where it gets more than its share. Without `--probe` a server is ready when
//! it takes a connection. Bodies of requests are kept up to 1 MiB, so that what is idempotent can be tried elsewhere;
//! longer ones are refused, and upgrades are not passed on.
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::Full;
use seedpod::{
    Error, Result,
    base::{Kind, time},
    http::{Body, Client, Peer, serve, text},
    layer::{DeadlineLayer, HttpStatus, RetryLayer},
    net::{Host, HostOptions, Net},
    pod::Probe,
    serving::{Ejection, Endpoints, PeakEwma, Probes, Replicas},
};
use std::{
    future::IntoFuture,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

const BODY_MAX: usize = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
struct Server {
    name: String,
    address: String,
    weight: u32,
}

#[derive(Debug, Default)]
struct Options {
    listen: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    probe: Option<String>,
    servers: Vec<Server>,
}

#[tokio::main]
async fn main() -> Result {
    run(std::env::args().skip(1)).await
}

/// As the command line says, until it is interrupted.
pub(crate) async fn run(words: impl Iterator<Item = String>) -> Result {
    let options = options(words)?;
    let host = machine()?;
    if options.servers.is_empty() {
        return show().await;
    }
    let listen = options.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080)));
    let endpoints = endpoints(&host, &options.servers)?;
    host.scope().spawn(endpoints.probe(probes(&host, &options)).into_future());
    if let Some(admin) = options.admin {
        let admin = expose(admin, explain(endpoints.clone())).await?;
        println!("explains itself on http://{admin}");
    }
    let address = expose(listen, balance(endpoints)).await?;
    println!("balances on http://{address}");
    tokio::signal::ctrl_c().await?;
    Ok(())
}

/// This machine on its own network: what it calls 127.0.0.1 is what everybody here does.
fn machine() -> Result<Host> {
    Net::tcp().build().host(HostOptions { ip: Some(Ipv4Addr::UNSPECIFIED.into()), ..Default::default() })
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options> {
    let invalid = |message: String| Error::new(Kind::Invalid, message).at("arguments");
    let mut options = Options::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| invalid(format!("{word} needs a value")));
        let address = |value: String| value.parse().map_err(|_| invalid(format!("{value} is no address")));
        match word.as_str() {
            "--listen" => options.listen = Some(address(value()?)?),
            "--admin" => options.admin = Some(address(value()?)?),
            "--probe" => options.probe = Some(value()?),
            server => {
                let (name, rest) =
                    server.split_once('=').ok_or_else(|| invalid(format!("{server} is no name=address")))?;
                let (address, weight) = rest.split_once('*').unwrap_or((rest, "1"));
                let weight = weight.parse().map_err(|_| invalid(format!("{weight} is no weight of {name}")))?;
                options.servers.push(Server { name: name.into(), address: address.into(), weight });
            }
        }
    }
    Ok(options)
}

/// The servers, by name. Who fails five times in a row, or far more often than the others, is ejected.
fn endpoints(host: &Host, servers: &[Server]) -> Result<Endpoints<Client>> {
    let endpoints = Endpoints::named("servers").eject(Ejection::new())?;
    let client = Client::new(host).connect_within(SECOND);
    for server in servers {
        let service = client.clone().base(&format!("http://{}", server.address))?;
        endpoints.update(|changes| {
            changes.insert(server.name.as_str(), service).weight(server.weight);
        });
    }
    Ok(endpoints)
}

/// Asks every two seconds; two answers that fail make a server not ready.
fn probes(host: &Host, options: &Options) -> Probes {
    let probe = match &options.probe {
        Some(path) => Probe::http(80, path.as_str()),
        None => Probe::tcp(80),
    };
    let servers = options.servers.clone();
    let at = move |key: &str| {
        servers.iter().find(|server| server.name == key).map_or(String::new(), |server| server.address.clone())
    };
    Probes::new(host, probe).at(at).period(2 * SECOND).failures(2).new_are_ready(true)
}

/// The way of a request: a deadline, up to three attempts where it is idempotent, each at the less slow of two servers.
fn balance(
    endpoints: Endpoints<Client>,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Error, Future: Send> + Clone + Send + Sync + 'static
{
    let replicas = Replicas::new(endpoints).classify(HttpStatus).pick_by(PeakEwma::new());
    let replicas = ServiceBuilder::new()
        .layer(DeadlineLayer::new(30 * SECOND))
        .layer(RetryLayer::new().classify(HttpStatus))
        .service(replicas);
    service_fn(move |request: Request<Body>| {
        let replicas = replicas.clone();
        async move {
            let (mut head, body) = request.into_parts();
            let peer = head.extensions.get::<Peer>().map(|peer| peer.address.ip());
            pass_on(&mut head.headers);
            forwarded_for(&mut head.headers, peer);
            let body = match body.bytes_within(BODY_MAX).await {
                Ok(body) => body,
                Err(error) => return Ok(text(413, error.to_string())),
            };
            let mut response = replicas.oneshot(Request::from_parts(head, Full::<Bytes>::new(body))).await?;
            pass_on(response.headers_mut());
            Ok(response)
        }
    })
}

/// Takes away what is for this hop alone (RFC 9110 §7.6.1).
fn pass_on(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let usual = [header::CONNECTION, header::TE, header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE];
    let older = ["keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"];
    for name in named.into_iter().chain(usual).chain(older.map(HeaderName::from_static)) {
        headers.remove(name);
    }
}

fn forwarded_for(headers: &mut HeaderMap, peer: Option<IpAddr>) {
    let Some(peer) = peer else { return };
    let name = HeaderName::from_static("x-forwarded-for");
    let before = headers.get(&name).and_then(|value| value.to_str().ok());
    let value = before.map_or_else(|| peer.to_string(), |before| format!("{before}, {peer}"));
    if let Ok(value) = HeaderValue::from_str(&value) {
        headers.insert(name, value);
    }
}

/// Who is there, and who is out, why, until when.
fn explain(
    endpoints: Endpoints<Client>,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Error, Future: Send> + Clone + Send + Sync + 'static
{
    service_fn(move |_: Request<Body>| {
        let page = told(&endpoints);
        async move { Ok(text(200, page)) }
    })
}

fn told(endpoints: &Endpoints<Client>) -> String {
    let servers = endpoints.describe().into_iter().map(|server| server.to_string());
    servers.chain([endpoints.explain().to_string()]).collect::<Vec<_>>().join("\n") + "\n"
}

async fn expose<S>(address: SocketAddr, service: S) -> Result<SocketAddr>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let host = Net::tcp().build().host(HostOptions { ip: Some(address.ip()), ..Default::default() })?;
    let listener = host.listen(address.port()).await?;
    let address = listener.local_addr();
    tokio::spawn(async move {
        let served = serve(listener, service).await;
        drop(host);
        served
    });
    Ok(address)
}

/// Three servers of its own, and callers.
async fn show() -> Result {
    let host = machine()?;
    let ill = Arc::new(AtomicBool::new(false));
    let (mut servers, mut ends) = (Vec::new(), Vec::new());
    for name in ["a", "b", "c"] {
        let (ill, net) = (ill.clone(), Net::tcp().build());
        let own = net.host(HostOptions::default())?;
        let listener = own.listen(0).await?;
        servers.push(Server { name: name.into(), address: listener.local_addr().to_string(), weight: 1 });
        let service = service_fn(move |request: Request<Body>| {
            let well = request.uri().path() == "/healthz" || name != "a" || !ill.load(Relaxed);
            async move {
                time::sleep(Duration::from_millis(5)).await;
                Ok::<_, Error>(if well { text(200, name) } else { text(503, "ill") })
            }
        });
        own.scope().spawn(serve(listener, service).into_future());
        ends.push(own);
    }
    let options = Options { probe: Some("/healthz".into()), servers, ..Default::default() };
    let endpoints = endpoints(&host, &options.servers)?;
    host.scope().spawn(endpoints.probe(probes(&host, &options)).into_future());
    let address = expose(SocketAddr::from(([127, 0, 0, 1], 0)), balance(endpoints.clone())).await?;
    println!("balances on http://{address}\n{}", told(&endpoints));

    let client = Client::new(&host).base(&format!("http://{address}"))?;
    let mut failed = 0;
    for (what, server) in [("all are well", 0), ("a falls ill", 0), ("b ends, too", 1)] {
        match what {
            "a falls ill" => ill.store(true, Relaxed),
            "b ends, too" => ends.get(server).into_iter().for_each(|host| host.scope().kill()),
            _ => {}
        }
        let mut by = std::collections::BTreeMap::<String, u32>::new();
        for _ in 0..200 {
            let calls = (0..5).map(|_| client.get("/"));
            for answer in futures::future::join_all(calls).await {
                match answer {
                    Ok(answer) if answer.status().is_success() => {
                        *by.entry(answer.into_body().text().await?).or_default() += 1
                    }
                    _ => failed += 1,
                }
            }
        }
        let by: Vec<_> = by.iter().map(|(name, count)| format!("{name} {count}")).collect();
        println!("{what}: {}\n{}", by.join(", "), told(&endpoints));
    }
    println!("summary requests=3000 failed={failed}");
    if failed == 0 { Ok(()) } else { Err(Error::new(Kind::Failed, format!("{failed} requests failed"))) }
}
