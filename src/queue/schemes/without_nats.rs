//! NATS JetStream, which this build leaves out.

use crate::base::Result;
use crate::queue::Broker;
use std::sync::Arc;

pub(super) fn nats(_url: &str) -> Result<Arc<dyn Broker>> {
    super::unsupported("this broker needs the feature nats of seedpod")
}
