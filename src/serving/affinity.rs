//! Session affinity: the requests of a session go to one endpoint for as long as it can be picked.
//!
//! - [`Affinity`], the decision — start here
//! - [`Session`], what a request says: nothing, a key (of a header, or computed), or the endpoint that its cookie names
//! - [`Cookie`], opaque and signed, with feature `http`

use super::rendezvous;
use crate::base::{
    Error, Kind, Result,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use std::{fmt, sync::Arc};

#[cfg(feature = "http")]
mod cookie;

#[cfg(feature = "http")]
pub use cookie::{Cookie, CookieKey, Read, Roster, SameSite, Ticket};

/// Where a session's request goes: to its endpoint while that can be picked, else to the next in an order that all
/// balancers share, so that it moves there whichever of them it comes through.
///
/// ```
/// use seedpod::serving::affinity::{Affinity, Choice, Member, Session};
///
/// let affinity = Affinity::new();
/// let members = |out: &str| ["cart-a", "cart-b", "cart-c"].map(|key| Member::new(key, key != out));
/// let session = Session::of(b"user-4711");
/// let Choice::Stay(first) = affinity.choose(session, &members(""))? else { panic!("all can be picked") };
/// let out = members("")[first].key();
/// let Choice::Moved(second) = affinity.choose(session, &members(out))? else { panic!("{out} is out") };
/// assert_ne!(first, second);
/// assert_eq!((affinity.stats().hit, affinity.stats().moved), (1, 1));
/// # Ok::<_, seedpod::Error>(())
/// ```
///
/// **Guarantees**
/// - A session whose endpoint drains or leaves moves once. By cookie it then stays where it is, whoever comes or comes
///   back: the cookie names its endpoint. By key nothing is remembered, so that a session goes back where its first
///   choice comes back, and each endpoint that comes new takes its share of the sessions over, and no others move.
/// - Equal keys and members give equal choices in every process, in whatever order the members come.
///
/// **Not guaranteed**: that sessions are spread evenly, or by weight; that a key chosen by a hostile caller does not
/// crowd one endpoint: let it be a key that was given out, or take the cookie.
///
/// # Errors
/// With [`strict`](Self::strict), [`Kind::Unavailable`] naming the endpoint that cannot be picked, instead of moving.
#[derive(Clone, Debug, Default)]
pub struct Affinity {
    strict: bool,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    hit: AtomicU64,
    miss: AtomicU64,
    moved: AtomicU64,
    refused: AtomicU64,
    forged: AtomicU64,
    expired: AtomicU64,
}

/// What became of the requests so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AffinityStats {
    /// Went to the endpoint of their session.
    pub hit: u64,
    /// Had no session.
    pub miss: u64,
    /// Went elsewhere, since the endpoint of their session could not be picked.
    pub moved: u64,
    /// Failed for the same reason, where sessions are strict.
    pub refused: u64,
    /// Came with a cookie that we did not sign, or not so.
    pub forged: u64,
    /// Came with a cookie that was ours and too old.
    pub expired: u64,
}

/// What a request says of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session(Said);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Key(u64),
    /// The session's number, and its endpoint's place; none where that one is gone.
    Bound(u64, Option<usize>),
}

impl Session {
    /// It has none yet.
    pub const NONE: Session = Session(Said::Nothing);

    /// The session of this key: a header's value, or what a function makes of the request. An empty key is no session.
    pub fn of(key: &[u8]) -> Self {
        if key.is_empty() { Session::NONE } else { Session(Said::Key(rendezvous::of(key))) }
    }

    /// The session of this number, bound to the endpoint at this place among the members; none where it has left.
    pub fn bound(number: u64, endpoint: Option<usize>) -> Self {
        Session(Said::Bound(number, endpoint))
    }
}

/// An endpoint, as affinity sees it. Keep it with the endpoint: its key is hashed once.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    key: &'a str,
    hash: u64,
    pickable: bool,
}

impl<'a> Member<'a> {
    /// The endpoint of this key, and whether new requests may go to it: not where it drains, is ejected or not ready.
    pub fn new(key: &'a str, pickable: bool) -> Self {
        Member { key, hash: rendezvous::of(key.as_bytes()), pickable }
    }

    /// Its key.
    pub fn key(&self) -> &'a str {
        self.key
    }
}

/// Where a request goes, as a place among the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Anywhere: it has no session, or nobody can be picked.
    Any,
    /// To the endpoint of its session.
    Stay(usize),
    /// To another, since that one cannot be picked. Where the session has a cookie, it gets a new one.
    Moved(usize),
}

impl Affinity {
    /// Moves sessions whose endpoint cannot be picked.
    pub fn new() -> Self {
        Affinity::default()
    }

