//! The checks themselves. They run in the container's scope and die with it; who asks bounds their time.

use super::{Check, get, health};
use crate::{
    base::{Error, Kind, Result},
    pod::Context,
};

/// Makes the check once.
pub(crate) async fn run(check: &Check, context: &Context) -> Result {
    match check {
        Check::Exec(command) => exec(command, context).await,
        Check::Function(function) => function(context.clone()).await,
        Check::Reported => Ok(()), // it takes effect when it is reported, and is not made
        // from within the pod: an intercepting proxy stays out of it
        Check::Tcp(port) => context.host().exempt().connect(&format!("localhost:{port}")).await.map(drop),
        Check::Http { port, path, headers } => get(context, *port, path, headers).await,
        Check::Grpc { port, service } => health(context, *port, service).await,
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
