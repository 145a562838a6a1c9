//! What the attempts of one request know of each other, where the others went; and why one is dropped: another one won, its
//! time was up, or the caller is gone.

use crate::base::Outcome;
use smallvec::SmallVec;
use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

/// How many endpoints are remembered; whoever tries more has stopped choosing.
const MOST: usize = 16;

thread_local! {
    /// Whether `TRIED` is some: it has no destructor, so that a choice that nobody follows looks at one byte.
    static FOLLOWED: Cell<bool> = const { Cell::new(false) };
    /// None where nobody who would try again is being polled.
    static TRIED: RefCell<Option<Keys>> = const { RefCell::new(None) };
    /// What becomes of a call that is dropped now.
    static DROPPED: Cell<Outcome> = const { Cell::new(Outcome::Cancelled) };
}

type Keys = SmallVec<[Arc<str>; 2]>;

/// Notes that an attempt goes to the endpoint of this key, for those after it: whatever chooses endpoints says so with
/// each choice.
///
/// [`Replicas`](../../serving/struct.Replicas.html) does. It counts for the retry or hedge inside whose call the choice is
/// made, and costs one load where there is none. A choice made in a task of its own is not seen.
#[inline(always)]
pub fn note_tried(key: &Arc<str>) {
    if FOLLOWED.get() {
        note(key);
    }
}

#[inline(never)]
fn note(key: &Arc<str>) {
    TRIED.with_borrow_mut(|tried| {
        if let Some(keys) = tried.as_mut().filter(|keys| keys.len() < MOST && !contains(keys, key)) {
            keys.push(key.clone());
        }
    });
}

/// Takes back what was noted of the endpoint of this key: it has refused the attempt, for a reason that says nothing against
/// it, and is not to stand behind others.
pub fn forget_tried(key: &Arc<str>) {
    TRIED.with_borrow_mut(|tried| {
        if let Some(keys) = tried {
            keys.retain(|noted| !Arc::ptr_eq(noted, key));
        }
    });
}

/// Whether an earlier attempt of the same request went to the endpoint of this key: whatever chooses endpoints prefers
/// others. Keys are compared by identity, so that equal names in other sets are not taken for it.
pub fn tried(key: &Arc<str>) -> bool {
    TRIED.with_borrow(|tried| tried.as_ref().is_some_and(|keys| contains(keys, key)))
}

/// Whether any earlier attempt of the same request has been noted, so that asking for each endpoint can be skipped.
#[inline(always)]
pub fn any_tried() -> bool {
    FOLLOWED.get() && TRIED.with_borrow(|tried| tried.as_ref().is_some_and(|keys| !keys.is_empty()))
}

/// The outcome of a call that is being dropped without an answer: whatever accounts for calls asks for it as it is dropped.
///
/// - [`Outcome::Superseded`], where the attempt lost against another of the same request
/// - [`Outcome::Failure`], where a layer's time-out or the request's deadline ended it: who does not answer in time has
///   failed
/// - [`Outcome::Cancelled`] otherwise: the caller is gone
///
/// [`Lease`](../../serving/struct.Lease.html) does, and so do the circuit breaker and the adaptive limit. Seen is what the layers here say of calls in the same task; a caller's own
/// `tokio::time::timeout` is a caller who is gone.
pub fn dropped() -> Outcome {
    DROPPED.get()
}

fn contains(keys: &Keys, key: &Arc<str>) -> bool {
    keys.iter().any(|noted| Arc::ptr_eq(noted, key))
}

/// The endpoints that the attempts of one request went to. Lives in the call that makes them; allocates nothing for two.
#[derive(Default)]
pub(crate) struct Tried(Keys);

impl Tried {
    /// Polls an attempt, which notes here where it goes and sees where those before it went.
    #[inline(always)]
    pub(crate) fn follow<T>(&mut self, poll: impl FnOnce() -> T) -> T {
        let before = TRIED.replace(Some(std::mem::take(&mut self.0)));
        FOLLOWED.set(true);
        let _following = Following { tried: self, before };
        poll()
    }

    /// As [`follow`](Self::follow), unless whoever stands outside follows already: then what is noted, is noted there.
    #[inline(always)]
    pub(crate) fn join<T>(&mut self, poll: impl FnOnce() -> T) -> T {
        if FOLLOWED.get() { poll() } else { self.follow(poll) }
    }
}

/// Puts back what was there, also when the poll panics.
struct Following<'a> {
    tried: &'a mut Tried,
    before: Option<Keys>,
}

impl Drop for Following<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        FOLLOWED.set(self.before.is_some());
        if let Some(keys) = TRIED.replace(self.before.take()) {
            self.tried.0 = keys;
        }
    }
}

/// Drops an attempt that lost.
pub(crate) fn supersede(drop: impl FnOnce()) {
    saying(Outcome::Superseded, drop);
}

/// Drops a call whose time is up.
pub(crate) fn time_out(drop: impl FnOnce()) {
    saying(Outcome::Failure, drop);
}

fn saying(outcome: Outcome, drop: impl FnOnce()) {
    struct Back(Outcome);
    impl Drop for Back {
        fn drop(&mut self) {
            DROPPED.set(self.0);
        }
    }
    let _back = Back(DROPPED.replace(outcome));
    drop();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_attempt_notes_the_next_one_sees_and_nobody_else() {
        let (a, b, other_a): (Arc<str>, Arc<str>, Arc<str>) = ("a".into(), "b".into(), "a".into());
        note_tried(&a);
        assert!(!tried(&a) && !any_tried(), "nobody follows");
        let (mut call, mut unrelated) = (Tried::default(), Tried::default());
        call.follow(|| note_tried(&a));
        call.follow(|| {
            assert!(any_tried() && tried(&a) && !tried(&b));
            assert!(!tried(&other_a), "of the same name in another set");
            unrelated.follow(|| assert!(!tried(&a), "a call of its own"));
            unrelated.join(|| note_tried(&b));
            assert!(tried(&a) && tried(&b), "noted where the outer one follows");
        });
        assert!(!any_tried());
        assert_eq!((call.0.len(), unrelated.0.len()), (2, 0));
    }

    #[test]
    fn what_was_noted_can_be_taken_back() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut call = Tried::default();
        forget_tried(&a);
        call.follow(|| [&a, &b].map(note_tried));
        call.follow(|| forget_tried(&a));
        call.follow(|| assert!(!tried(&a) && tried(&b)));
    }

    #[test]
    fn a_panic_leaves_nothing_behind() {
        let key: Arc<str> = "a".into();
        let mut call = Tried::default();
        let polled = std::panic::AssertUnwindSafe(|| {
            call.follow(|| {
                note_tried(&key);
                supersede(|| panic!("while it is polled"));
            })
        });
        assert!(std::panic::catch_unwind(polled).is_err());
        assert!(!any_tried() && dropped() == Outcome::Cancelled);
        call.follow(|| assert!(tried(&key)));
    }

    #[test]
    fn who_is_dropped_learns_why_and_the_innermost_reason_counts() {
        time_out(|| {
            assert_eq!(dropped(), Outcome::Failure);
            supersede(|| assert_eq!(dropped(), Outcome::Superseded));
            assert_eq!(dropped(), Outcome::Failure);
        });
        assert_eq!(dropped(), Outcome::Cancelled);
    }

    #[test]
    fn the_list_is_bounded() {
        let keys: Vec<Arc<str>> = (0..1_000).map(|number| number.to_string().into()).collect();
        let mut call = Tried::default();
        call.follow(|| keys.iter().chain(&keys).for_each(note_tried));
        assert_eq!(call.0.len(), MOST);
    }
}
