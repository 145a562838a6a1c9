//! What holds of each request, and its live side.

use super::{hedges::Hedging, require::Require};
use crate::base::sync::{
    Arc,
    atomic::{
        AtomicU64,
        Ordering::{Acquire, Release},
    },
};
use arc_swap::ArcSwap;
use std::{fmt, time::Duration};

/// What holds of each request.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) require: Require,
    pub(super) within: Option<Duration>,
    pub(super) at_once: usize,
    pub(super) canary: Option<Duration>,
    pub(super) hedging: Option<Hedging>,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { require: Require::All, within: None, at_once: usize::MAX, canary: None, hedging: None }
    }
}

/// The live side of [`Scatter`](super::Scatter): settings for requests from now on, of all clones.
#[derive(Clone, Default)]
pub struct ScatterHandle(Arc<Shared>);

#[derive(Default)]
struct Shared {
    plan: ArcSwap<Plan>,
    /// Grows after each change of the plan.
    version: AtomicU64,
}

/// The plan that one instance of a service saw last: looking whether it still holds costs one load.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    version: u64,
    plan: Option<Arc<Plan>>,
}

impl ScatterHandle {
    fn change(&self, change: impl Fn(&mut Plan)) {
        self.0.plan.rcu(|plan| {
            let mut next = Plan::clone(plan);
            change(&mut next);
            next
        });
        self.0.version.fetch_add(1, Release);
    }

    /// The plan of now, kept in `seen`.
    #[inline]
    pub(super) fn plan<'a>(&self, seen: &'a mut Seen) -> &'a Plan {
        let version = self.0.version.load(Acquire);
        if seen.version != version {
            seen.plan = None;
            seen.version = version;
        }
        seen.plan.get_or_insert_with(|| self.0.plan.load_full())
    }

    /// What a request needs, to be answered.
    pub fn require(&self) -> Require {
        self.0.plan.load().require
    }

    /// Changes what a request needs, to be answered.
    pub fn set_require(&self, require: impl Into<Require>) {
        let require = require.into();
        self.change(|plan| plan.require = require);
    }

    /// How long a request may last; none is as long as its own deadline says.
    pub fn within(&self) -> Option<Duration> {
        self.0.plan.load().within
    }

    /// Changes how long a request may last.
    pub fn set_within(&self, within: Option<Duration>) {
        self.change(|plan| plan.within = within);
    }

    /// How many leaves of a request are asked at once.
    pub fn at_once(&self) -> usize {
        self.0.plan.load().at_once
    }

    /// Changes how many leaves of a request are asked at once; 0 counts as 1.
    pub fn set_at_once(&self, leaves: usize) {
        self.change(|plan| plan.at_once = leaves.max(1));
    }

    /// How long the canary may be silent; none is no canary.
    pub fn canary(&self) -> Option<Duration> {
        self.0.plan.load().canary
    }

    /// Changes how long the canary may be silent; none is no canary.
    pub fn set_canary(&self, silent: Option<Duration>) {
        self.change(|plan| plan.canary = silent);
    }

    /// When leaves are asked a second time; none is never.
    pub fn hedging(&self) -> Option<Hedging> {
        self.0.plan.load().hedging.clone()
    }

    /// Changes when leaves are asked a second time; none is never.
    pub fn set_hedging(&self, hedging: Option<Hedging>) {
        self.change(|plan| plan.hedging.clone_from(&hedging));
    }
}

impl fmt::Debug for ScatterHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.0.plan.load();
        write!(f, "Scatter({:?}", plan.require)?;
        if let Some(within) = plan.within {
            write!(f, " within {within:?}")?;
        }
        if plan.at_once < usize::MAX {
            write!(f, ", {} at once", plan.at_once)?;
        }
        if let Some(silent) = plan.canary {
            write!(f, ", a canary of {silent:?}")?;
        }
        if let Some(hedging) = &plan.hedging {
            write!(f, ", {hedging:?}")?;
        }
        f.write_str(")")
    }
}
