//! The checks themselves. Those of a container run in its scope and die with it; who asks bounds their time.

use super::{Check, get, health};
use crate::{
    base::{Error, Kind, Result},
    net::Host,
    pod::Context,
};

/// Where a check goes to.
pub(super) struct Target {
    /// Who asks.
    pub(super) host: Host,
    /// `host:port`.
    pub(super) authority: String,
    /// How errors name it.
    pub(super) place: String,
}

impl Target {
    /// From within the pod: an intercepting proxy stays out of it.
    fn inside(context: &Context, port: u16) -> Self {
        Target { host: context.host().exempt(), authority: format!("localhost:{port}"), place: format!("port {port}") }
    }
}

/// Makes the check once.
pub(crate) async fn run(check: &Check, context: &Context) -> Result {
    match check {
        Check::Exec(command) => exec(command, context).await,
        Check::Function(function) => function(context.clone()).await,
        Check::Reported => Ok(()), // it takes effect when it is reported, and is not made
        Check::Tcp(port) | Check::Http { port, .. } | Check::Grpc { port, .. } => {
            over(check, &Target::inside(context, *port)).await
        }
    }
}

pub(super) async fn over(check: &Check, target: &Target) -> Result {
    match check {
        Check::Tcp(_) => target.host.connect(&target.authority).await.map(drop),
        Check::Http { path, headers, .. } => get(target, path, headers).await,
        Check::Grpc { service, .. } => health(target, service).await,
        Check::Exec(_) | Check::Function(_) | Check::Reported => {
            Err(Error::new(Kind::Unsupported, format!("{check:?} is made inside of a container")))
        }
    }
}

async fn exec(command: &[String], context: &Context) -> Result {
    let output = context.0.image.exec(context.clone(), command.to_vec()).await?;
    if output.exit_code == 0 {
        return Ok(());
    }
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    let said = String::from_utf8_lossy(said.get(..said.len().min(SAID_MAX)).unwrap_or_default());
    let message = format!("exit code {}: {}", output.exit_code, said.trim());
    Err(Error::new(Kind::Failed, message).at(command.join(" ")))
}

/// How much of what a failed command said goes into the status: as much as Kubernetes takes of a probe's output.
const SAID_MAX: usize = 10 * 1024;
