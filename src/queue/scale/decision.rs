//! What a decision is made of, what it says, and why.

use super::Count;
use serde::Serialize;
use std::{fmt, time::Duration};

/// What is known when a decision is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Inputs {
    /// Items that arrive, per second.
    pub arrival_rate: f64,
    /// How long a worker takes over one, on average; none where nothing was seen yet.
    pub service_time: Option<Duration>,
    /// Items that could be worked on now, and are not.
    pub backlog: u64,
    /// The workers.
    pub workers: Count,
    /// Items that the workers have finished, since they began to count.
    pub finished: u64,
}

/// How many workers are wanted, with all that it follows from. Prints as one line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Decision {
    /// So many.
    pub want: u32,
    /// Why that many.
    pub reason: Reason,
    /// Workers that the arrivals keep busy: rate × service time, in Erlangs.
    pub load: f64,
    /// Workers more, so that few items wait: β√load.
    pub headroom: f64,
    /// Workers more, so that the backlog is gone in time: backlog × service time / time.
    pub catch_up: f64,
    /// What these three ask for, rounded up, within the bounds; before damping.
    pub demand: u32,
    /// What it was decided from.
    pub inputs: Inputs,
}

impl Decision {
    /// How many more there are to be; negative for fewer.
    pub fn change(&self) -> i64 {
        i64::from(self.want) - i64::from(self.inputs.workers.total())
    }
}

/// Why a decision is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Nothing to do: as few as allowed.
    Idle,
    /// There is work, and nobody knows yet how long it takes: one worker finds out.
    Probe,
    /// As many as are needed.
    Steady,
    /// More are needed.
    More,
    /// More are needed, and this is as many as may be added at a time.
    MorePaced,
    /// Fewer have sufficed for a while.
    Fewer,
    /// Fewer would do now; not long enough yet to be sure.
    Waiting,
    /// Fewer would do; not so many may go at a time.
    FewerPaced,
    /// Fewer would do, but those that are there are busy.
    Busy,
    /// More are asked for, but the last ones brought nothing: what they depend on is at its limit.
    Bottleneck,
    /// Fewer than are allowed.
    Minimum,
    /// More than are allowed.
    Maximum,
}

impl Reason {
    /// It in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Idle => "nothing to do",
            Reason::Probe => "one to find out how long it takes",
            Reason::Steady => "enough",
            Reason::More => "more are needed",
            Reason::MorePaced => "more are needed, not so many at a time",
            Reason::Fewer => "fewer have sufficed for a while",
            Reason::Waiting => "fewer would do, not for long yet",
            Reason::FewerPaced => "fewer would do, not so many at a time",
            Reason::Busy => "fewer would do, all are busy",
            Reason::Bottleneck => "more brought no more: what they depend on is at its limit",
            Reason::Minimum => "the minimum",
            Reason::Maximum => "the maximum",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inputs { arrival_rate, service_time, backlog, workers, .. } = self.inputs;
        write!(f, "want {} ({:+}): {}; ", self.want, self.change(), self.reason)?;
        write!(f, "load {:.2} + headroom {:.2} + catch-up {:.2}; ", self.load, self.headroom, self.catch_up)?;
        write!(f, "{arrival_rate:.2}/s of ")?;
        match service_time {
            Some(time) => write!(f, "{:.3} s", time.as_secs_f64())?,
            None => f.write_str("unknown length")?,
        }
        write!(f, ", {backlog} waiting, {} of {} busy", workers.busy, workers.running)?;
        if workers.starting > 0 {
            write!(f, ", {} starting", workers.starting)?;
        }
        if workers.leaving > 0 {
            write!(f, ", {} leaving", workers.leaving)?;
        }
        Ok(())
    }
}
