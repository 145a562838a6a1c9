//! The shop on its cluster: three nodes, what `shop.yaml` says, and how it is at any moment.

use super::{
    inspect,
    table::Row,
    telemetry::{Figures, Telemetry},
};
use seedpod::{
    Result,
    base::{Deadline, Labels, Seed},
    cluster::{Builder, Cluster, object::Object, schedule::Shape},
    http::Client,
    pod::Image,
};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

/// What the shop consists of.
pub(crate) const MANIFEST: &str = include_str!("shop.yaml");

/// The node that the store is pinned to, by a label. It is left alone: with it the shop's state would go.
pub(crate) const KEEPS_STATE: &str = "node-0";

/// The others.
pub(crate) const OTHERS: [&str; 2] = ["node-1", "node-2"];

/// How long the shop may take to open.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// The services, in the order of the table.
const SERVICES: [&str; 11] = [
    "frontend",
    "catalogue",
    "cart",
    "checkout",
    "currency",
    "payment",
    "shipping",
    "email",
    "recommendation",
    "ads",
    "store",
];

/// An open shop.
pub(crate) struct Shop {
    cluster: Cluster,
    telemetry: Telemetry,
}

impl Shop {
    /// Opens the shop with these images; of those with one name the last one counts. Returns when all pods are ready.
    pub(crate) async fn open(seed: Seed, images: impl IntoIterator<Item = (&'static str, Image)>) -> Result<Self> {
        let telemetry = Telemetry::default();
        let labels = Labels::from([("shop.example/keeps", "state")]);
        let mut builder = Cluster::builder()
            .node(KEEPS_STATE, Shape { labels, ..Builder::shape() })
            .nodes(OTHERS.len())
            .seed(seed)
            .resource(Telemetry::RESOURCE, telemetry.clone());
        for (name, image) in images {
            builder = builder.image(name, image);
        }
        let shop = Shop { cluster: builder.start().await?, telemetry };
        shop.apply(MANIFEST).await?;
        shop.settled(OPEN_WITHIN).await?;
        Ok(shop)
    }

    /// How many pods there are.
    pub(crate) fn size(&self) -> Result<usize> {
        Ok(self.cluster.list("pods")?.len())
    }

    /// Puts a real port in front of the shop.
    pub(crate) async fn expose(&self, address: SocketAddr) -> Result<SocketAddr> {
        self.cluster.expose("frontend", address).await.map_err(|error| error.at(address.to_string()))
    }

    /// Closes the shop.
    pub(crate) async fn close(self) {
        self.cluster.shutdown().await;
    }

    pub(crate) async fn apply(&self, manifest: &str) -> Result {
        self.cluster.apply(manifest).await.map(drop)
    }

    /// Waits until all services have all of their pods, in their newest version.
    pub(crate) async fn settled(&self, within: Duration) -> Result {
        let deadline = Deadline::within(within);
        for service in SERVICES {
            self.cluster.available(&format!("deployment/{service}")).within(deadline.remaining()).await?;
        }
        Ok(())
    }

    /// Kills a pod, without grace.
    pub(crate) async fn kill(&self, pod: &str) -> Result {
        self.cluster.kill_pod(pod).await
    }

    /// Drains a node; how many pods had to go.
    pub(crate) async fn drain(&self, node: &str) -> Result<usize> {
        let there = self.cluster.list("pods")?.iter().filter(|pod| pod.node() == Some(node)).count();
        self.cluster.drain(node).await?;
        Ok(there)
    }

    /// The ready pods of a service.
    pub(crate) fn pods(&self, service: &str) -> Result<Vec<Object>> {
        let (deployment, pods) = (self.cluster.get(&format!("deployment/{service}"))?, self.cluster.list("pods")?);
        let pods = inspect::pods(&deployment, &pods)?.into_iter();
        Ok(pods.filter(|pod| inspect::is_ready(pod).unwrap_or(false)).cloned().collect())
    }

    /// How often containers were started again, over all pods that are there.
    pub(crate) fn restarts(&self) -> Result<u64> {
        self.cluster.list("pods")?.iter().map(inspect::restarts).sum()
    }

    /// A client in the shop's network.
    pub(crate) fn http(&self) -> Client {
        self.cluster.http()
    }

    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// How the services are.
    pub(crate) fn rows(&self) -> Result<Vec<Row>> {
        let pods = self.cluster.list("pods")?;
        SERVICES.iter().map(|service| self.row(service, &pods)).collect()
    }

    fn row(&self, service: &str, pods: &[Object]) -> Result<Row> {
        let deployment = self.cluster.get(&format!("deployment/{service}"))?;
        let (wanted, _) = inspect::available(&deployment)?;
        let mut ready = 0;
        let mut nodes = BTreeMap::<_, u32>::new();
        for pod in inspect::pods(&deployment, pods)? {
            if inspect::is_ready(pod)? {
                ready += 1;
                *nodes.entry(pod.node().unwrap_or_default().to_string()).or_default() += 1;
            }
        }
        let Figures { requests, errors, latency } = self.telemetry.figures(service);
        Ok(Row {
            service: service.to_string(),
            ready,
            wanted,
            requests,
            errors,
            p50: latency.quantile(0.5),
            p99: latency.quantile(0.99),
            nodes: nodes.into_iter().collect(),
        })
    }
}
