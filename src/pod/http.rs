//! HTTP for containers.

use super::Context;
use crate::http::Client;

impl Context {
    /// An HTTP client on the pod's network, with a pool of its own: make one and keep it. Its connections and tasks die
    /// with the container.
    pub fn http(&self) -> Client {
        Client::new(self.host())
    }
}
