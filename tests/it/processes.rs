//! The shop as a process of its own that is told to end, or killed: what it leaves is nothing.
//!
//! The process is this test's own program, which holds the example; `SEEDPOD_BOUTIQUE` names another, such as the
//! example built for release.

use seedpod::base::{Deadline, time};
use std::{
    env, fs,
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
};

/// How soon a process must be gone that was killed, and that was told to end.
const AT_ONCE: Duration = Duration::from_secs(2);
const IN_ORDER: Duration = Duration::from_secs(40);

struct Shop {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
}

impl Shop {
    /// A shop with shoppers in it, on a port that is free.
    async fn open() -> Shop {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        Shop::on(address).await
    }

    async fn on(address: SocketAddr) -> Shop {
        let arguments = format!("--seed 7 --seconds 120 --serve {address}");
        let mut command = match env::var_os("SEEDPOD_BOUTIQUE") {
            Some(program) => {
                let mut command = Command::new(program);
                command.args(arguments.split_whitespace());
                command
            }
            None => {
                let mut command = Command::new(env::current_exe().unwrap());
                command.args(["--exact", "boutique::as_a_process", "--ignored", "--nocapture"]);
                command.env(super::boutique::ARGUMENTS, arguments);
                command
            }
        };
        let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut shop = Shop { process, lines, address };
        shop.until("the shop is open on").await;
        let mut asking = TcpStream::connect(address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut asking, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        tokio::io::AsyncReadExt::read_u8(&mut asking).await.unwrap();
        shop.until("after 3 s").await; // in the middle of the show
        shop
    }

    /// Reads on until a line has this in it, or all have been read: all lines until then.
    async fn until(&mut self, text: &str) -> Vec<String> {
        let mut read = Vec::new();
        while let Some(line) = self.lines.next_line().await.unwrap() {
            let found = line.contains(text);
            read.push(line);
            if found {
                break;
            }
        }
        read
    }

    fn id(&self) -> u32 {
        self.process.id().unwrap()
    }

    async fn signal(&self, signal: &str) {
        assert!(Command::new("kill").arg(signal).arg(self.id().to_string()).status().await.unwrap().success());
    }

    /// What it still said, up to its summary, and how it ended; both within this time.
    async fn end(mut self, within: Duration) -> (Vec<String>, ExitStatus) {
        let end = async {
            let read = self.until("summary ").await;
            (read, self.process.wait().await.unwrap())
        };
        Deadline::within(within).bound(end).await.unwrap_or_else(|_| panic!("it runs on after {within:?}"))
    }
}

/// The processes that this one has started.
fn children(process: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let children = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
    children.flat_map(|ids| ids.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

async fn assert_nothing_is_left(process: u32, address: SocketAddr) {
    assert!(!fs::exists(format!("/proc/{process}")).unwrap(), "the process is still there");
    let error = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    drop(TcpListener::bind(address).await.expect("the port is free"));
}

#[tokio::test]
async fn processes_that_are_killed_leave_nothing() {
    let shop = Shop::open().await;
    let (process, address) = (shop.id(), shop.address);
    assert_eq!(children(process), [""; 0], "one process is the whole cluster");
    shop.signal("-KILL").await;
    let (read, status) = shop.end(AT_ONCE).await;
    assert_eq!(status.signal(), Some(9));
    assert!(!read.iter().any(|line| line.contains("summary ")), "{read:?}");
    assert_nothing_is_left(process, address).await;

    let mut again = Shop::on(address).await;
    let process = again.id();
    again.signal("-TERM").await;
    again.until("ending; once more").await;
    again.signal("-TERM").await;
    let (_, status) = again.end(AT_ONCE).await;
    assert_eq!(status.code(), Some(130), "told twice, it ends at once");
    assert_nothing_is_left(process, address).await;
}

#[tokio::test]
async fn processes_that_are_told_to_end_give_their_summary() {
    for signal in ["-TERM", "-INT"] {
        let shop = Shop::open().await;
        let (process, address) = (shop.id(), shop.address);
        let began = time::now();
        shop.signal(signal).await;
        let (read, status) = shop.end(IN_ORDER).await;
        println!("{signal}: over after {:.1} s", began.elapsed().as_secs_f64());
        assert!(status.success(), "{signal}: {status}, {read:#?}");
        let summary = read.last().unwrap();
        assert!(summary.starts_with("summary requests=") && summary.contains(" orders_lost=0 orders_doubled=0 "));
        assert_nothing_is_left(process, address).await;
    }
}