    /// Fails requests instead of moving them.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Where the request goes.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] where it would have to move, and sessions are strict.
    pub fn choose(&self, session: Session, members: &[Member<'_>]) -> Result<Choice> {
        let counters = &*self.counters;
        let (key, home) = match session.0 {
            Said::Nothing => return Ok(count(&counters.miss, Choice::Any)),
            Said::Key(key) => (key, first(key, members, |_| true)),
            Said::Bound(number, home) => (number, home),
        };
        let member = home.and_then(|home| members.get(home));
        match (home, member) {
            (Some(home), Some(member)) if member.pickable => return Ok(count(&counters.hit, Choice::Stay(home))),
            _ if self.strict => {
                counters.refused.fetch_add(1, Relaxed);
                let (place, says) = match member {
                    Some(member) => (member.key, "it cannot be picked, and sessions are strict"),
                    None => ("affinity", "the session's endpoint is gone, and sessions are strict"),
                };
                return Err(Error::new(Kind::Unavailable, says).at(place));
            }
            _ => {}
        }
        match first(key, members, |member| member.pickable) {
            Some(other) => Ok(count(&counters.moved, Choice::Moved(other))),
            None => Ok(count(&counters.miss, Choice::Any)),
        }
    }

    /// What became of the requests so far, over all clones.
    pub fn stats(&self) -> AffinityStats {
        let counters = &*self.counters;
        AffinityStats {
            hit: counters.hit.load(Relaxed),
            miss: counters.miss.load(Relaxed),
            moved: counters.moved.load(Relaxed),
            refused: counters.refused.load(Relaxed),
            forged: counters.forged.load(Relaxed),
            expired: counters.expired.load(Relaxed),
        }
    }
}

/// The first choice of this key among some of them; of equal scores the lesser name, so that the order does not matter.
fn first(key: u64, members: &[Member<'_>], which: impl Fn(&Member<'_>) -> bool) -> Option<usize> {
    let mut best: Option<(u64, usize, &str)> = None;
    for (place, member) in members.iter().enumerate().filter(|(_, member)| which(member)) {
        let score = rendezvous::score(key, member.hash);
        let better = best.is_none_or(|(highest, _, name)| score > highest || (score == highest && member.key < name));
        if better {
            best = Some((score, place, member.key));
        }
    }
    best.map(|(_, place, _)| place)
}

fn count(counter: &AtomicU64, choice: Choice) -> Choice {
    counter.fetch_add(1, Relaxed);
    choice
}

impl fmt::Display for AffinityStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AffinityStats { hit, miss, moved, refused, forged, expired } = self;
        write!(f, "{hit} hit, {miss} miss, {moved} moved, {refused} refused, {forged} forged, {expired} expired")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

    fn members(out: &[&str]) -> Vec<Member<'static>> {
        KEYS.iter().map(|key| Member::new(key, !out.contains(key))).collect()
    }

    fn goes(choice: Choice, members: &[Member<'static>]) -> &'static str {
        match choice {
            Choice::Any => "any",
            Choice::Stay(place) | Choice::Moved(place) => members[place].key(),
        }
    }

    #[test]
    fn a_key_s_sessions_move_only_where_their_endpoint_is_out_and_every_balancer_agrees() {
        let (affinity, mut rng) = (Affinity::new(), Seed::new(1).rng());
        let (all, without) = (members(&[]), members(&["c"]));
        let mut reversed = without.clone();
        reversed.reverse();
        let mut moved = 0;
        for session in 0..10_000_u32 {
            let session = Session::of(&session.to_le_bytes());
            let before = goes(affinity.choose(session, &all).unwrap(), &all);
            let choice = affinity.choose(session, &without).unwrap();
            let after = goes(choice, &without);
            assert_eq!(matches!(choice, Choice::Moved(_)), before == "c");
            assert!(after != "c" && (before == "c" || after == before));
            assert_eq!(goes(affinity.choose(session, &reversed).unwrap(), &reversed), after);
            // gone or only out: the same choice
            let gone: Vec<_> = without.iter().filter(|member| member.pickable).copied().collect();
            assert_eq!(goes(affinity.choose(session, &gone).unwrap(), &gone), after);
            rng.shuffle(&mut reversed);
            moved += u32::from(before == "c");
        }
        assert!((1_500..1_850).contains(&moved), "{moved}");
    }

    #[test]
    fn a_bound_session_stays_where_it_moved_when_the_first_comes_back() {
        let affinity = Affinity::new();
        let bound = |place| Session::bound(7, Some(place));
        assert_eq!(affinity.choose(bound(2), &members(&[])).unwrap(), Choice::Stay(2));
        let Choice::Moved(next) = affinity.choose(bound(2), &members(&["c"])).unwrap() else { panic!() };
        assert_eq!(affinity.choose(bound(2), &members(&["c"])).unwrap(), Choice::Moved(next), "until it is told");
        assert_eq!(affinity.choose(bound(next), &members(&["c"])).unwrap(), Choice::Stay(next));
        assert_eq!(affinity.choose(bound(next), &members(&[])).unwrap(), Choice::Stay(next));
        let gone = affinity.choose(Session::bound(7, None), &members(&["c"])).unwrap();
        assert_eq!(gone, Choice::Moved(next), "who has left and who drains send it to the same");
        assert_eq!(affinity.choose(bound(99), &members(&["c"])).unwrap(), Choice::Moved(next));
        let AffinityStats { hit, moved, miss, .. } = affinity.stats();
        assert_eq!((hit, moved, miss), (3, 4, 0));
    }

    #[test]
    fn nobody_to_pick_is_anybody_unless_sessions_are_strict() {
        let (loose, strict) = (Affinity::new(), Affinity::new().strict(true));
        for members in [members(&KEYS), vec![]] {
            for session in [Session::NONE, Session::of(b""), Session::of(b"k"), Session::bound(1, Some(0))] {
                assert_eq!(loose.choose(session, &members).unwrap(), Choice::Any);
            }
        }
        assert_eq!(strict.choose(Session::NONE, &members(&KEYS)).unwrap(), Choice::Any);
        let error = strict.choose(Session::bound(1, Some(0)), &members(&["a"])).unwrap_err();
        assert_eq!(error.to_string(), "a: unavailable: it cannot be picked, and sessions are strict");
        let error = strict.choose(Session::bound(1, None), &members(&[])).unwrap_err();
        assert_eq!(error.to_string(), "affinity: unavailable: the session's endpoint is gone, and sessions are strict");
        assert_eq!(strict.stats().to_string(), "0 hit, 1 miss, 0 moved, 2 refused, 0 forged, 0 expired");
    }
}
