//! What the examples print is their test. `SEEDPOD_RECORD=1` writes the transcripts anew.

use std::{fs, path::PathBuf};

#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/adapter.rs"]
mod adapter;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/autoscale.rs"]
mod autoscale;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/cache.rs"]
mod cache;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/container_per_item.rs"]
mod container_per_item;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/copier.rs"]
mod copier;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/filter.rs"]
mod filter;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/join.rs"]
mod join;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/merger.rs"]
mod merger;
#[path = "../../examples/overload/story.rs"]
mod overload;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/pod.rs"]
mod pod;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/pub_sub.rs"]
mod pub_sub;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/rebalance.rs"]
mod rebalance;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/reconcile.rs"]
mod reconcile;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/reduce.rs"]
mod reduce;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/replicas.rs"]
mod replicas;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/request_reply.rs"]
mod request_reply;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/resilience.rs"]
mod resilience;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/scatter_gather.rs"]
mod scatter_gather;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/scatter_tree.rs"]
mod scatter_tree;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/scheduled_jobs.rs"]
mod scheduled_jobs;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/sharder.rs"]
mod sharder;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/shards/main.rs"]
mod shards;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/splitter.rs"]
mod splitter;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/sticky.rs"]
mod sticky;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/video_pipeline.rs"]
mod video_pipeline;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/word_count.rs"]
mod word_count;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/work_queue.rs"]
mod work_queue;

pub(crate) fn told(name: &str, story: seedpod::Result<String>) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/examples").join(name).with_extension("txt");
    let story = story.unwrap() + "\n";
    if std::env::var_os("SEEDPOD_RECORD").is_some() {
        fs::write(&path, &story).unwrap();
    }
    assert_eq!(story, fs::read_to_string(&path).unwrap_or_default(), "{}", path.display());
}

#[test]
fn adapter_tells_its_story() {
    told("adapter", adapter::story());
}

#[test]
fn replicas_tells_its_story() {
    told("replicas", replicas::story());
}

#[test]
fn sticky_tells_its_story() {
    told("sticky", sticky::story());
}

#[test]
fn cache_tells_its_story() {
    told("cache", cache::story());
}

#[test]
fn rebalance_tells_its_story() {
    told("rebalance", rebalance::story());
}

#[test]
fn shards_tells_its_story() {
    told("shards", shards::story());
}

#[test]
fn pub_sub_tells_its_story() {
    told("pub_sub", pub_sub::story());
}

#[test]
fn request_reply_tells_its_story() {
    told("request_reply", request_reply::story());
}

#[test]
fn word_count_tells_its_story() {
    told("word_count", word_count::story());
}

#[test]
fn work_queue_tells_its_story() {
    told("work_queue", work_queue::story());
}

#[test]
fn scheduled_jobs_tells_its_story() {
    told("scheduled_jobs", scheduled_jobs::story());
}

#[test]
fn autoscale_tells_its_story() {
    told("autoscale", autoscale::story());
}

#[test]
fn container_per_item_tells_its_story() {
    told("container_per_item", container_per_item::story());
}

#[test]
fn reconcile_tells_its_story() {
    told("reconcile", reconcile::story());
}

#[test]
fn pod_tells_its_story() {
    told("pod", pod::story());
}

#[test]
fn resilience_tells_its_story() {
    told("resilience", resilience::story());
}

#[test]
fn overload_tells_its_story() {
    told("overload", overload::story());
}

#[test]
fn scatter_gather_tells_its_story() {
    told("scatter_gather", scatter_gather::story());
}

#[test]
fn scatter_tree_tells_its_story() {
    told("scatter_tree", scatter_tree::story());
}

#[test]
fn copier_tells_its_story() {
    told("copier", copier::story());
}

#[test]
fn filter_tells_its_story() {
    told("filter", filter::story());
}

#[test]
fn join_tells_its_story() {
    told("join", join::story());
}

#[test]
fn merger_tells_its_story() {
    told("merger", merger::story());
}

#[test]
fn reduce_tells_its_story() {
    told("reduce", reduce::story());
}

#[test]
fn sharder_tells_its_story() {
    told("sharder", sharder::story());
}

#[test]
fn splitter_tells_its_story() {
    told("splitter", splitter::story());
}

#[test]
fn video_pipeline_tells_its_story() {
    told("video_pipeline", video_pipeline::story());
}
