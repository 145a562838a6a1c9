//! Controllers, by scenario: what a whole cluster does, told in text.

use super::{
    scenario::{Block, Scenario},
    world::{builder, shop},
};
use seedpod::{
    base::time::sleep,
    cluster::{
        Cluster,
        object::{
            Condition, DeploymentStatus, EndpointSlice, Object, PodStatus, ReplicaSetSpec, ReplicaSetStatus, View,
        },
    },
};
use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

/// Generated names, told apart by short ones: `web-1`, `web-2` in the order in which they were first seen.
#[derive(Default)]
struct Names(BTreeMap<String, String>, BTreeMap<String, usize>);

impl Names {
    fn short(&mut self, object: &Object) -> String {
        let app = object.labels().get("app").unwrap_or("?").to_owned();
        if let Some(short) = self.0.get(object.name()) {
            return short.clone();
        }
        let letter = if object.kind().name == "ReplicaSet" { "set" } else { "pod" };
        let count = self.1.entry(format!("{app}-{letter}")).or_default();
        *count += 1;
        let short = format!("{app}-{letter}{count}");
        self.0.insert(object.name().into(), short.clone());
        short
    }

    /// The text with every name that is known made short.
    fn shorten(&self, text: &str) -> String {
        // longest first: a set's name begins its pods' names
        let mut names: Vec<_> = self.0.iter().collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        names.into_iter().fold(text.to_owned(), |text, (name, short)| text.replace(name, short))
    }

    fn long(&self, short: &str) -> String {
        self.0.iter().find(|(_, known)| *known == short).map_or(short, |(name, _)| name).to_owned()
    }
}

fn view<V: View>(object: &Object) -> V {
    object.view::<V>().unwrap().clone()
}

/// Objects by age, so that short names do not depend on generated ones.
fn by_age(cluster: &Cluster, kind: &str) -> Vec<Object> {
    let prefix = format!("{kind}/");
    let mut entries = cluster.store().list(&prefix, None, usize::MAX).entries;
    entries.sort_by_key(|entry| entry.created);
    entries.into_iter().map(|entry| entry.value).collect()
}

fn show(cluster: &Cluster, names: &mut Names) -> String {
    let mut text = String::new();
    for set in by_age(cluster, "replicasets") {
        names.short(&set);
    }
    for pod in by_age(cluster, "pods") {
        names.short(&pod);
    }
    for deployment in by_age(cluster, "deployments") {
        let status = view::<DeploymentStatus>(&deployment);
        let conditions: Vec<_> =
            status.conditions.iter().map(|it| format!("{}={} {}", it.type_, it.status, it.reason)).collect();
        let (all, new, ready) = (status.replicas, status.updated_replicas, status.ready_replicas);
        let available = status.available_replicas;
        writeln!(
            text,
            "{}: {all} pods, {new} new, {ready} ready, {available} available; {}",
            deployment.name(),
            conditions.join(", ")
        )
        .unwrap();
    }
    for set in by_age(cluster, "replicasets") {
        let (spec, status) = (view::<ReplicaSetSpec>(&set), view::<ReplicaSetStatus>(&set));
        let revision = &set.metadata().annotations["deployment.kubernetes.io/revision"];
        let (wanted, there, ready) = (spec.replicas(), status.replicas, status.ready_replicas);
        writeln!(text, "  {}: revision {revision}, {there} of {wanted}, {ready} ready", names.short(&set)).unwrap();
    }
    for pod in by_age(cluster, "pods") {
        let status = view::<PodStatus>(&pod);
        let ready = if Condition::holds(&status.conditions, "Ready") { "ready" } else { "unready" };
        let going = if pod.metadata().is_deleting() { ", going" } else { "" };
        let (name, node) = (names.short(&pod), pod.node().unwrap_or("nowhere"));
        writeln!(text, "  {name}: {}, {ready}{going} on {node}", status.phase).unwrap();
    }
    for slice in by_age(cluster, "endpointslices") {
        let mut lines = Vec::new();
        for endpoint in view::<EndpointSlice>(&slice).endpoints {
            let it = endpoint.conditions;
            let marks = [("ready", it.ready), ("serving", it.serving), ("terminating", it.terminating)];
            let marks: Vec<_> = marks.iter().filter(|(_, mark)| *mark == Some(true)).map(|(name, _)| *name).collect();
            lines.push(format!("    {} [{}]", names.shorten(&endpoint.target_ref.unwrap().name), marks.join(" ")));
        }
        lines.sort();
        writeln!(
            text,
            "  endpoints of {}\n{}",
            slice.labels().get("kubernetes.io/service-name").unwrap(),
            lines.join("\n")
        )
        .unwrap();
    }
    text
}

async fn answer(cluster: &Cluster, block: &Block, names: &mut Names, told: &mut usize) -> String {
    let words = block.words();
    let result = match words[0] {
        "shop" => {
            let manifest = shop(words[1], words[2].parse().unwrap());
            let manifest = match block.value("strategy") {
                Some("recreate") => manifest.replace("  template:", "  strategy: {type: Recreate}\n  template:"),
                _ => manifest,
            };
            let version = format!("{{name: VERSION, value: '{}'}}", block.value("version").unwrap_or("1"));
            let image = block.value("image").unwrap_or("web");
            let manifest = manifest.replace("image: web", &format!("image: {image}\n        env: [{version}]"));
            cluster.apply(&manifest).await.map(|applied| applied.iter().map(|it| format!("{it}\n")).collect())
        }
        "apply" => {
            cluster.apply(&block.input).await.map(|applied| applied.iter().map(|it| format!("{it}\n")).collect())
        }
        "wait" => {
            sleep(Duration::from_millis(words[1].parse().unwrap())).await;
            Ok(show(cluster, names))
        }
        "available" => cluster.available(words[1]).within(Duration::from_secs(30)).await.map(|()| show(cluster, names)),
        "scale" => cluster.scale(words[1], words[2].parse().unwrap()).await.map(|()| String::new()),
        "kill" => cluster.kill_pod(&names.long(words[1])).await.map(|()| String::new()),
        "cordon" => cluster.cordon(words[1]).await.map(|()| String::new()),
        "uncordon" => cluster.uncordon(words[1]).await.map(|()| String::new()),
        "drain" => cluster.drain(words[1]).await.map(|()| show(cluster, names)),
        "delete" => cluster.delete(words[1]).await.map(|()| String::new()),
        "events" => {
            show(cluster, names);
            let events = cluster.events();
            let mut text = String::new();
            for event in events.iter().skip(*told) {
                let (count, kind) = (event.count, event.involved_object.kind.as_str());
                writeln!(text, "{count} {} {kind} {}: {}", event.type_, event.reason, event.message).unwrap();
            }
            *told = events.len();
            Ok(text)
        }
        other => panic!("no such command: {other}"),
    };
    names.shorten(&result.unwrap_or_else(|error| format!("error: {error}")))
}

async fn run(file: &str) {
    let mut scenario = Scenario::read(file);
    let cluster = builder(3).start().await.unwrap();
    let (mut names, mut told) = (Names::default(), 0);
    for at in 0..scenario.blocks.len() {
        let text = answer(&cluster, &scenario.blocks[at], &mut names, &mut told).await;
        scenario.answer(&text);
    }
    scenario.finish();
}

#[tokio::test(start_paused = true)]
async fn rollouts() {
    run("control_rollout.txt").await;
}

#[tokio::test(start_paused = true)]
async fn disturbances() {
    run("control_disturbances.txt").await;
}
