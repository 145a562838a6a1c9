//! Faults are verdicts: a rule sees a call and says pass, delay or fail.

use super::{Error, sync::Lock};
use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

/// What a rule says of a call.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Verdict {
    /// Nothing: the next rule is asked.
    #[default]
    Pass,
    /// Go on, this much later.
    Delay(Duration),
    /// Fail with this error.
    Fail(Error),
}

type Rule<C> = dyn FnMut(&C) -> Verdict + Send;

/// A set of rules over calls of one kind: the first that does not pass decides; dropping its guard removes a rule.
///
/// A closure is a rule. A random rule is a closure with its own seeded generator.
///
/// ```
/// use seedpod::base::{Error, Faults, Kind, Verdict};
///
/// let faults = Faults::<str>::default();
/// assert!(matches!(faults.verdict("cart"), Verdict::Pass));
/// let guard = faults.rule(|target: &str| match target {
///     "cart" => Verdict::Fail(Error::new(Kind::Unavailable, "cut off")),
///     _ => Verdict::Pass,
/// });
/// assert!(matches!(faults.verdict("cart"), Verdict::Fail(_)));
/// drop(guard);
/// assert!(matches!(faults.verdict("cart"), Verdict::Pass));
/// ```
pub struct Faults<C: ?Sized>(Arc<Lock<Rules<C>>>);

struct Rules<C: ?Sized> {
    next: u64,
    rules: Vec<(u64, Box<Rule<C>>)>,
}

impl<C: ?Sized> Faults<C> {
    /// Adds a rule behind those that are there. It holds until the guard is dropped.
    #[must_use = "the rule is removed when the guard is dropped"]
    pub fn rule(&self, rule: impl FnMut(&C) -> Verdict + Send + 'static) -> Guard
    where
        C: 'static,
    {
        let mut rules = self.0.lock();
        rules.next += 1;
        let id = rules.next;
        rules.rules.push((id, Box::new(rule)));
        let rules: Weak<dyn Forget> = Arc::downgrade(&(self.0.clone() as Arc<dyn Forget>));
        Guard { id, rules }
    }

    /// What the rules say of this call. A rule must not call back into its own set.
    pub fn verdict(&self, call: &C) -> Verdict {
        let mut rules = self.0.lock();
        for (_, rule) in &mut rules.rules {
            match rule(call) {
                Verdict::Pass => {}
                verdict => return verdict,
            }
        }
        Verdict::Pass
    }

    /// Whether there is no rule, so that asking can be skipped.
    pub fn is_empty(&self) -> bool {
        self.0.lock().rules.is_empty()
    }
}

impl<C: ?Sized> Default for Faults<C> {
    fn default() -> Self {
        Faults(Arc::new(Lock::new(Rules { next: 0, rules: Vec::new() })))
    }
}

impl<C: ?Sized> Clone for Faults<C> {
    fn clone(&self) -> Self {
        Faults(self.0.clone())
    }
}

impl<C: ?Sized> fmt::Debug for Faults<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faults({} rules)", self.0.lock().rules.len())
    }
}

trait Forget: Send + Sync {
    fn forget(&self, id: u64);
}

impl<C: ?Sized> Forget for Lock<Rules<C>> {
    fn forget(&self, id: u64) {
        let removed = {
            let mut rules = self.lock();
            rules.rules.iter().position(|(of, _)| *of == id).map(|index| rules.rules.remove(index))
        };
        drop(removed); // foreign code: not under the lock
    }
}

/// Removes its rule when dropped.
#[must_use = "the rule is removed when the guard is dropped"]
pub struct Guard {
    id: u64,
    rules: Weak<dyn Forget>,
}

impl Guard {
    /// Leaves the rule in place for good.
    pub fn forever(mut self) {
        self.id = 0;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(rules) = self.rules.upgrade() {
            rules.forget(self.id);
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Seed;
    use super::*;

    #[test]
    fn the_first_that_does_not_pass_decides() {
        let faults = Faults::<u32>::default();
        let _none = faults.rule(|_| Verdict::Pass);
        let slow = faults.rule(|call| if *call > 5 { Verdict::Delay(Duration::from_secs(1)) } else { Verdict::Pass });
        faults.rule(|_| Verdict::Fail(super::super::Kind::Unavailable.into())).forever();
        assert!(matches!(faults.verdict(&9), Verdict::Delay(_)));
        assert!(matches!(faults.verdict(&1), Verdict::Fail(_)));
        drop(slow);
        assert!(matches!(faults.verdict(&9), Verdict::Fail(_)));
    }

    #[test]
    fn a_seeded_random_rule_is_just_a_rule() {
        let hits = |seed: u64| {
            let faults = Faults::<()>::default();
            let mut rng = Seed::new(seed).rng();
            let _guard = faults.rule(move |()| match rng.chance(0.1) {
                true => Verdict::Fail(super::super::Kind::Timeout.into()),
                false => Verdict::Pass,
            });
            (0..1000).map(|_| matches!(faults.verdict(&()), Verdict::Fail(_))).collect::<Vec<_>>()
        };
        assert_eq!(hits(1), hits(1));
        assert_ne!(hits(1), hits(2));
        assert!((70..130).contains(&hits(1).iter().filter(|hit| **hit).count()));
    }
}
