//! stub
use super::telemetry::Telemetry;
use super::table::Row;
use seedpod::{Result, http::Client};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const MANIFEST: &str = include_str!("shop.yaml");
pub(crate) const KEEPS_STATE: &str = "node-1";

pub(crate) struct PodView { pub(crate) name: String, pub(crate) node: String }
pub(crate) struct Shop { telemetry: Arc<Telemetry> }

impl Shop {
    pub(crate) fn telemetry(&self) -> &Arc<Telemetry> { &self.telemetry }
    pub(crate) fn http(&self) -> Client { todo!() }
    pub(crate) fn rows(&self) -> Result<Vec<Row>> { todo!() }
    pub(crate) fn restarts(&self) -> Result<u64> { todo!() }
    pub(crate) fn nodes(&self) -> Result<Vec<String>> { todo!() }
    pub(crate) fn pods(&self, _service: &str) -> Result<Vec<PodView>> { todo!() }
    pub(crate) async fn kill(&self, _pod: &str) -> Result { todo!() }
    pub(crate) async fn drain(&self, _node: &str) -> Result<usize> { todo!() }
    pub(crate) async fn apply(&self, _manifest: &str) -> Result { todo!() }
    pub(crate) async fn settled(&self, _within: Duration) -> Result { todo!() }
}
