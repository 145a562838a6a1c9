//! net: the same promises in memory and over TCP.

mod kill;
mod memory;
mod names;
mod replay;
mod streams;

use seedpod::net::{Connection, Host, HostOptions, Net};

fn host(net: &Net, name: &str) -> Host {
    net.host(HostOptions { name: name.into(), ..Default::default() }).unwrap()
}

/// Both ends of a connection from one host to another.
async fn pair(from: &Host, to: &Host) -> (Connection, Connection) {
    let mut listener = to.listen(0).await.unwrap();
    let here = from.connect(&listener.local_addr().to_string()).await.unwrap();
    (here, listener.accept().await.unwrap())
}
