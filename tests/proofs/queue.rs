//! Queues under faults: worlds of publishers, workers and brokers behind faulty wires, held to a model of the broker and
//! to what the layers above it promise.
//!
//! - [`seam`]: the broker trait itself and the pump, with batches, parts, states that conflict, topics that are full
//! - [`jobs`]: all that stands above: typed jobs, unique keys, cancelling, results, quarantine, redrive, request and
//!   reply, a container per item; each fault must meet each feature
//! - [`wire`]: between a process and its broker: loses, delays, doubles and reorders calls and answers, and is cut
//! - [`witness`], [`model`]: what the broker was asked and answered, and whether that may be
//! - [`process`]: what is killed, frozen and started again

mod features;
mod jobs;
mod model;
mod process;
mod record;
mod seam;
mod wire;
mod witness;
