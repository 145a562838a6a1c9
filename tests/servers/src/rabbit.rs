//! A RabbitMQ node as processes of ours, apart from any other on the machine: its own name, ports, folder, cookie and
//! its own port mapper (epmd), which would otherwise be shared by all nodes and outlive them.

use crate::{Server, free_port};
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// The script of the package; the one in the path wants to become another user.
const SCRIPT: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// A node takes its time to begin, more so on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// A RabbitMQ node.
pub struct Rabbit {
    /// Dropped before its port mapper.
    server: Server,
    _mapper: Mapper,
}

impl Rabbit {
    /// Begins a node of its own; `more` are lines of its configuration.
    ///
    /// # Panics
    /// Where RabbitMQ is not installed or does not begin.
    pub fn start(more: &str) -> Rabbit {
        let mapper = Mapper::start();
        let (mapper_port, more) = (mapper.port, more.to_string());
        let distribution = free_port();
        let server = Server::start(PATIENCE, move |port, folder| {
            let file = |name: &str, text: &str| {
                let path = folder.join(name);
                fs::write(&path, text).expect("its configuration");
                path
            };
            let configuration = format!(
                "listeners.tcp.1 = 127.0.0.1:{port}\nlog.file = false\nlog.console = true\n\
                 log.console.level = warning\ndisk_free_limit.absolute = 10MB\n{more}\n"
            );
            let mut command = Command::new(SCRIPT);
            command
                .env("HOME", folder)
                .env("ERL_EPMD_PORT", mapper_port.to_string())
                .env("ERL_EPMD_ADDRESS", "127.0.0.1")
                // the shell becomes the node, so that what is killed is the node
                .env("RABBITMQ_ALLOW_INPUT", "1")
                .env("RABBITMQ_NODENAME", format!("seedpod-{port}@localhost"))
                .env("RABBITMQ_DIST_PORT", distribution.to_string())
                .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
                .env("RABBITMQ_LOG_BASE", folder.join("logs"))
                .env("RABBITMQ_LOGS", "-")
                .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf", &configuration))
                .env("RABBITMQ_CONF_ENV_FILE", file("rabbitmq-env.conf", ""))
                .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins", "[]."))
                .env("RABBITMQ_PID_FILE", folder.join("pid"))
                .env(
                    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                    "-noinput -start_epmd false +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
                );
            command
        });
        Rabbit { server, _mapper: mapper }
    }

    /// Where it is, for its user `guest`.
    pub fn url(&self) -> String {
        format!("amqp://127.0.0.1:{}", self.server.port())
    }

    /// The node's process: killed, paused and begun again.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// An epmd of its own.
struct Mapper {
    port: u16,
    child: Child,
}

impl Mapper {
    fn start() -> Mapper {
        let port = free_port();
        let mut command = Command::new("epmd");
        command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
        command.current_dir(Path::new("/")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("epmd does not start: {error}; install RabbitMQ"));
        let (address, began) = (SocketAddr::from(([127, 0, 0, 1], port)), Instant::now());
        while TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "epmd does not answer at {address}");
            sleep(Duration::from_millis(20));
        }
        Mapper { port, child }
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
