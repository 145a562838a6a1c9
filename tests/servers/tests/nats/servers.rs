//! Which servers there are, and how they are started.

use seedpod::queue::Nats;
use seedpod_server_tests::Server;
use std::{path::PathBuf, process::Command, time::Duration};

/// Debian's nats-server; the newer one, from a folder that the gate fills, or wherever `SEEDPOD_NATS_SERVER` says.
pub fn programs() -> Vec<PathBuf> {
    let newer = std::env::var_os("SEEDPOD_NATS_SERVER")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/servers/nats-server"));
    let mut programs = vec![PathBuf::from("nats-server")];
    if newer.exists() {
        programs.push(newer);
    } else {
        println!("{} is not there: only Debian's nats-server is tested", newer.display());
    }
    programs
}

/// A server of this program, with JetStream.
pub fn start(program: PathBuf) -> Server {
    start_with(program, &["-js"])
}

/// A server of this program, with these arguments.
pub fn start_with(program: PathBuf, arguments: &'static [&'static str]) -> Server {
    Server::start(Duration::from_secs(20), move |port, folder| {
        let mut command = Command::new(&program);
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-sd"]).arg(folder).args(arguments);
        command
    })
}

pub fn url(server: &Server) -> String {
    format!("nats://127.0.0.1:{}", server.port())
}

pub async fn connect(server: &Server) -> Nats {
    Nats::connect(url(server)).await.unwrap_or_else(|error| panic!("{}\n{}", error.chain(), server.log()))
}
