//! The broker on a real RabbitMQ: every promise of the conformance suite, strangers, limits, wrong servers, and a server
//! that is killed and paused under load.

#[path = "amqp/faults.rs"]
mod faults;
#[path = "amqp/promises.rs"]
mod promises;
#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../../examples/rabbitmq_queue.rs"]
mod rabbitmq_queue;
#[path = "amqp/wrong.rs"]
mod wrong;
