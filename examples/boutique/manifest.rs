//! Runs a manifest file until every workload is available, or it is clear that it will not be.

use super::{inspect, standins};
use seedpod::{
    Error, Kind, Result,
    base::{Seed, time},
    cluster::{Applied, Cluster, object::Object},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

/// What became of a manifest, printed as the last line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) workloads: usize,
    pub(crate) available: usize,
}

impl Summary {
    pub(crate) fn is_complete(&self) -> bool {
        self.workloads == self.available
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "summary workloads={} available={}", self.workloads, self.available)
    }
}

/// How often the workloads are looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// A cluster of three nodes with the stand-ins, where this manifest is applied; and what was said of that.
pub(crate) async fn start(manifest: &str, seed: Seed) -> Result<(Cluster, Vec<Applied>)> {
    let mut builder = Cluster::builder().nodes(3).seed(seed);
    for (name, image) in standins::images() {
        builder = builder.image(name, image);
    }
    let cluster = builder.start().await?;
    let applied = cluster.apply(manifest).await?;
    Ok((cluster, applied))
}

/// In short what the manifest says without effect: each path once, without the numbers of items.
fn inert(applied: &[Applied]) -> Vec<String> {
    let mut counts = BTreeMap::<String, usize>::new();
    for warning in applied.iter().flat_map(|applied| &applied.warnings) {
        let path = warning.path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest));
        *counts.entry(path.collect::<Vec<_>>().join("[]")).or_default() += 1;
    }
    if counts.is_empty() {
        return Vec::new();
    }
    let heading = format!("{} fields are stored and not acted on:", counts.values().sum::<usize>());
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let lines = counts.into_iter().map(|(path, count)| format!("{count:>5} × {path}"));
    [heading].into_iter().chain(lines).collect()
}

/// Runs a manifest, tells of every workload that becomes available, and at the end of those that have not, and why.
pub(crate) async fn run(manifest: &str, seed: Seed, within: Duration, mut tell: impl FnMut(String)) -> Result<Summary> {
    let (cluster, applied) = start(manifest, seed).await?;
    inert(&applied).into_iter().for_each(&mut tell);
    let began = time::now();
    let mut told = BTreeSet::new();
    loop {
        let deployments = cluster.list("deployments")?;
        if deployments.is_empty() {
            return Err(Error::new(Kind::NotFound, "there is no workload in this manifest"));
        }
        let pods = cluster.list("pods")?;
        let mut missing = Vec::new();
        for deployment in &deployments {
            if !inspect::is_available(deployment)? {
                missing.push(deployment);
            } else if told.insert(deployment.name().to_string()) {
                tell(format!("{:>5.1} s  {} is available", began.elapsed().as_secs_f64(), deployment.name()));
            }
        }
        let hopeless = !missing.is_empty() && all_hopeless(&missing, &pods)?;
        if missing.is_empty() || hopeless || began.elapsed() >= within {
            for deployment in &missing {
                why(&cluster, deployment).await.into_iter().for_each(&mut tell);
            }
            cluster.shutdown().await;
            return Ok(Summary { workloads: deployments.len(), available: deployments.len() - missing.len() });
        }
        time::sleep(INTERVAL).await;
    }
}

/// Whether waiting cannot help any of them: an image that is not there will not be there later.
fn all_hopeless(missing: &[&Object], pods: &[Object]) -> Result<bool> {
    for deployment in missing {
        let pods = inspect::pods(deployment, pods)?;
        let words = pods.into_iter().map(inspect::word).collect::<Result<Vec<_>>>()?;
        if !words.iter().any(|word| word.ends_with("ImagePullBackOff")) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Why a workload is not available: what it lacks, and a line for each of its pods.
async fn why(cluster: &Cluster, deployment: &Object) -> Vec<String> {
    let name = format!("deployment/{}/{}", deployment.namespace(), deployment.name());
    let Err(error) = cluster.available(&name).within(Duration::ZERO).await else { return Vec::new() };
    let mut parts = error.message().split("; ");
    let lacks = format!("{} is not available: {}", deployment.name(), parts.next().unwrap_or_default());
    let pods = parts.filter(|part| part.starts_with("pod ")).map(|part| format!("  {}", shortened(part)));
    [lacks].into_iter().chain(pods).collect()
}

/// As much of a line as can be read at once.
fn shortened(line: &str) -> String {
    match line.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_string(),
    }
}
