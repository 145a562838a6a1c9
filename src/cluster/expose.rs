//! A real TCP port in front of a service.

use super::{Cluster, object::Kind, reference::Reference};
use crate::{
    base::{self, Error, Result},
    net::{Connection, Host},
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::Semaphore,
};

/// How many connections go through one exposed port at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;

/// How much is taken from one side before it is given to the other.
const CHUNK: usize = 16 * 1024;

impl Cluster {
    /// Puts a real TCP port in front of a service, so that browsers and curl reach it: `frontend`, `shop/frontend`, with
    /// a port where it has several (`frontend:8080`). Returns the address that is listened on; port 0 takes a free one.
    ///
    /// Each connection goes to one of the ready pods. What one side ends in order, the other sees ended in order; a reset
    /// stays a reset; where no pod is ready, the connection is reset. At most 1,024 at once, further ones wait. It lasts
    /// as long as the cluster.
    ///
    /// # Errors
    /// [`NotFound`](base::Kind::NotFound) where there is no such service; [`Invalid`](base::Kind::Invalid) where it has
    /// several ports and none was named; what the system says of the address.
    pub async fn expose(&self, service: &str, address: impl ToSocketAddrs) -> Result<SocketAddr> {
        let (name, port) = match service.rsplit_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (service, None),
        };
        let reference = Reference::of(Kind::SERVICE, name)?;
        let object = self.0.plane.get(&reference.key()).ok_or_else(|| super::handle::missing(&reference))?.value;
        let ports = &object.view::<super::object::ServiceSpec>()?.ports;
        let port = match (port, ports.as_slice()) {
            (Some(text), _) => ports.iter().find(|it| it.name == text || it.port.to_string() == text).map(|it| it.port),
            (None, [only]) => Some(only.port),
            (None, _) => None,
        };
        let unclear = || Error::new(base::Kind::Invalid, "say which of the service's ports").at(service);
        let port = port.ok_or_else(unclear)?;
        let target = format!("{}.{}.svc.cluster.local.:{port}", reference.name, reference.namespace);
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        let host = self.0.client.scoped(self.0.scope.clone());
        self.0.scope.spawn(accept(listener, host, target.into()));
        Ok(local)
    }
}

async fn accept(listener: TcpListener, host: Host, target: Arc<str>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (host, target) = (host.clone(), target.clone());
                host.clone().scope().spawn(async move {
                    forward(stream, &host, &target).await;
                    drop(slot);
                });
            }
            // of one connection, or of too many open files: neither ends the port
            Err(_) => base::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn forward(mut outside: TcpStream, host: &Host, target: &str) {
    let _ = outside.set_nodelay(true);
    let Ok(mut inside) = host.connect(target).await else { return reset(&outside) };
    match pump(&mut outside, &mut inside).await {
        Ok(()) => {}
        Err(_) => {
            reset(&outside);
            inside.reset();
        }
    }
}

/// Makes the end of a connection a reset: what is unsent is dropped.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Both directions, each ended in order when its source ends; an error of either ends both.
async fn pump(outside: &mut TcpStream, inside: &mut Connection) -> io::Result<()> {
    let (mut from_outside, mut to_outside) = outside.split();
    let (mut from_inside, mut to_inside) = tokio::io::split(inside);
    let there = copy(&mut from_outside, &mut to_inside);
    let back = copy(&mut from_inside, &mut to_outside);
    futures::future::try_join(there, back).await.map(|_| ())
}

async fn copy(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = from.read(&mut chunk).await?;
        match chunk.get(..count) {
            Some(bytes) if count > 0 => to.write_all(bytes).await?,
            _ => return to.shutdown().await,
        }
        to.flush().await?;
    }
}
