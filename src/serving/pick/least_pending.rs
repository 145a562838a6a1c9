//! The one with fewer calls in flight, of two.

use super::{Choice, Picker};
use crate::{
    base::time,
    serving::{
        Among, Draw,
        cell::{Cell, better},
        load::Watch,
    },
};

/// Two drawn at random, and of these the one with fewer calls in flight: the default.
///
/// It needs no clock and reacts at once; the cheapest that avoids who is slow. Where endpoints have weights, both
/// candidates are drawn by weight, and in flight counts by weight, too. One that failed a moment ago is second choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeastPending;

impl<Req: ?Sized> Picker<Req> for LeastPending {
    #[inline(always)]
    fn choose<S>(&self, among: &Among<'_, S>, _: &Req, draw: &mut Draw) -> Option<Choice> {
        let (place, watched) = match among.two_at_once(draw) {
            Ok((a, b)) => {
                let (first, second) = (among.snapshot.list.get(a)?, among.snapshot.list.get(b)?);
                let (place, endpoint) =
                    if better(&first.cell, &second.cell, time::now) { (a, first) } else { (b, second) };
                (place, endpoint.cell.is_watched())
            }
            Err(drawn) => (weighted(among, draw, drawn)?, true),
        };
        Some(Choice { place, watch: if watched { Watch::Answer } else { Watch::Nothing } })
    }
}

#[inline(never)]
fn weighted<S>(among: &Among<'_, S>, draw: &mut Draw, drawn: Option<(usize, usize)>) -> Option<usize> {
    let (a, b) = among.two_of_few(draw, drawn)?;
    let (first, second) = (&among.snapshot.list.get(a)?.cell, &among.snapshot.list.get(b)?.cell);
    let (heavy, light) = match among.sampling.is_even() {
        true => (1, 1),
        false => (u64::from(among.weight(a)), u64::from(among.weight(b))),
    };
    let place = match (first.is_shunned(time::now), second.is_shunned(time::now)) {
        (true, false) => b,
        (false, true) => a,
        _ if u64::from(Cell::pending(first)) * light <= u64::from(Cell::pending(second)) * heavy => a,
        _ => b,
    };
    Some(place)
}
