//! The balancer as a process of its own, on loopback: it goes on answering while servers fall ill and end.
//!
//! The process is this test's own program, which holds the example.

#[allow(dead_code, reason = "a test calls what its main does")]
#[path = "../../examples/balancer.rs"]
mod example;

use http::{Request, Response};
use seedpod::{
    Error,
    base::{Deadline, time},
    http::{Body, Client, serve, text},
    net::{Host, HostOptions, Net},
};
use std::{
    collections::BTreeMap,
    env,
    future::IntoFuture,
    net::Ipv4Addr,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
};
use tower::service_fn;

const SECOND: Duration = Duration::from_secs(1);
const ARGUMENTS: &str = "SEEDPOD_BALANCER_ARGUMENTS";

#[test]
#[ignore = "the example in a process of its own, started by other tests"]
fn as_a_process() {
    let Ok(arguments) = env::var(ARGUMENTS) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(example::run(arguments.split_whitespace().map(str::to_owned))).unwrap();
}

fn command(arguments: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "balancer::as_a_process", "--ignored", "--nocapture"]);
    command.env(ARGUMENTS, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// A server that says its name and who asked; ill, it refuses all but the probe.
struct Server {
    host: Host,
    address: String,
    ill: Arc<AtomicBool>,
}

async fn server(name: &'static str) -> Server {
    let host = Net::tcp().build().host(HostOptions::default()).unwrap();
    let listener = host.listen(0).await.unwrap();
    let (address, ill) = (listener.local_addr().to_string(), Arc::new(AtomicBool::new(false)));
    let is_ill = ill.clone();
    let service = service_fn(move |request: Request<Body>| {
        let well = request.uri().path() == "/healthz" || !is_ill.load(SeqCst);
        async move {
            if !well {
                time::sleep(SECOND / 3).await; // so that many are under way before the first is refused
            }
            let asked = request.headers().get("x-forwarded-for").and_then(|value| value.to_str().ok());
            Ok::<Response<Body>, Error>(match well {
                true => text(200, format!("{name} for {}", asked.unwrap_or("nobody"))),
                false => text(503, "ill"),
            })
        }
    });
    host.scope().spawn(serve(listener, service).into_future());
    Server { host, address, ill }
}

struct Balancer {
    process: Child,
    /// Held, since a process that says something to nobody ends.
    _lines: Lines<BufReader<ChildStdout>>,
    address: String,
    admin: String,
}

async fn balancer(servers: &[(&str, &Server)]) -> Balancer {
    let servers: Vec<_> = servers.iter().map(|(name, server)| format!("{name}={}", server.address)).collect();
    let arguments = format!("--listen 127.0.0.1:0 --admin 127.0.0.1:0 --probe /healthz {}", servers.join(" "));
    let mut process = command(&arguments).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut said = BTreeMap::new();
    while said.len() < 2 {
        let line = Deadline::within(30 * SECOND).bound(lines.next_line()).await.unwrap().unwrap().unwrap();
        if let Some((what, address)) = line.split_once(" on http://") {
            said.insert(what.to_owned(), address.to_owned());
        }
    }
    let (address, admin) = (said["balances"].clone(), said["explains itself"].clone());
    Balancer { process, _lines: lines, address, admin }
}

/// How many of so many requests each server answered; what is no success fails the test.
async fn serves(client: &Client, count: usize) -> BTreeMap<String, usize> {
    let mut by = BTreeMap::new();
    for _ in 0..count {
        let answer = client.get("/").await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        *by.entry(answer.into_body().text().await.unwrap()).or_default() += 1;
    }
    by
}

#[tokio::test]
async fn balancer_processes_answer_while_servers_fall_ill_and_end_and_say_who_is_out() {
    let (a, b, c) = (server("a").await, server("b").await, server("c").await);
    let Balancer { mut process, _lines, address, admin } = balancer(&[("a", &a), ("b", &b), ("c", &c)]).await;
    let machine = HostOptions { ip: Some(Ipv4Addr::UNSPECIFIED.into()), ..Default::default() };
    let host = Net::tcp().build().host(machine).unwrap(); // what it calls 127.0.0.1 is what everybody here does
    let client = Client::new(&host).base(&format!("http://{address}")).unwrap();
    let explains = Client::new(&host).base(&format!("http://{admin}")).unwrap();
    let page = async || explains.get("/").await.unwrap().into_body().text().await.unwrap();

    let by = serves(&client, 300).await;
    assert_eq!(by.keys().collect::<Vec<_>>(), ["a for 127.0.0.1", "b for 127.0.0.1", "c for 127.0.0.1"]);
    assert!(page().await.contains("0 of 3 out"), "{}", page().await);

    a.ill.store(true, SeqCst);
    // least pending asks the ill one as often as the others, but nobody says in which burst it fails five times in a row
    let ejected = Deadline::within(60 * SECOND).bound(async {
        loop {
            let burst = futures::future::join_all((0..60).map(|_| client.get("/"))).await;
            let succeeded = burst.iter().all(|answer| answer.as_ref().unwrap().status().is_success());
            assert!(succeeded, "who asked again got an answer");
            let said = page().await;
            if said.contains("a: ejected") {
                return said;
            }
        }
    });
    let said = ejected.await.expect("it is never ejected");
    assert!(said.contains("5 failures in a row"), "{said}");
    assert!(!serves(&client, 100).await.contains_key("a for 127.0.0.1"));

    b.host.scope().kill();
    assert_eq!(serves(&client, 100).await.keys().collect::<Vec<_>>(), ["c for 127.0.0.1"]);

    let id = process.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
    let status = Deadline::within(10 * SECOND).bound(process.wait()).await.expect("it runs on").unwrap();
    assert!(status.success(), "{status}");
    assert!(TcpStream::connect(&address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn balancer_processes_refuse_a_command_line_that_makes_no_sense() {
    for (arguments, says) in [
        ("a", "arguments: invalid: a is no name=address"),
        ("--listen", "arguments: invalid: --listen needs a value"),
        ("--listen here a=b:1", "arguments: invalid: here is no address"),
        ("a=b:1*many", "arguments: invalid: many is no weight of a"),
    ] {
        let output = command(arguments).output().await.unwrap();
        let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(says), "{arguments}: {told}");
    }
}
