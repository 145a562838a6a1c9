//! The container: asks, listens, and shows it all in Prometheus' format.

use super::{Registry, Shape, answer, get};
use crate::{
    adapter::Lines,
    base::{
        Deadline, Error, Kind, Result,
        sync::{Arc, Lock},
        time,
    },
    net::Connection,
    pod::{Container, Context, serve},
};
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::service_fn;

/// Shows the metrics of an application that knows nothing of Prometheus: a container beside it.
///
/// ```text
///   Prometheus ── GET /metrics ──> adapter ── its own page, a file, a text protocol ──> application
///                                     ^────────────────── StatsD lines ─────────────────────┘
/// ```
///
/// 1. It listens for StatsD, where it is told to, and for Prometheus, and says that it is ready.
/// 2. At each scrape it asks all of its sources at once, each for at most [`timeout`](MetricsAdapter::timeout): what is shown
///    is as it is now, as Prometheus' guide for exporters wants it.
/// 3. A source that does not answer, or not in its shape, has no series, `seedpod_adapter_up{source="…"} 0`, and a line in the
///    log when that begins.
///
/// ```
/// use seedpod::adapter::metrics::{MetricsAdapter, Registry, Shape};
/// use seedpod::pod::ContainerSpec;
/// let adapter = MetricsAdapter::new(9090)
///     .registry(Registry::new().prefix("shop").label("app", "cart"))
///     .statsd(8125)
///     .http("http://localhost:8080/stats", Shape::json().counter("requests"))
///     .tcp("localhost:6379", "INFO\r\nQUIT\r\n", Shape::key_values().ignore("*version"))
///     .file("shared", "stats.txt", Shape::key_values());
/// let container = ContainerSpec::new("metrics", adapter).port(9090).mount("shared", "/shared");
/// ```
///
/// # Guarantees
/// - Bounded: what [`Registry`] promises, documents of at most 4 MiB, 128 StatsD connections at a time (further ones wait).
/// - A restart begins at nothing, as that of an application does: Prometheus sees a counter begin again.
///
/// # Not guaranteed
/// - There are no datagrams on this network: StatsD is spoken over TCP, as its servers can. For datagrams of an own socket
///   there is [`Registry::statsd`].
/// - Without the feature `http`, `/metrics` and sources over HTTP are refused by name; [`to_file`](MetricsAdapter::to_file)
///   works.
#[derive(Clone, Debug)]
#[must_use = "it is a container: a pod has to run it"]
pub struct MetricsAdapter {
    output: Output,
    registry: Registry,
    statsd: Option<u16>,
    sources: Arc<[Source]>,
    timeout: Duration,
}

#[derive(Clone, Debug)]
enum Output {
    Http(u16),
    File { volume: String, path: String, period: Duration },
}

#[derive(Clone, Debug)]
struct Source {
    name: String,
    from: From,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum From {
    Http,
    Tcp(Bytes),
    File { volume: String, path: String },
}

/// What a document may have in bytes.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// How many connections of StatsD are served at a time.
const CONNECTIONS_MAX: usize = 128;

impl MetricsAdapter {
    /// Serves `GET /metrics` on this port. Needs the feature `http`.
    pub fn new(port: u16) -> Self {
        MetricsAdapter::over(Output::Http(port))
    }

    /// Writes the metrics into a file of a volume, once in each period (at least 1 ms): for a collector of text files.
    pub fn to_file(volume: impl Into<String>, path: impl Into<String>, period: Duration) -> Self {
        let period = period.max(Duration::from_millis(1));
        MetricsAdapter::over(Output::File { volume: volume.into(), path: path.into(), period })
    }

    fn over(output: Output) -> Self {
        let timeout = Duration::from_secs(5);
        MetricsAdapter { output, registry: Registry::new(), statsd: None, sources: Arc::new([]), timeout }
    }

    /// What each instance begins with: prefix, labels, buckets, bounds.
    pub fn registry(self, registry: Registry) -> Self {
        MetricsAdapter { registry, ..self }
    }

    /// Listens for StatsD on this port: lines over TCP, as many connections as there are senders.
    pub fn statsd(self, port: u16) -> Self {
        MetricsAdapter { statsd: Some(port), ..self }
    }

    /// Gets this address (`http://localhost:8080/stats`) at each scrape. Needs the feature `http`.
    pub fn http(self, url: impl Into<String>, shape: Shape) -> Self {
        self.source(url.into(), From::Http, shape)
    }

    /// Connects to `host:port` at each scrape, says this, and reads to the end: the other side must close, so what is said
    /// ends with what makes it do so (`stats\r\nquit\r\n`).
    pub fn tcp(self, target: impl Into<String>, say: impl Into<Bytes>, shape: Shape) -> Self {
        self.source(target.into(), From::Tcp(say.into()), shape)
    }

