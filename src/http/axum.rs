//! axum's listener trait, for those who want `axum::serve`. [`serve`](super::serve) takes an axum router as it is, and
//! repeats by the seed, which `axum::serve` does not.

use crate::net::{Connection, Listener};
use std::{io, net::SocketAddr};

impl ::axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    /// The trait cannot say that a listener has ended: one that was killed waits for ever, and `axum::serve` is dropped
    /// around it, since it belongs to the same scope.
    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match Listener::accept(self).await {
            Ok(connection) => {
                let peer = connection.peer_addr();
                (connection, peer)
            }
            Err(_) => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(Listener::local_addr(self))
    }
}
