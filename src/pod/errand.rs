//! What runs for one instance beside the pod's own task: its function, its hooks, its checks. Each tells the machine how
//! it ended.

use super::{
    Check, Context, Exit, Hook,
    container::Exited,
    declared::Which,
    keeper::panic_text,
    machine::Event,
    probe::{self, Outcome},
};
use crate::base::{Deadline, Kind, Result, time};
use futures::FutureExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Tells the machine when it is dropped, however that happens: at the end, by a panic, by an abort. The futures below
/// make it before they are first polled, so that even one that never is tells.
struct Tell {
    context: Context,
    event: Option<Event>,
}

impl Tell {
    /// What it tells unless [`instead`](Tell::instead) says otherwise.
    fn new(context: &Context, event: Event) -> Self {
        Tell { context: context.clone(), event: Some(event) }
    }

    fn instead(&mut self, event: Event) {
        self.event = Some(event);
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            self.context.0.keeper.tell(event);
        }
    }
}

/// The main task of an instance.
pub(super) fn run(context: Context) -> impl Future<Output = ()> + Send {
    let (slot, instance) = (context.0.slot, context.0.number);
    let mut over = Tell::new(&context, Event::Exited { slot, instance, exit: Exited::killed() });
    async move {
        // in two steps, since a pod holds one of these futures per container all its life: the less in it the better
        let begun = catch_unwind(AssertUnwindSafe(|| context.0.image.run(context.clone())));
        drop(context);
        let end = match begun {
            Ok(running) => AssertUnwindSafe(running).catch_unwind().await,
            Err(panic) => Err(panic),
        };
        let exit = match end {
            Ok(Ok(())) => Exited { code: 0, message: Default::default() },
            Ok(Err(error)) => Exited { code: Exit::code_of(&error), message: error.chain().into() },
            Err(panic) => Exited { code: Exit::PANICKED, message: format!("panicked: {}", panic_text(&*panic)).into() },
        };
        over.instead(Event::Exited { slot, instance, exit });
    }
}

pub(super) fn post_start(context: Context) -> impl Future<Output = ()> + Send {
    let (slot, instance) = (context.0.slot, context.0.number);
    let failure = Some("post-start hook: it panicked".into());
    let mut over = Tell::new(&context, Event::PostStarted { slot, instance, failure });
    async move {
        let failure = match run_hook(context.0.declared.post_start(), &context).await {
            Ok(()) => None,
            Err(error) => Some(format!("post-start hook: {}", error.chain()).into()),
        };
        over.instead(Event::PostStarted { slot, instance, failure });
    }
}

pub(super) fn pre_stop(context: Context) -> impl Future<Output = ()> + Send {
    let (slot, instance) = (context.0.slot, context.0.number);
    // cut off where the grace was over first: that is no failure of the hook's
    let mut over = Tell::new(&context, Event::PreStopped { slot, instance, failure: None });
    async move {
        if let Err(error) = run_hook(context.0.declared.pre_stop(), &context).await {
            let failure = format!("pre-stop hook: {}", error.chain());
            context.log(failure.clone());
            over.instead(Event::PreStopped { slot, instance, failure: Some(failure.into()) });
        }
        drop(over);
    }
}

async fn run_hook(hook: Option<&Hook>, context: &Context) -> Result {
    match hook {
        None => Ok(()),
        Some(Hook::Sleep(wait)) => {
            time::sleep(*wait).await;
            Ok(())
        }
        Some(Hook::Exec(command)) => probe::run(&Check::Exec(command.clone()), context).await,
        Some(Hook::Function(function)) => function(context.clone()).await,
        Some(Hook::Http { port, path }) => {
            let check = Check::Http { port: *port, path: path.clone(), headers: Vec::new() };
            probe::run(&check, context).await
        }
    }
}

/// One check of an instance.
pub(super) fn examine(context: Context, which: Which) -> impl Future<Output = ()> + Send {
    let (slot, instance) = (context.0.slot, context.0.number);
    let result = move |outcome, message: Option<String>| {
        let message = message.map(|message| format!("{} probe: {message}", which.as_str()).into());
        Event::Probed { slot, instance, which, outcome, message }
    };
    let mut over = Tell::new(&context, result(Outcome::Failure, Some("it panicked".into())));
    async move {
        let Some(probe) = context.0.declared.probe(which) else { return };
        let end = Deadline::within(probe.timeout).bound(probe::run(&probe.check, &context)).await;
        over.instead(match end {
            Ok(Ok(())) => result(Outcome::Success, None),
            // the check cannot be made at all: that says nothing of the container
            Ok(Err(error)) if error.kind() == Kind::Unsupported => result(Outcome::Unknown, Some(error.chain())),
            Ok(Err(error)) => result(Outcome::Failure, Some(error.chain())),
            Err(_) => result(Outcome::Failure, Some(format!("no answer within {:?}", probe.timeout))),
        });
    }
}