    /// Reads this file of a volume at each scrape.
    pub fn file(self, volume: &str, path: &str, shape: Shape) -> Self {
        let from = From::File { volume: volume.into(), path: path.into() };
        self.source(format!("{volume}/{path}"), from, shape)
    }

    fn source(self, name: String, from: From, shape: Shape) -> Self {
        let sources = self.sources.iter().cloned().chain([Source { name, from, shape }]).collect();
        MetricsAdapter { sources, ..self }
    }

    /// How long a source may take to answer: 5 s, half of what Prometheus waits by default.
    pub fn timeout(self, timeout: Duration) -> Self {
        MetricsAdapter { timeout, ..self }
    }
}

impl Container for MetricsAdapter {
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        let adapter = Arc::new(self.clone());
        Box::pin(async move {
            let registry = Arc::new(Lock::new(adapter.registry.clone()));
            let statsd = listen(adapter.statsd, registry.clone(), context.clone());
            let show = show(adapter, registry, context);
            tokio::try_join!(biased; statsd, show).map(drop)
        })
    }
}

async fn show(adapter: Arc<MetricsAdapter>, registry: Arc<Lock<Registry>>, context: Context) -> Result {
    let scraped = {
        let (adapter, context) = (adapter.clone(), context.clone());
        move || {
            let (adapter, registry, context) = (adapter.clone(), registry.clone(), context.clone());
            async move { scrape(&adapter, &registry, &context).await }
        }
    };
    match &adapter.output {
        Output::Http(port) => answer(&context, *port, scraped).await,
        Output::File { volume, path, period } => {
            let volume = context.volume(volume)?;
            context.ready();
            let stopped = context.stopped();
            tokio::pin!(stopped);
            loop {
                volume.write(path, scraped().await)?;
                tokio::select! {
                    biased;
                    () = &mut stopped => return Ok(()),
                    () = time::sleep(*period) => {}
                }
            }
        }
    }
}

/// Asks all sources, and writes what there is.
async fn scrape(adapter: &MetricsAdapter, registry: &Lock<Registry>, context: &Context) -> String {
    let deadline = Deadline::within(adapter.timeout);
    let asked = adapter.sources.iter().map(|source| async move {
        let document = deadline.bound(source.ask(context)).await.and_then(|asked| asked);
        document.map_err(|error| error.at(format!("metrics of {}", source.name)))
    });
    let documents = join_all(asked).await;
    let mut registry = registry.lock();
    for (source, document) in adapter.sources.iter().zip(documents) {
        let was_up = registry.is_up(&source.name);
        let read = match document {
            Ok(document) => registry.read(&source.name, &source.shape, &document),
            Err(error) => {
                registry.failed(&source.name);
                Err(error)
            }
        };
        match read {
            Err(error) if was_up != Some(false) => context.log(error.chain()),
            Ok(()) if was_up == Some(false) => context.log(format!("metrics of {}: answers again", source.name)),
            _ => {}
        }
    }
    registry.exposition()
}

impl Source {
    async fn ask(&self, context: &Context) -> Result<Bytes> {
        match &self.from {
            From::Http => get(context, &self.name, DOCUMENT_BYTES_MAX).await,
            From::File { volume, path } => {
                let document = context.volume(volume)?.read(path)?;
                match document.len() <= DOCUMENT_BYTES_MAX {
                    true => Ok(document),
                    false => Err(too_long()),
                }
            }
            From::Tcp(say) => {
                let mut connection = context.connect(&self.name).await?;
                connection.write_all(say).await?;
                let mut document = Vec::new();
                connection.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut document).await?;
                match document.len() <= DOCUMENT_BYTES_MAX {
                    true => Ok(document.into()),
                    false => Err(too_long()),
                }
            }
        }
    }
}

fn too_long() -> Error {
    Error::new(Kind::Invalid, format!("the document is longer than {DOCUMENT_BYTES_MAX} bytes"))
}

/// StatsD over TCP.
async fn listen(port: Option<u16>, registry: Arc<Lock<Registry>>, context: Context) -> Result {
    let Some(port) = port else { return Ok(()) };
    let stop = context.clone();
    let service = service_fn(move |mut connection: Connection| {
        let (registry, context) = (registry.clone(), stop.clone());
        async move {
            let (mut lines, mut piece) = (Lines::default(), [0; 4096]);
            let stopped = context.stopped();
            tokio::pin!(stopped);
            loop {
                // what has arrived is taken in before the stop is looked at
                let length = tokio::select! {
                    biased;
                    read = connection.read(&mut piece) => read?,
                    () = &mut stopped => break,
                };
                let mut registry = registry.lock();
                lines.feed(piece.get(..length).unwrap_or_default(), |line| registry.statsd_line(line));
                if length == 0 {
                    break;
                }
            }
            let mut registry = registry.lock();
            lines.finish(|line| registry.statsd_line(line));
            Ok::<_, Error>(())
        }
    });
    serve(port, service).limit(CONNECTIONS_MAX).run(context).await
}
