//! Where a session's request goes, from what is known of the endpoints. Pure.

use super::{Said, Session};
use crate::layer::attempt;
use crate::serving::{Among, rendezvous};

/// What is decided for a request, in terms of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Anywhere: it has no session, or nobody can be picked.
    Any,
    /// To the endpoint of its session.
    Stay(usize),
    /// To another, since that one cannot be picked.
    Moved(usize),
    /// This once elsewhere: an earlier attempt of the request went to the session's endpoint.
    Detour,
    /// It would have to move; here is the endpoint, where it is still in the set.
    Homeless(Option<usize>),
}

/// The endpoints, as affinity sees them.
pub(super) trait Members: Sized {
    /// The places of those that may have sessions, and the hashes of their names.
    fn each(&self) -> impl Iterator<Item = (usize, u64)>;
    fn key(&self, place: usize) -> &str;
    /// The first choice of this key among all of them.
    fn home(&self, key: u64) -> Option<usize> {
        first(key, self, |_| true)
    }
    /// Whether a request may go there.
    fn pickable(&self, place: usize) -> bool;
    /// Whether an earlier attempt went there, so that it is out of the choice for this one, whatever else is wrong with it.
    fn tried(&self, place: usize) -> bool;
    /// Whether it takes no session of this key yet: it has just come.
    fn cold(&self, place: usize, key: u64) -> bool;
}

/// Where the request goes; strict sessions do not move.
pub(super) fn decide(session: Session, strict: bool, members: &impl Members) -> Decision {
    let (key, home) = match session.0 {
        Said::Nothing => return Decision::Any,
        Said::Key(key) => (key, members.home(key)),
        Said::Bound(number, home) => (number, home),
    };
    let bound = matches!(session.0, Said::Bound(..));
    match home {
        Some(home) if members.pickable(home) => {
            if bound || strict || !members.cold(home, key) {
                return Decision::Stay(home);
            }
            let warm = first(key, members, |place| members.pickable(place) && !members.cold(place, key));
            return Decision::Stay(warm.unwrap_or(home));
        }
        Some(home) if members.tried(home) => return Decision::Detour,
        _ => {}
    }
    match first(key, members, |place| members.pickable(place)) {
        _ if strict => Decision::Homeless(home),
        Some(other) => Decision::Moved(other),
        None => Decision::Any,
    }
}

/// The first choice of this key among some of them; of equal scores the lesser name, so that the order does not matter.
fn first<M: Members>(key: u64, members: &M, which: impl Fn(usize) -> bool) -> Option<usize> {
    let better = |best: Option<(u64, usize)>, (place, name): (usize, u64)| {
        let score = rendezvous::score(key, name);
        let wins = best.is_none_or(|(highest, other)| {
            score > highest || (score == highest && members.key(place) < members.key(other))
        });
        if wins && which(place) { Some((score, place)) } else { best }
    };
    // folded, since a loop asks at each step which half of the chain it is in
    members.each().fold(None, better).map(|(_, place)| place)
}

