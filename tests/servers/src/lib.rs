//! A server as a process of ours: it begins on a free port of the loopback with a folder of its own, can be paused,
//! killed and begun again on the same port and folder, and ends, exactly it, when its handle is dropped.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real server runs on the real clock")]
#![allow(clippy::type_complexity, reason = "a closure in a box")]

pub mod rabbit;
pub mod total;

use std::{
    fs::File,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A server process, its port and its folder.
pub struct Server {
    port: u16,
    folder: TempDir,
    command: Box<dyn Fn(u16, &Path) -> Command + Send + Sync>,
    patience: Duration,
    child: Option<Child>,
}

impl Server {
    /// Begins what `command` makes of a free port and an empty folder, and waits until the port answers.
    ///
    /// # Panics
    /// Where the program is not there, ends at once, or does not answer within `patience`; with the end of its log.
    pub fn start(patience: Duration, command: impl Fn(u16, &Path) -> Command + Send + Sync + 'static) -> Server {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut server = Server { port: free_port(), folder, command: Box::new(command), patience, child: None };
        server.begin();
        server
    }

    /// The port that it listens at, on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Begins it again, after [`kill`](Server::kill).
    pub fn begin(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.folder().join("log")).expect("its log");
        let mut command = (self.command)(self.port, self.folder.path());
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("its log")).stderr(log);
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}; install it")));
        let (address, began) = (SocketAddr::from(([127, 0, 0, 1], self.port)), Instant::now());
        while TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            let late = began.elapsed() > self.patience;
            assert!(ended.is_none() && !late, "{name} does not answer at {address} ({ended:?}): {}", self.log());
            sleep(Duration::from_millis(20));
        }
    }

    /// Ends it as a crash does (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Holds it where it is (SIGSTOP): its sockets stay open and silent.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.as_ref().is_ok_and(|status| status.success()), "signal {signal} to process {id}: {sent:?}");
    }

    /// The end of what it said.
    pub fn log(&self) -> String {
        let said = std::fs::read_to_string(self.folder().join("log")).unwrap_or_default();
        let lines: Vec<_> = said.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}
