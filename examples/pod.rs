//! A pod: an application and its helper share localhost and a volume; what fails is restarted.
//!
//! ```text
//! cargo run --example pod
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Error, Kind,
    base::{Seed, time},
    net::{Connection, Net},
    pod::{ContainerSpec, Context, Pod, PodSpec, Volume, serve},
};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::service_fn;

fn main() -> seedpod::Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time and one seed, so that it always tells the same.
pub(crate) fn story() -> seedpod::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let _simulation = Seed::new(7).simulate();
    runtime.block_on(tell())
}

/// Answers whoever connects with a line.
fn greeter() -> impl seedpod::pod::Container {
    serve(
        80,
        service_fn(|mut connection: Connection| async move {
            connection.write_all(b"hello").await?;
            connection.shutdown().await
        }),
    )
}

/// Calls its neighbour over localhost, leaves the answer in the shared volume, and fails the first time.
async fn caller(context: Context) -> Result<(), Error> {
    let volume = context.volume("shared")?;
    if volume.list("")?.is_empty() {
        volume.write("tried", "once")?;
        context.log("the first try fails");
        return Err(Error::new(Kind::Failed, "a mistake"));
    }
    let mut answer = String::new();
    context.connect("localhost:80").await?.read_to_string(&mut answer).await?;
    context.log(format!("the neighbour says {answer}"));
    volume.write("answer", answer)?;
    context.stopped().await;
    context.log("asked to stop, and stopping");
    Ok(())
}

async fn tell() -> seedpod::Result<String> {
    let net = Net::memory().build();
    let spec = PodSpec::new("pair")
        .volume("shared", Volume::memory())
        .container(ContainerSpec::new("greeter", greeter()))
        .container(ContainerSpec::new("caller", caller).mount("shared", "/shared"));
    let pod = Pod::start(spec, &net)?;
    time::sleep(Duration::from_secs(30)).await;

    let mut story = vec![format!("pod {} at {} is {:?}", pod.name(), pod.ip(), pod.status().phase)];
    for container in pod.status().containers {
        story.push(format!("{}: ready {}, restarts {}", container.name, container.ready, container.restarts));
    }
    story.extend(pod.previous_logs("caller").iter().map(|line| format!("before the restart: {}", line.text)));
    let phase = pod.stop(Duration::from_secs(10)).await;
    story.extend(pod.logs("caller").iter().map(|line| format!("after it: {}", line.text)));
    story.push(format!("stopped: {phase:?}"));
    Ok(story.join("\n"))
}
