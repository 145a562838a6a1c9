//! The table in the documentation of `queue`, with the columns of all brokers. `SEEDPOD_RECORD=1` writes it anew.

use seedpod::queue::{Amqp, Durable, Guarantees, Memory, Nats};
use std::{env, fs, path::PathBuf};

#[test]
fn the_table_in_the_documentation_is_what_all_brokers_say() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../src/queue/brokers.md");
    let all = [Memory::GUARANTEES, Durable::GUARANTEES, Nats::GUARANTEES, Amqp::GUARANTEES];
    let table = Guarantees::table(&all);
    if env::var_os("SEEDPOD_RECORD").is_some() {
        fs::write(&path, &table).expect("the table is written");
    }
    assert_eq!(fs::read_to_string(&path).expect("the table is there"), table);
    for broker in all {
        assert!(broker.emulated.iter().all(|(row, _)| Guarantees::is_row(row)), "{}", broker.name);
    }
}
