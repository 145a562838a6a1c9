//! A real TCP port in front of a service.

use super::{Cluster, object::Kind, reference::Reference};
use crate::{
    base::{self, Error, Result},
    net::{self, Connection, Host, HostOptions, Listener, Net},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    net::{ToSocketAddrs, lookup_host},
    sync::Semaphore,
};

/// How many connections go through one exposed port at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;

impl Cluster {
    /// Puts a real TCP port in front of a service, so that browsers and curl reach it: `frontend`, `shop/frontend`, with
    /// a port where it has several (`frontend:8080`). Returns the address that is listened on; port 0 takes a free one.
    ///
    /// Each connection goes to one of the ready pods, [spliced](net::splice) with one to it: what one side ends in order,
    /// the other sees ended in order; a reset stays a reset; where no pod is ready, the connection is reset. At most
    /// 1,024 at once, further ones wait. It lasts as long as the cluster.
    ///
    /// # Errors
    /// [`NotFound`](base::Kind::NotFound) where there is no such service; [`Invalid`](base::Kind::Invalid) where it has
    /// several ports and none was named; [`Unsupported`](base::Kind::Unsupported) under paused time; what the system says
    /// of the address.
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
        let listener = self.outside(address).await?;
        let local = listener.local_addr();
        let inside = self.0.client.scoped(self.0.scope.clone());
        self.0.scope.spawn(accept(listener, inside, target.into()));
        Ok(local)
    }

    /// Listens on the first of these addresses that can be listened on.
    async fn outside(&self, address: impl ToSocketAddrs) -> Result<Listener> {
        let mut failed = Error::new(base::Kind::Invalid, "the address stands for none");
        for address in lookup_host(address).await? {
            // a network of its own: that one address is exposed twice, on two ports, is no conflict
            let machine = Net::tcp().seed(self.0.plane.seed).backlog(CONNECTIONS_MAX).build();
            let host = machine.host(HostOptions { ip: Some(address.ip()), ..HostOptions::default() })?;
            match host.scoped(self.0.scope.clone()).listen(address.port()).await {
                Ok(listener) => return Ok(listener),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

async fn accept(mut listener: Listener, inside: Host, target: Arc<str>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        let Ok(outside) = listener.accept().await else { return };
        let (inside, target) = (inside.clone(), target.clone());
        inside.clone().scope().spawn(async move {
            forward(outside, &inside, &target).await;
            drop(slot);
        });
    }
}

async fn forward(outside: Connection, inside: &Host, target: &str) {
    match inside.connect(target).await {
        // how it ended, both sides have seen
        Ok(inside) => drop(net::splice(outside, inside).await),
        Err(_) => outside.reset(),
    }
}
