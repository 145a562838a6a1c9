//! The container: follows files and connections, and writes JSON lines.

use super::{Format, LogCounts, Translator, tail::Tail};
use crate::{
    base::{
        Error, Result,
        sync::{Arc, Lock},
        time,
    },
    net::Connection,
    pod::{Container, Context, Volume, serve},
};
use bytes::Bytes;
use futures::future::{BoxFuture, try_join_all};
use std::{fmt::Write, time::Duration};
use tokio::io::AsyncReadExt;
use tower::service_fn;

/// Turns the logs of an application into JSON lines: a container beside it.
///
/// ```text
///   application ── app.log on a shared volume ──> adapter ── JSON lines ──> its own log, or a file
///   application ── lines over TCP (syslog) ─────────^
/// ```
///
/// 1. It follows files as they grow, through rotations: what is left of a file that was renamed to `….1` is read before the
///    new one. Changes through the volume are seen at once, others within [`poll`](LogAdapter::poll).
/// 2. Each line becomes a record, by a [`Translator`]. What is not of the format stands whole in `message`.
/// 3. A record goes to the adapter's own log, as containers log to their output, or to a file.
/// 4. Asked to stop, it reads once more what there is. As a sidecar it stops after the application: the last line is there.
///
/// ```
/// use seedpod::adapter::logs::{Format, LogAdapter};
/// use seedpod::pod::ContainerSpec;
/// let adapter = LogAdapter::new(Format::any([Format::access(), Format::plain()])).file("logs", "app.log").join_traces();
/// let counts = adapter.clone();
/// let container = ContainerSpec::new("logs", adapter).mount("logs", "/logs");
/// assert_eq!(counts.counts().not_understood, 0);
/// ```
///
/// # Guarantees
/// - What [`Translator`] promises of each line that is read.
/// - Bounded: one record for each file and connection is held, 128 connections at a time (further ones wait). A file that is
///   written is kept at 1 MiB, with one before it ([`to_file`](LogAdapter::to_file)).
///
/// # Not guaranteed
/// - After a restart files are read from their beginning: each line at least once.
/// - A file that is rotated twice between two looks, or to another name, is not found again.
/// - A volume reads whole files. Rotate them.
///
/// # Errors
/// It ends with an error where the volume is not mounted or does not read, or where what it writes does not fit.
#[derive(Clone, Debug)]
#[must_use = "it is a container: a pod has to run it"]
pub struct LogAdapter {
    translator: Translator,
    files: Arc<[(String, String)]>,
    port: Option<u16>,
    output: Option<(String, String)>,
    poll: Duration,
    counts: Arc<Lock<LogCounts>>,
}

/// How long a record may wait for further lines of its own.
const QUIET: Duration = Duration::from_millis(100);
/// How long a file that is written may be.
const FILE_BYTES_MAX: usize = 1 << 20;
const CONNECTIONS_MAX: usize = 128;

impl LogAdapter {
    /// For lines of this format, without a source.
    pub fn new(format: Format) -> Self {
        LogAdapter {
            translator: Translator::new(format),
            files: Arc::new([]),
            port: None,
            output: None,
            poll: Duration::from_secs(1),
            counts: Arc::default(),
        }
    }

    /// Follows this file of a volume.
    pub fn file(self, volume: impl Into<String>, path: impl Into<String>) -> Self {
        let files = self.files.iter().cloned().chain([(volume.into(), path.into())]).collect();
        LogAdapter { files, ..self }
    }

    /// Listens on this port for lines over TCP, as syslog's senders have them.
    pub fn listen(self, port: u16) -> Self {
        LogAdapter { port: Some(port), ..self }
    }

    /// Writes records to this file of a volume, not to the adapter's own log. Where it would become longer than 1 MiB it is
    /// renamed to `….1` first, over the one that was there.
    pub fn to_file(self, volume: impl Into<String>, path: impl Into<String>) -> Self {
        LogAdapter { output: Some((volume.into(), path.into())), ..self }
    }

    /// See [`Translator::join_traces`]. A record waits 100 ms for further lines.
    pub fn join_traces(self) -> Self {
        LogAdapter { translator: self.translator.join_traces(), ..self }
    }

    /// See [`Translator::join_unless`]. A record waits 100 ms for further lines.
    pub fn join_unless(self, begins: fn(&str) -> bool) -> Self {
        LogAdapter { translator: self.translator.join_unless(begins), ..self }
    }

    /// See [`Translator::bytes_max`].
    pub fn bytes_max(self, bytes: usize) -> Self {
        LogAdapter { translator: self.translator.bytes_max(bytes), ..self }
    }

    /// How often it looks at files for changes that were not made through the volume: each second; at least 1 ms.
    pub fn poll(self, poll: Duration) -> Self {
        LogAdapter { poll: poll.max(Duration::from_millis(1)), ..self }
    }

    /// What became of the lines, in all instances of this adapter: a clone that is kept is a handle.
    pub fn counts(&self) -> LogCounts {
        *self.counts.lock()
    }
}

