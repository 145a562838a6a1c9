//! Whose turn it is: a fair share of the items for each of several inputs, by weight.

/// Start-time fair queueing (Goyal, Vin and Cheng), counted in items: inputs that have something waiting share by weight,
/// whatever the size of their batches, and one that had nothing for a while comes back without arrears and without
/// credit.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    inputs: Vec<Input>,
    /// The virtual time: when the last that was served began.
    clock: u64,
}

#[derive(Clone, Copy, Debug)]
struct Input {
    weight: u32,
    /// When it has had what it was given, in virtual time.
    finish: u64,
}

/// Virtual time per item at weight 1.
const ITEM: u64 = 1 << 20;

impl Turns {
    pub(super) fn new(weights: impl IntoIterator<Item = u32>) -> Turns {
        let inputs = weights.into_iter().map(|weight| Input { weight: weight.max(1), finish: 0 }).collect();
        Turns { inputs, clock: 0 }
    }

    /// The inputs, in the order in which to ask them.
    pub(super) fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let mut order: Vec<_> =
            self.inputs.iter().enumerate().map(|(at, input)| (input.finish.max(self.clock), at)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, at)| at)
    }

    /// This input was served so many items.
    pub(super) fn served(&mut self, input: usize, items: u32) {
        if let Some(input) = self.inputs.get_mut(input) {
            self.clock = input.finish.max(self.clock);
            input.finish = self.clock.saturating_add(u64::from(items) * ITEM / u64::from(input.weight));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.inputs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    /// Who gets how many of so many turns, where `ready` says who has something.
    fn share(turns: &mut Turns, rounds: u32, mut size: impl FnMut(usize) -> u32, ready: &[bool]) -> Vec<u64> {
        let mut got = vec![0; ready.len()];
        for _ in 0..rounds {
            let next = turns.order().find(|at| ready[*at]).unwrap();
            let items = size(next);
            turns.served(next, items);
            got[next] += u64::from(items);
        }
        got
    }

    #[test]
    fn shares_are_by_weight_and_item_whatever_the_batches() {
        let mut rng = Seed::new(5).rng();
        let mut turns = Turns::new([1, 3, 2]);
        let size = |at: usize| [200, 1, 1 + rng.below(50) as u32][at];
        let got = share(&mut turns, 100_000, size, &[true; 3]);
        let all: u64 = got.iter().sum();
        for (got, weight) in got.iter().zip([1, 3, 2]) {
            let (got, due) = (*got as f64, all as f64 * f64::from(weight) / 6.0);
            assert!((got - due).abs() < 0.01 * due + 400.0, "{got} of {due}");
        }
    }

    #[test]
    fn whoever_was_idle_has_neither_arrears_nor_credit() {
        let mut turns = Turns::new([1, 1]);
        assert_eq!(share(&mut turns, 1000, |_| 10, &[true, false]), [10_000, 0]);
        let got = share(&mut turns, 20, |_| 10, &[true, true]);
        assert_eq!(got, [100, 100], "no burst for the one that comes back");
    }
}