/// In a part of a set, those that drain are gone: who else is in the part is known by its weight alone.
impl<S> Members for Among<'_, S> {
    #[inline]
    fn each(&self) -> impl Iterator<Item = (usize, u64)> {
        let names = self.snapshot.names();
        let (whole, part) = match self.is_whole() {
            true => (names, None),
            false => (&[][..], Some(self.sampling.places())),
        };
        let part = part.into_iter().flatten().filter_map(|place| Some((place, *names.get(place)?)));
        whole.iter().copied().enumerate().chain(part)
    }

    fn key(&self, place: usize) -> &str {
        Among::key(self, place)
    }

    #[inline]
    fn home(&self, key: u64) -> Option<usize> {
        match self.is_whole() {
            true => self.snapshot.homes.of(key, self.snapshot.list.len(), || first(key, self, |_| true)),
            false => first(key, self, |_| true), // of each part it is another
        }
    }

    fn pickable(&self, place: usize) -> bool {
        self.is_pickable(place)
    }

    fn tried(&self, place: usize) -> bool {
        let key = || self.snapshot.list.get(place).map(|endpoint| endpoint.cell.key());
        self.is_narrowed() && attempt::any_tried() && key().is_some_and(attempt::tried)
    }

    fn cold(&self, place: usize, key: u64) -> bool {
        // whether a warming one takes the key yet depends on the key: it moves once, not back and forth
        self.is_warming(place) && !self.admits(place, (key >> 32) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    /// Names, in their order, and what is wrong with each: nothing, `!` it cannot be picked, `+` it is tried.
    struct Model<'a>(Vec<(&'a str, char)>);

    impl Members for Model<'_> {
        fn each(&self) -> impl Iterator<Item = (usize, u64)> {
            self.0.iter().map(|(key, _)| rendezvous::name(key.as_bytes())).enumerate()
        }

        fn key(&self, place: usize) -> &str {
            self.0[place].0
        }

        fn pickable(&self, place: usize) -> bool {
            self.0.get(place).is_some_and(|(_, wrong)| *wrong == ' ')
        }

        fn tried(&self, place: usize) -> bool {
            self.0.get(place).is_some_and(|(_, wrong)| *wrong == '+')
        }

        fn cold(&self, _: usize, _: u64) -> bool {
            false
        }
    }

    const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

    fn all(wrong: &[(&str, char)]) -> Model<'static> {
        let of =
            |key: &&'static str| (*key, wrong.iter().find(|(other, _)| other == key).map_or(' ', |(_, wrong)| *wrong));
        Model(KEYS.iter().map(of).collect())
    }

    fn goes<'a>(decision: Decision, members: &Model<'a>) -> &'a str {
        match decision {
            Decision::Stay(place) | Decision::Moved(place) => members.0[place].0,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_s_sessions_move_only_where_their_endpoint_is_out_and_every_balancer_agrees() {
        let mut rng = Seed::new(1).rng();
        let (well, without) = (all(&[]), all(&[("c", '!')]));
        let mut shuffled = Model(without.0.clone());
        let mut moved = 0;
        for session in 0..10_000_u32 {
            let session = Session::of(session.to_le_bytes());
            let before = goes(decide(session, false, &well), &well);
            let decision = decide(session, false, &without);
            let after = goes(decision, &without);
            assert_eq!(matches!(decision, Decision::Moved(_)), before == "c");
            assert!(after != "c" && (before == "c" || after == before));
            rng.shuffle(&mut shuffled.0);
            assert_eq!(goes(decide(session, false, &shuffled), &shuffled), after);
            // gone or only out: the same choice
            let gone = Model(without.0.iter().filter(|(key, _)| *key != "c").copied().collect());
            assert_eq!(goes(decide(session, false, &gone), &gone), after);
            moved += u32::from(before == "c");
        }
        assert!((1_500..1_850).contains(&moved), "{moved}");
    }

    #[test]
    fn a_bound_session_stays_where_it_moved_when_the_first_comes_back() {
        let bound = |place| Session::bound(7, Some(place));
        assert_eq!(decide(bound(2), false, &all(&[])), Decision::Stay(2));
        let without = all(&[("c", '!')]);
        let Decision::Moved(next) = decide(bound(2), false, &without) else { panic!() };
        assert_eq!(decide(bound(2), false, &without), Decision::Moved(next), "until it is told");
        assert_eq!(decide(bound(next), false, &without), Decision::Stay(next));
        assert_eq!(decide(bound(next), false, &all(&[])), Decision::Stay(next));
        let gone = decide(Session::bound(7, None), false, &without);
        assert_eq!(gone, Decision::Moved(next), "who has left and who drains send it to the same");
        assert_eq!(decide(bound(99), false, &without), Decision::Moved(next));
    }

    #[test]
    fn nobody_to_pick_is_anybody_unless_sessions_are_strict() {
        let nobody = all(&KEYS.map(|key| (key, '!')));
        for members in [&nobody, &Model(vec![])] {
            for session in [Session::NONE, Session::of(""), Session::of("k"), Session::bound(1, Some(0))] {
                assert_eq!(decide(session, false, members), Decision::Any);
            }
        }
        assert_eq!(decide(Session::NONE, true, &nobody), Decision::Any);
        assert_eq!(decide(Session::bound(1, Some(0)), true, &all(&[("a", '!')])), Decision::Homeless(Some(0)));
        assert_eq!(decide(Session::bound(1, None), true, &all(&[])), Decision::Homeless(None));
    }

    #[test]
    fn an_attempt_that_goes_elsewhere_is_no_move() {
        for strict in [false, true] {
            assert_eq!(decide(Session::bound(7, Some(2)), strict, &all(&[("c", '+')])), Decision::Detour);
        }
    }
}
