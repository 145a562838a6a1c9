//! What runs: the trait, the image that carries it, and how it ends.

use super::{Context, Images};
use crate::base::{BoxError, Error, Kind, Result};
use bytes::Bytes;
use futures::{TryFutureExt, future::BoxFuture};
use std::{borrow::Cow, fmt, future::Future, sync::Arc};

/// Runs until told to stop, and can be run again.
///
/// Any `Fn(Context) -> impl Future<Output = Result<(), E>>` is one, an async function above all. The future should end
/// soon after [`Context::stopped`] resolves; it is dropped at its next await when the grace is over.
///
/// `Ok` is exit code 0, an error 1 unless it is (or was caused by) an [`Exit`], a panic 101.
///
/// ```
/// use seedpod::pod::{Context, ContainerSpec};
///
/// async fn cart(context: Context) -> seedpod::Result {
///     let _listener = context.listen(7070).await?;
///     context.ready();
///     context.stopped().await;
///     Ok(())
/// }
/// let spec = ContainerSpec::new("cart", cart);
/// ```
pub trait Container: Send + Sync + 'static {
    /// Runs it once.
    fn run(&self, context: Context) -> BoxFuture<'static, Result>;

    /// Runs a command beside it, in the same container, as exec probes and people do. By default there is no command.
    fn exec(&self, context: Context, command: Vec<String>) -> BoxFuture<'static, Result<Output>> {
        drop(context);
        Box::pin(std::future::ready(Ok(Output::not_found(&command))))
    }
}

impl<F, Fut, E> Container for F
where
    F: Fn(Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        // not an async block: that would hold the future twice
        Box::pin(self(context).map_err(|error| Error::adopt(error, Kind::Failed)))
    }
}

/// What a command that was run in a container answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// 0 when it went well.
    pub exit_code: i32,
    /// What it printed.
    pub stdout: Bytes,
    /// What it complained of.
    pub stderr: Bytes,
}

impl Output {
    /// It went well, and printed this.
    pub fn ok(stdout: impl Into<Bytes>) -> Self {
        Output { stdout: stdout.into(), ..Output::default() }
    }

    /// It went wrong with this code, and complained of this.
    pub fn failed(exit_code: i32, stderr: impl Into<Bytes>) -> Self {
        Output { exit_code, stderr: stderr.into(), ..Output::default() }
    }

    /// There is no such command: code 127, as a shell has it.
    pub fn not_found(command: &[String]) -> Self {
        let name = command.first().map_or("", String::as_str);
        Output::failed(127, format!("{name}: command not found"))
    }
}

/// The error by which a container chooses its exit code.
///
/// ```
/// use seedpod::pod::{Context, Exit};
/// async fn migrate(context: Context) -> Result<(), Exit> {
///     match context.env("DATABASE") {
///         Some(_) => Ok(()),
///         None => Err(Exit::new(78, "DATABASE is not set")),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    code: i32,
    message: Cow<'static, str>,
}

impl Exit {
    /// The code of a container that failed without saying more.
    pub const FAILED: i32 = 1;
    /// The code of a container that panicked: what a Rust program exits with.
    pub const PANICKED: i32 = 101;
    /// The code of a container that was killed: 128 and the number of the kill signal.
    pub const KILLED: i32 = 137;

    /// Ends with this code; 0 counts as well done.
    pub fn new(code: i32, message: impl Into<Cow<'static, str>>) -> Self {
        Exit { code, message: message.into() }
    }

    /// The code.
    pub fn code(&self) -> i32 {
        self.code
    }

