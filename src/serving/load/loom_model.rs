//! Every interleaving of two threads, up to three preemptions.

use super::*;
use crate::{
    base::time::Instant,
    serving::{
        cell::{SHUN, state},
        snapshot::Endpoint,
    },
};
use loom::{model::Builder, thread};

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn cell() -> (Arc<Cell>, Instant) {
    let epoch = time::now();
    (Arc::new(Cell::new("a".into(), epoch)), epoch)
}

#[test]
fn leases_are_counted_while_the_set_changes_under_them() {
    check(|| {
        let (cell, _) = cell();
        let old = Endpoint::new(cell, 1);
        let other = {
            let picked = old.clone();
            thread::spawn(move || {
                let lease = Lease::new(&picked.cell, Watch::Nothing);
                drop(picked);
                drop(Lease::new(lease.cell().unwrap(), Watch::Nothing));
                lease
            })
        };
        let new = old.clone();
        drop(old);
        let lease = other.join().unwrap();
        assert_eq!(Cell::pending(&new.cell), 1, "one is held, one was given back");
        drop(lease);
        assert_eq!(Cell::pending(&new.cell), 0);
    });
}

#[test]
fn a_new_failure_is_not_forgotten_with_the_old_one() {
    check(|| {
        let (cell, epoch) = cell();
        cell.suffer(Outcome::Failure, epoch);
        let later = epoch + SHUN;
        let other = {
            let cell = cell.clone();
            thread::spawn(move || cell.suffer(Outcome::Failure, later))
        };
        let _ = cell.is_shunned(|| later); // the old one is over
        other.join().unwrap();
        assert!(cell.is_shunned(|| later));
    });
}

#[test]
fn marks_of_different_kinds_do_not_wipe_out_each_other() {
    check(|| {
        let (cell, _) = cell();
        cell.mark(state::UNREADY, true);
        let other = {
            let cell = cell.clone();
            thread::spawn(move || cell.mark(state::EJECTED, true))
        };
        assert!(cell.mark(state::UNREADY, false));
        assert!(other.join().unwrap());
        assert_eq!(cell.state(), state::EJECTED);
    });
}
