//! How many slots each shard is due: whole numbers, as near to its share as whole numbers come.

/// Shares `total` out by weight, none above its `cap`. Each gets its exact share rounded up or down; who has more than the
/// lower of the two now keeps it first, so that the fewest move.
pub(super) fn shares(total: usize, weights: &[u64], caps: &[usize], have: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; weights.len()];
    let mut open: Vec<usize> = (0..weights.len()).filter(|at| of(weights, *at) > 0 && of(caps, *at) > 0).collect();
    let mut left = total;
    // whose share is above the cap gets the cap, and the others share the rest: round by round, until none is
    loop {
        let weight: u128 = open.iter().map(|at| u128::from(of(weights, *at))).sum();
        if weight == 0 || left == 0 {
            return shares;
        }
        let exact = |at: usize| left as u128 * u128::from(of(weights, at));
        let (full, rest): (Vec<_>, Vec<_>) = open.iter().partition(|at| exact(**at) >= of(caps, **at) as u128 * weight);
        if full.is_empty() {
            let mut spare = left;
            for at in &rest {
                let floor = (exact(*at) / weight) as usize;
                set(&mut shares, *at, floor);
                spare -= floor;
            }
            let mut odd: Vec<_> = rest.into_iter().filter(|at| exact(*at) % weight > 0).collect();
            odd.sort_by_key(|at| {
                let keeps = of(have, *at) > of(&shares, *at);
                (!keeps, std::cmp::Reverse(exact(*at) % weight), *at)
            });
            for at in odd.into_iter().take(spare) {
                let more = of(&shares, at) + 1;
                set(&mut shares, at, more);
            }
            return shares;
        }
        for at in full {
            set(&mut shares, at, of(caps, at));
            left -= of(caps, at);
        }
        open = rest;
    }
}

fn of<T: Copy + Default>(list: &[T], at: usize) -> T {
    list.get(at).copied().unwrap_or_default()
}

fn set(list: &mut [usize], at: usize, value: usize) {
    if let Some(place) = list.get_mut(at) {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gets_its_share_rounded_and_who_has_more_keeps_it() {
        assert_eq!(shares(10, &[1, 1, 1], &[10; 3], &[0; 3]), [4, 3, 3]);
        assert_eq!(shares(10, &[1, 1, 1], &[10; 3], &[3, 3, 9]), [3, 3, 4]);
        assert_eq!(shares(12, &[2, 0, 1], &[12; 3], &[0; 3]), [8, 0, 4]);
        assert_eq!(shares(10, &[1, 1], &[10; 2], &[10, 0]), [5, 5]);
    }

    #[test]
    fn who_is_at_the_cap_leaves_the_rest_to_the_others() {
        assert_eq!(shares(20, &[10, 1, 1], &[10; 3], &[0; 3]), [10, 5, 5]);
        assert_eq!(shares(20, &[10, 9, 1], &[10; 3], &[0; 3]), [10, 9, 1]);
        assert_eq!(shares(30, &[1, 1, 1], &[10; 3], &[0; 3]), [10, 10, 10]);
    }
}
