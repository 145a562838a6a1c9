//! Checks that a probe of Kubernetes has no word for.

use crate::{
    base::{
        Error, Kind, hash,
        sync::{Arc, Lock},
        time::{Instant, now},
    },
    pod::{Context, Probe},
};
use bytes::Bytes;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How much of an answer is read.
const ANSWER_BYTES_MAX: usize = 1024;

/// An application that answers in a text protocol of its own: this is said on this port, and the answer must begin so.
///
/// Redis: `says(6379, "PING\r\n", "+PONG")`; ZooKeeper: `says(2181, "ruok", "imok")`; a mail server, which speaks first:
/// `says(25, "", "220 ")`. Pace and thresholds are those of any [`Probe`].
///
/// ```
/// use seedpod::adapter::health;
/// use std::time::Duration;
/// let redis = health::says(6379, "PING\r\n", "+PONG").period(Duration::from_secs(5));
/// ```
pub fn says(port: u16, say: impl Into<Bytes>, expect: impl Into<Bytes>) -> Probe {
    let (say, expect) = (say.into(), expect.into());
    Probe::function(move |context: Context| {
        let (say, expect) = (say.clone(), expect.clone());
        async move {
            let place = format!("port {port}");
            let target = format!("localhost:{port}");
            let mut connection = context.host().exempt().connect(&target).await?;
            connection.write_all(&say).await?;
            let mut answer = Vec::new();
            let mut piece = [0; ANSWER_BYTES_MAX];
            // to the end of a line, so that an error can be told whole
            while !answer.starts_with(&expect) && !answer.contains(&b'\n') && answer.len() < ANSWER_BYTES_MAX {
                match connection.read(&mut piece).await? {
                    0 => break,
                    length => answer.extend_from_slice(piece.get(..length).unwrap_or_default()),
                }
            }
            if answer.starts_with(&expect) {
                return Ok(());
            }
            let line = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let line = line.get(..line.len().min(ANSWER_BYTES_MAX)).unwrap_or_default();
            let said = String::from_utf8_lossy(line);
            let message =
                if answer.is_empty() { "it says nothing".into() } else { format!("it says {:?}", said.trim()) };
            Err(Error::new(Kind::Failed, message).at(place))
        }
    })
}

/// An application that writes a file as a sign of life: it must not be older than this.
///
/// The age is counted from when the file was last seen to change: its content, or in a volume that is a directory its time of
/// change. So a file that is found is fresh, and one that is not is a failure at once. Write something new each time: in
/// memory, the same content is no change.
///
/// The probe has a memory: each clone has the same one.
///
/// ```
/// use seedpod::adapter::health;
/// use std::time::Duration;
/// let batch = health::fresh("shared", "heartbeat", Duration::from_secs(60)).failures(1);
/// ```
pub fn fresh(volume: impl Into<String>, path: impl Into<String>, age_max: Duration) -> Probe {
    type Seen = (u64, Option<SystemTime>, Instant);
    let (volume, path): (String, String) = (volume.into(), path.into());
    let seen: Arc<Lock<Option<Seen>>> = Arc::default();
    Probe::function(move |context: Context| {
        let look = || {
            let volume = context.volume(&volume)?;
            let content = match volume.read(&path) {
                Ok(content) => hash::of(&content),
                Err(error) => {
                    *seen.lock() = None;
                    return Err(error);
                }
            };
            let changed = volume.path().and_then(|folder| std::fs::metadata(folder.join(&path)).ok()?.modified().ok());
            let mut seen = seen.lock();
            let since = match *seen {
                Some((before, then, since)) if (before, then) == (content, changed) => since,
                _ => now(),
            };
            *seen = Some((content, changed, since));
            let age = now() - since;
            if age <= age_max {
                return Ok(());
            }
            let message = format!("it has not changed for {} s", age.as_secs());
            Err(Error::new(Kind::Failed, message).at(format!("file {path:?}")))
        };
        std::future::ready(look())
    })
}
