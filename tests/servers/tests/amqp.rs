//! The broker on a real RabbitMQ: every promise of the conformance suite, strangers, limits, wrong servers, and a server
//! that is killed and paused under load.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "a real server runs on the real clock")]

#[allow(dead_code, reason = "a test calls its measurement, not its main")]
#[path = "../../../benches/peers/src/bin/amqp.rs"]
mod beside_lapin;
#[path = "amqp/faults.rs"]
mod faults;
#[path = "amqp/promises.rs"]
mod promises;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../../examples/rabbitmq_queue.rs"]
mod rabbitmq_queue;
#[path = "amqp/wrong.rs"]
mod wrong;

/// What the program of the peers prints, with whatever this build is: for the reader, and so that it keeps compiling.
#[test]
#[ignore = "it measures"]
fn beside_the_client_that_it_is_made_of() {
    beside_lapin::report(3).unwrap();
}