impl Container for LogAdapter {
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        let adapter = self.clone();
        Box::pin(async move {
            let volume = adapter.output.as_ref().map(|(volume, _)| context.volume(volume)).transpose()?;
            let output = Arc::new(Output { adapter: adapter.clone(), context: context.clone(), volume });
            let files = adapter.files.iter().map(|(volume, path)| follow(output.clone(), volume.clone(), path.clone()));
            let files = try_join_all(files);
            match adapter.port {
                Some(port) => tokio::try_join!(biased; listen(output.clone(), port), files).map(drop),
                None => {
                    context.ready();
                    files.await?;
                    context.stopped().await;
                    Ok(())
                }
            }
        })
    }
}

struct Output {
    adapter: LogAdapter,
    context: Context,
    volume: Option<Volume>,
}

impl Output {
    /// Runs a translator, and hands on what it gives out.
    fn through(&self, translator: &mut Translator, work: impl FnOnce(&mut Translator, &mut dyn FnMut(&str))) -> Result {
        let mut batch = String::new();
        work(translator, &mut |line| match self.volume {
            None => self.context.log(line),
            Some(_) => drop(writeln!(batch, "{line}")),
        });
        self.adapter.counts.lock().add(translator.take_counts());
        match (&self.volume, &self.adapter.output) {
            (Some(volume), Some((_, path))) if !batch.is_empty() => append(volume, path, batch),
            _ => Ok(()),
        }
    }
}

/// Adds to a file; where it would be too long, moves it away first.
fn append(volume: &Volume, path: &str, batch: String) -> Result {
    let before = match volume.read(path) {
        Ok(before) => before,
        Err(error) if error.is_not_found() => Bytes::new(),
        Err(error) => return Err(error),
    };
    if !before.is_empty() && before.len() + batch.len() > FILE_BYTES_MAX {
        volume.write(&format!("{path}.1"), before)?;
        return volume.write(path, batch);
    }
    let mut whole = Vec::with_capacity(before.len() + batch.len());
    whole.extend_from_slice(&before);
    whole.extend_from_slice(batch.as_bytes());
    volume.write(path, whole)
}

async fn follow(output: Arc<Output>, volume: String, path: String) -> Result {
    let context = &output.context;
    let (volume, stopped) = (context.volume(&volume)?, context.stopped());
    tokio::pin!(stopped);
    let (mut tail, mut translator) = (Tail::default(), output.adapter.translator.clone());
    let mut watch = volume.watch();
    loop {
        look(&output, &volume, &path, &mut tail, &mut translator)?;
        let wait = if translator.is_holding() { QUIET.min(output.adapter.poll) } else { output.adapter.poll };
        tokio::select! {
            biased;
            () = &mut stopped => {
                look(&output, &volume, &path, &mut tail, &mut translator)?;
                let now = context.wall().now();
                return output.through(&mut translator, |translator, take| translator.finish(now, take));
            }
            _ = watch.changed() => {}
            () = time::sleep(wait) => {
                if !look(&output, &volume, &path, &mut tail, &mut translator)? {
                    output.through(&mut translator, |translator, take| translator.flush(take))?;
                }
            }
        }
    }
}

/// Reads what is new; whether anything was.
fn look(output: &Output, volume: &Volume, path: &str, tail: &mut Tail, translator: &mut Translator) -> Result<bool> {
    let read = |path: &str| match volume.read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    };
    let Some(content) = read(path)? else { return Ok(false) };
    let now = output.context.wall().now();
    let mut feed = |bytes: &[u8], ends: bool| {
        output.through(translator, |translator, take| {
            translator.feed(bytes, now, &mut *take);
            if ends {
                translator.finish(now, take);
            }
        })
    };
    let news = match tail.news(&content) {
        Some(news) => news,
        None => {
            let before = read(&format!("{path}.1"))?.unwrap_or_default();
            feed(tail.news(&before).unwrap_or_default(), true)?;
            &content
        }
    };
    feed(news, false)?;
    tail.read_to_the_end_of(&content);
    Ok(!news.is_empty())
}

async fn listen(output: Arc<Output>, port: u16) -> Result {
    let context = output.context.clone();
    let service = service_fn(move |connection: Connection| attend(output.clone(), connection));
    serve(port, service).limit(CONNECTIONS_MAX).run(context).await
}

async fn attend(output: Arc<Output>, mut connection: Connection) -> Result {
    let (context, mut translator, mut piece) = (&output.context, output.adapter.translator.clone(), [0; 4096]);
    let stopped = context.stopped();
    tokio::pin!(stopped);
    let ended = loop {
        tokio::select! {
            biased;
            read = connection.read(&mut piece) => match read {
                Ok(0) => break Ok(()),
                Ok(length) => {
                    let (bytes, now) = (piece.get(..length).unwrap_or_default(), context.wall().now());
                    output.through(&mut translator, |translator, take| translator.feed(bytes, now, take))?;
                }
                Err(error) => break Err(Error::from(error)),
            },
            () = &mut stopped => break Ok(()),
            () = time::sleep(QUIET), if translator.is_holding() => {
                output.through(&mut translator, |translator, take| translator.flush(take))?;
            }
        }
    };
    // what came before a reset has come
    let now = context.wall().now();
    output.through(&mut translator, |translator, take| translator.finish(now, take))?;
    ended
}
