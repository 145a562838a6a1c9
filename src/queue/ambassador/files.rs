//! Items handed over as files of a volume that both containers mount.

use super::{Hand, HandOver};
use crate::{
    base::{Error, Kind, Result, time},
    pod::{Context, Volume},
    queue::Message,
};
use bytes::Bytes;
use std::time::Duration;
use tower::util::BoxCloneSyncService;

/// Hands items over as files.
///
/// An item is the file `in/<message id>`. The worker answers by writing one of these, after which all files of the item
/// are removed:
///
/// | file | content | the message |
/// | --- | --- | --- |
/// | `done/<message id>` | the result | is done |
/// | `later/<message id>` | seconds, or nothing: 1 | comes back then, uncharged |
/// | `rejected/<message id>` | the reason | goes to the dead letters |
/// | `failed/<message id>` | the reason | is tried again, charged |
///
/// When the message's lease is lost, or the ambassador ends, the item's files are removed: a worker that writes its answer
/// later writes it for nobody, and it is removed when the item comes again.
#[derive(Clone, Debug)]
#[must_use = "an ambassador needs it"]
pub struct ByFile {
    volume: String,
    within: Duration,
}

/// How often files in a real directory are looked at: changes made through its path are not told.
const LOOK: Duration = Duration::from_millis(100);

impl ByFile {
    /// In this volume, which both containers mount.
    pub fn volume(name: impl Into<String>) -> Self {
        ByFile { volume: name.into(), within: Duration::MAX }
    }

    /// How long the worker may take over an item: after that it is tried again, charged. Default: as long as it takes.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }
}

impl HandOver for ByFile {
    fn begin(&self, context: &Context) -> Result<Hand> {
        let (volume, within) = (context.volume(&self.volume)?, self.within);
        Ok(BoxCloneSyncService::new(tower::service_fn(move |item: Message| {
            let volume = volume.clone();
            async move {
                let files = Files { volume, id: item.id().to_string() };
                let answer = files.hand_over(&item);
                match time::Deadline::within(within).bound(answer).await {
                    Ok(answer) => answer,
                    Err(_) => Err(Error::new(Kind::Timeout, format!("the worker did not answer within {within:?}"))),
                }
            }
        })))
    }
}

/// The files of one item, removed when dropped.
struct Files {
    volume: Volume,
    id: String,
}

const ANSWERS: [&str; 4] = ["done", "later", "rejected", "failed"];

impl Files {
    fn path(&self, folder: &str) -> String {
        format!("{folder}/{}", self.id)
    }

    fn clear(&self) {
        for folder in ANSWERS.iter().chain(&["in"]) {
            let _ = self.volume.remove(&self.path(folder)); // most are not there
        }
    }

    async fn hand_over(&self, item: &Message) -> Result<Bytes> {
        self.clear();
        let mut changes = self.volume.watch();
        self.volume.write(&self.path("in"), item.bytes()?)?;
        loop {
            if let Some(answer) = self.answer() {
                return answer;
            }
            if self.volume.path().is_some() {
                time::sleep(LOOK).await;
            } else {
                changes.changed().await;
            }
        }
    }

    fn answer(&self) -> Option<Result<Bytes>> {
        let read = |folder| match self.volume.read(&self.path(folder)) {
            Err(error) if error.is_not_found() => None,
            read => Some(read),
        };
        let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).trim().to_string();
        ANSWERS.into_iter().find_map(|folder| {
            let content = match read(folder)? {
                Ok(content) => content,
                Err(error) => return Some(Err(error)),
            };
            Some(match folder {
                "done" => Ok(content),
                "later" => {
                    let seconds = text(content).parse().unwrap_or(1);
                    Err(Error::new(Kind::Overloaded, "the worker asks for time").after(Duration::from_secs(seconds)))
                }
                "rejected" => Err(Error::new(Kind::Invalid, text(content))),
                _ => Err(Error::new(Kind::Failed, text(content))),
            })
        })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.clear();
    }
}