    /// The code that an error stands for: that of the first `Exit` among its causes, else [`FAILED`](Exit::FAILED).
    pub fn code_of(error: &Error) -> i32 {
        error.downcast_ref::<Exit>().map_or(Exit::FAILED, |exit| exit.code)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}", self.code)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Exit {}

type ExecFunction = Arc<dyn Fn(Context, Vec<String>) -> BoxFuture<'static, Result<Output>> + Send + Sync>;

/// A container that can be started under a name, and the commands that can be run in it; cheap to clone.
///
/// Either it holds the container, or it is looked up at every start: [`Images::image`].
///
/// ```
/// use seedpod::pod::{Context, Image, Output};
/// use seedpod::Result;
///
/// async fn redis(context: Context) -> Result { context.stopped().await; Ok(()) }
///
/// let image = Image::new(redis).exec(|_context: Context, command: Vec<String>| async move {
///     match command.iter().map(String::as_str).collect::<Vec<_>>()[..] {
///         ["redis-cli", "ping"] => Ok::<_, seedpod::Error>(Output::ok("PONG\n")),
///         _ => Ok(Output::not_found(&command)),
///     }
/// });
/// ```
#[derive(Clone)]
pub struct Image {
    name: Option<Arc<str>>,
    source: Source,
    exec: Option<ExecFunction>,
}

#[derive(Clone)]
enum Source {
    Container(Arc<dyn Container>),
    Registry(Images),
}

impl Image {
    /// An image of this container.
    pub fn new(container: impl Container) -> Self {
        Image::shared(Arc::new(container))
    }

    /// An image of a container that others have, too.
    pub fn shared(container: Arc<dyn Container>) -> Self {
        Image { name: None, source: Source::Container(container), exec: None }
    }

    /// The image that this registry has under this reference when a container starts.
    pub(super) fn registered(images: Images, reference: &str) -> Self {
        Image { name: Some(reference.into()), source: Source::Registry(images), exec: None }
    }

    /// Says what it is called, as the status shows it.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Answers commands with this function instead of the container's own [`Container::exec`].
    #[must_use]
    pub fn exec<F, Fut, E>(mut self, exec: F) -> Self
    where
        F: Fn(Context, Vec<String>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Output, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        self.exec = Some(Arc::new(move |context, command| {
            Box::pin(exec(context, command).map_err(|error| Error::adopt(error, Kind::Failed)))
        }));
        self
    }

    /// What it is called; empty where nothing was said.
    pub fn name(&self) -> Arc<str> {
        self.name.clone().unwrap_or_default()
    }

    /// What is to be run now.
    pub(super) fn resolve(&self) -> Result<Resolved> {
        let (image, exec) = match &self.source {
            Source::Container(_) => (self.clone(), None),
            Source::Registry(images) => (images.find(&self.name())?, self.exec.clone()),
        };
        match image.source {
            Source::Container(container) => Ok(Resolved { container, exec: exec.or(image.exec) }),
            Source::Registry(_) => {
                let message = "it is registered as a reference to another, which is not followed";
                Err(Error::new(Kind::Invalid, message).at(format!("image {self}")))
            }
        }
    }
}

impl<C: Container> From<C> for Image {
    fn from(container: C) -> Self {
        Image::new(container)
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Image").field(&self.name()).finish()
    }
}

/// An image as one instance runs it.
#[derive(Clone)]
pub(super) struct Resolved {
    container: Arc<dyn Container>,
    exec: Option<ExecFunction>,
}

impl Resolved {
    pub(super) fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        self.container.run(context)
    }

    pub(super) fn exec(&self, context: Context, command: Vec<String>) -> BoxFuture<'static, Result<Output>> {
        match &self.exec {
            Some(exec) => exec(context, command),
            None => self.container.exec(context, command),
        }
    }
}

/// How one instance ended.
#[derive(Clone, Debug)]
pub(super) struct Exited {
    pub(super) code: i32,
    pub(super) message: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        assert_eq!(Exit::code_of(&Kind::Failed.into()), 1);
        assert_eq!(Exit::code_of(&Error::adopt(Exit::new(78, "no"), Kind::Failed)), 78);
        assert_eq!(Exit::new(3, "").to_string(), "exit code 3");
        assert_eq!(Exit::new(3, "why").to_string(), "exit code 3: why");
    }

    #[test]
    fn a_reference_is_looked_up_at_each_start() {
        async fn nothing(_: Context) -> Result {
            Ok(())
        }
        let images = Images::default();
        let late = images.image("cart:v1");
        assert!(late.resolve().err().unwrap().is_not_found());
        images.register("cart", nothing);
        assert!(late.resolve().is_ok());
        images.register("cart", images.image("cart"));
        assert_eq!(late.resolve().err().unwrap().kind(), Kind::Invalid);
        assert_eq!(late.to_string(), "cart:v1");
    }
}
