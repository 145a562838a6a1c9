//! Every interleaving of two threads, up to three preemptions.

use super::*;
use loom::{model::Builder, thread};

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn endpoints() -> Endpoints<u32> {
    Endpoints::named("model").seed(Seed::new(1))
}

#[test]
fn two_changes_that_race_are_both_made_and_nobody_takes_an_old_set_for_the_new_one() {
    check(|| {
        let set = endpoints();
        let other = {
            let set = set.clone();
            thread::spawn(move || {
                set.insert("a", 1);
                set.current_shared()
            })
        };
        set.insert("b", 2);
        let mine = set.current_shared();
        let theirs = other.join().unwrap();
        assert!(mine.find("b").is_some() && theirs.find("a").is_some(), "who has changed it sees that");
        assert_eq!((set.len(), set.version()), (2, 2));
        for seen in [mine, theirs] {
            assert_eq!(set.is_current(seen.version), seen.list.len() == 2);
        }
    });
}

#[test]
fn a_handle_sees_what_was_changed_before_its_call_and_never_goes_back() {
    check(|| {
        let set = endpoints();
        let writer = {
            let set = set.clone();
            thread::spawn(move || {
                set.insert("a", 1);
                set.insert("b", 2);
            })
        };
        // as a handle does at each call: what it keeps, where that is the set of now; else what is there
        let (mut seen, mut calls) = (set.current_shared(), 0);
        while calls < 2 {
            calls += 1;
            let version = set.shared.version.0.load(Acquire);
            if !set.is_current(seen.version) {
                let next = set.current_shared();
                assert!(next.version >= seen.version && next.version >= version);
                seen = next;
            }
            assert_eq!(seen.list.len() as u64, seen.version);
        }
        writer.join().unwrap();
        assert!(set.is_current(2) && set.current().version == 2);
    });
}
