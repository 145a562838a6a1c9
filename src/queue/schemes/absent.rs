//! Brokers that this build leaves out.

#![allow(dead_code, reason = "with the feature of a broker, nobody asks for its error")]

use crate::base::{Error, Kind, Result};
use crate::queue::Broker;
use std::sync::Arc;

pub(super) fn amqp(_url: &str) -> Result<Arc<dyn Broker>> {
    left_out("amqp")
}

pub(super) fn durable(_url: &str) -> Result<Arc<dyn Broker>> {
    left_out("durable")
}

pub(super) fn nats(_url: &str) -> Result<Arc<dyn Broker>> {
    left_out("nats")
}

fn left_out(feature: &str) -> Result<Arc<dyn Broker>> {
    Err(Error::new(Kind::Unsupported, format!("this broker needs the feature {feature} of seedpod")))
}
