//! The broker on a real RabbitMQ: every promise of the conformance suite, strangers, limits, wrong servers, and a server
//! that is killed and paused under load.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "a real server runs on the real clock")]

#[path = "amqp/faults.rs"]
mod faults;
#[path = "amqp/promises.rs"]
mod promises;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../../examples/rabbitmq_queue.rs"]
mod rabbitmq_queue;
#[path = "amqp/wrong.rs"]
mod wrong;
