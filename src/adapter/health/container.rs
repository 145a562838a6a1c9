//! The container: checks, and answers as Kubernetes and gRPC ask.

use super::{
    answer,
    board::{Board, Role},
};
use crate::{
    base::{
        Deadline, Error, Kind, Result,
        sync::Arc,
        time::{self, now},
    },
    pod::{Checked, Container, Context, Probe, Prober, check},
};
use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use std::panic::AssertUnwindSafe;
use tokio::sync::watch;

/// Gives an application the health interface that all others have: a container beside it.
///
/// ```text
///   kubelet, balancer ── GET /healthz, /readyz ─> adapter ── PING, a path, a file's age, a function ──> application
///   gRPC client ── grpc.health.v1.Health ──────────^
/// ```
///
/// 1. Each check runs at its own pace, with its own thresholds: those of its [`Probe`], which are Kubernetes' by default.
/// 2. `GET /healthz` and `/livez` are 200 while all [`live`](HealthAdapter::live) checks pass, `/readyz` while the
///    [`ready`](HealthAdapter::ready) ones do, too; else 503, with a line for each check, in the manner of Kubernetes' own
///    servers (`?verbose` shows them in any case). `/readyz/redis` is that of one check.
/// 3. `grpc.health.v1.Health` on the same port: the empty name is all together, else the name of a check. `Check` of an unknown
///    one is `NOT_FOUND`; `Watch` says each change, and `SERVICE_UNKNOWN` of an unknown one.
/// 4. Asked to stop, it is not ready any more, says so to those who watch, and ends.
///
/// ```
/// use seedpod::adapter::{HealthAdapter, health};
/// use seedpod::pod::{ContainerSpec, Probe};
/// use std::time::Duration;
/// let adapter = HealthAdapter::new(8086)
///     .live("redis", health::says(6379, "PING\r\n", "+PONG"))
///     .ready("loaded", health::fresh("shared", "loaded", Duration::from_secs(60)))
///     .ready("port", Probe::tcp(6380).failures(1));
/// let container = ContainerSpec::new("health", adapter).port(8086).mount("shared", "/shared");
/// ```
///
/// # Guarantees
/// - Alive until a check has failed as often as its threshold says, ready only once each has passed.
/// - A check that hangs fails at its time-out, one that panics fails; others are not held up.
///
/// # Errors
/// Two checks of one name, or one without, end it with [`Kind::Invalid`]. Without the feature `http` it ends with [`Kind::Unsupported`]; its checks work in any [`Probe`] all the same. A check that
/// cannot be made at all (a feature that is off) counts neither way.
#[derive(Clone, Debug)]
#[must_use = "it is a container: a pod has to run it"]
pub struct HealthAdapter {
    port: u16,
    checks: Arc<[(String, Role, Probe)]>,
}

impl HealthAdapter {
    /// Answers on this port; without a check, always well.
    pub fn new(port: u16) -> Self {
        HealthAdapter { port, checks: Arc::new([]) }
    }

    /// A check of whether the application is alive. What is not alive is not ready.
    pub fn live(self, name: impl Into<String>, probe: Probe) -> Self {
        self.check(name.into(), Role::Live, probe)
    }

    /// A check of whether it may get traffic.
    pub fn ready(self, name: impl Into<String>, probe: Probe) -> Self {
        self.check(name.into(), Role::Ready, probe)
    }

    /// A name stands for one check, and none for all together.
    fn check_names(&self) -> Result {
        let mut names: Vec<_> = self.checks.iter().map(|(name, ..)| name).collect();
        names.sort_unstable();
        match names.is_sorted_by(|before, after| before < after) && names.first().is_none_or(|name| !name.is_empty()) {
            true => Ok(()),
            false => Err(Error::new(Kind::Invalid, "each check needs a name of its own").at("health adapter")),
        }
    }

    fn check(self, name: String, role: Role, probe: Probe) -> Self {
        let checks = self.checks.iter().cloned().chain([(name, role, probe)]).collect();
        HealthAdapter { checks, ..self }
    }
}

impl Container for HealthAdapter {
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        let adapter = self.clone();
        Box::pin(async move {
            adapter.check_names()?;
            let board = Board::new(adapter.checks.iter().map(|(name, role, _)| (name.as_str(), *role)));
            let board = watch::Sender::new(board);
            let each = adapter.checks.iter().enumerate();
            let checks = each.map(|(index, (_, _, probe))| repeat(index, probe, &board, &context));
            tokio::select! {
                biased;
                served = answer(&context, adapter.port, &board) => served,
                never = join_all(checks), if !adapter.checks.is_empty() => drop_all(never),
            }
        })
    }
}

/// Checks do not end.
fn drop_all(_: Vec<()>) -> Result {
    Ok(())
}

/// Makes a check again and again.
async fn repeat(index: usize, probe: &Probe, board: &watch::Sender<Board>, context: &Context) {
    let mut prober = Prober::new(probe, now());
    loop {
        if let Some(next) = prober.deadline() {
            time::sleep_until(next).await;
        }
        if !prober.begin(probe, now()) {
            continue;
        }
        let checked = AssertUnwindSafe(check(&probe.check, context)).catch_unwind();
        let checked = Deadline::within(probe.timeout).bound(checked).await;
        let (outcome, said) = match checked {
            Ok(Ok(Ok(()))) => (Checked::Success, String::new()),
            Ok(Ok(Err(error))) if error.kind() == Kind::Unsupported => (Checked::Unknown, error.chain()),
            Ok(Ok(Err(error))) => (Checked::Failure, error.chain()),
            Ok(Err(_)) => (Checked::Failure, "the check panicked".into()),
            Err(_) => (Checked::Failure, format!("no answer within {:?}", probe.timeout)),
        };
        prober.record(probe, outcome);
        board.send_if_modified(|board| board.record(index, prober.passing(), said));
    }
}
