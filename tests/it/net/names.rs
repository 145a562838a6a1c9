//! Names and virtual addresses: what the directory is asked, and what it may answer.

use super::host;
use seedpod::{
    base::{Answer, Error, Kind, Result},
    net::{Directory, HostOptions, Net, Origin, Route},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering::Relaxed},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// `cart.shop` is a service: a virtual address with one endpoint behind it, perhaps.
struct Services {
    endpoint: Option<SocketAddr>,
    in_flight: Arc<AtomicUsize>,
}

struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

const VIRTUAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1));

impl Directory for Services {
    fn resolve<'a>(&'a self, from: &'a Origin, name: &'a str) -> Answer<'a, Vec<IpAddr>> {
        match from.candidates(name).any(|name| name == "cart.shop") {
            true => Answer::ok(vec![VIRTUAL]),
            false => Answer::now(Err(Kind::NotFound.into())),
        }
    }

    fn route(&self, _: &Origin, to: SocketAddr) -> Result<Route> {
        if to.ip() != VIRTUAL {
            return Ok(Route::Direct);
        }
        let address = self.endpoint.ok_or_else(|| Error::new(Kind::Unavailable, "no endpoint"))?;
        self.in_flight.fetch_add(1, Relaxed);
        Ok(Route::To { address, guard: Some(Box::new(InFlight(self.in_flight.clone()))) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_virtual_address_leads_to_an_endpoint_and_counts_it() {
    let in_flight = Arc::new(AtomicUsize::new(0));
    let endpoint = Some("10.0.0.1:7070".parse().unwrap());
    let net = Net::memory().directory(Services { endpoint, in_flight: in_flight.clone() }).build();
    let server = host(&net, "server");
    let client = net.host(HostOptions { search: vec!["shop".into()], ..Default::default() }).unwrap();
    let mut listener = server.listen(7070).await.unwrap();
    let mut here = client.connect("cart:80").await.unwrap();
    let mut there = listener.accept().await.unwrap();
    assert_eq!(here.peer_addr().to_string(), "10.96.0.1:80");
    assert_eq!(there.local_addr().to_string(), "10.0.0.1:7070");
    here.write_u8(7).await.unwrap();
    assert_eq!(there.read_u8().await.unwrap(), 7);
    assert_eq!(in_flight.load(Relaxed), 1);
    drop(here);
    assert_eq!(in_flight.load(Relaxed), 0);
    drop(listener);
    client.connect("cart:80").await.unwrap_err();
    assert_eq!(in_flight.load(Relaxed), 0, "nor does a refused one count");
}

#[tokio::test(start_paused = true)]
async fn the_directory_is_asked_with_the_search_list_and_its_refusal_has_a_place() {
    let net = Net::memory().directory(Services { endpoint: None, in_flight: Arc::default() }).build();
    let (plain, searching) =
        (host(&net, "a"), net.host(HostOptions { search: vec!["shop".into()], ..Default::default() }).unwrap());
    assert_eq!(plain.resolve("cart").await.unwrap_err().to_string(), "cart: not found");
    assert_eq!(searching.resolve("cart").await.unwrap(), [VIRTUAL]);
    assert_eq!(plain.resolve("cart.shop").await.unwrap(), [VIRTUAL]);
    assert_eq!(searching.resolve("cart.").await.unwrap_err().kind(), Kind::NotFound);
    let refused = searching.connect("cart:80").await.unwrap_err();
    assert_eq!(refused.to_string(), "10.96.0.1:80: unavailable: no endpoint");
}

#[tokio::test(start_paused = true)]
async fn without_a_directory_hosts_are_known_by_name_and_all_are_tried() {
    let net = Net::memory().build();
    let (one, two, client) = (host(&net, "db"), host(&net, "db"), host(&net, ""));
    assert_eq!(client.resolve("db").await.unwrap(), [one.ip(), two.ip()]);
    assert_eq!(client.resolve("localhost").await.unwrap(), [client.ip()]);
    assert_eq!(client.resolve("10.1.2.3").await.unwrap(), [IpAddr::from([10, 1, 2, 3])]);
    let _listener = two.listen(5432).await.unwrap();
    let connection = client.connect("db:5432").await.unwrap();
    assert_eq!(connection.peer_addr().ip(), two.ip(), "the first refused");
    assert_eq!(client.connect("nobody:1").await.unwrap_err().to_string(), "nobody: not found: no such host");
}

#[tokio::test]
async fn over_tcp_the_system_is_asked_last_and_the_machine_itself_is_a_host() {
    let net = Net::tcp().build();
    let machine = net.host(HostOptions { ip: Some([0, 0, 0, 0].into()), ..Default::default() }).unwrap();
    let mut listener = machine.listen(0).await.unwrap();
    let port = listener.local_addr().port();
    let connection = machine.connect(&format!("localhost:{port}")).await.unwrap();
    assert_eq!(listener.accept().await.unwrap().peer_addr(), connection.local_addr());
    assert_eq!(connection.peer_addr().ip(), IpAddr::from([127, 0, 0, 1]));
}
