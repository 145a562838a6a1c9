//! What the example prints is its test. `SEEDPOD_RECORD=1` writes the transcript anew.

use crate::servers;
use std::{fs, path::PathBuf};

#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../../../examples/nats_queue.rs"]
mod nats_queue;

#[tokio::test]
async fn nats_queue_tells_its_story() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../data/examples/nats_queue.txt");
    for program in servers::programs() {
        let server = servers::start(program);
        // a second run on the same server tells the same
        for _ in 0..2 {
            let told = nats_queue::story(&servers::url(&server)).await;
            let told = told.unwrap_or_else(|error| panic!("{}\n{}", error.chain(), server.log())) + "\n";
            if std::env::var_os("SEEDPOD_RECORD").is_some() {
                fs::write(&path, &told).unwrap();
            }
            assert_eq!(told, fs::read_to_string(&path).unwrap_or_default(), "{}", path.display());
        }
    }
}
