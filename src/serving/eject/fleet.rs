//! An endpoint compared with the others: who is so much worse that it must be the endpoint.

use super::{
    Reason,
    meter::Seen,
    policy::{Failing, Fleet},
};

/// Who is to be put out after an interval, the worst first; each with what it did in the interval.
pub(super) fn judge<K: Clone>(
    fleet: Option<Fleet>,
    failing: Option<Failing>,
    interval: &[(K, Seen)],
) -> Vec<(K, Reason)> {
    let mut out: Vec<(K, Seen, Reason)> = Vec::new();
    let mut taken = vec![false; interval.len()];
    let mut take = |rule: &dyn Fn(Seen) -> Option<Reason>| {
        for ((key, seen), taken) in interval.iter().zip(&mut taken) {
            if !*taken && let Some(why) = rule(*seen) {
                *taken = true;
                out.push((key.clone(), *seen, why));
            }
        }
    };
    if let Some(fleet) = fleet {
        let rates = || interval.iter().filter(|(_, seen)| enough(*seen, fleet.requests)).map(|(_, seen)| seen.rate());
        if let Some((mean, bound)) = bound(rates, fleet.endpoints, fleet.deviations) {
            take(&|seen| {
                let worse = enough(seen, fleet.requests) && seen.rate() < bound;
                worse.then(|| Reason::Fleet { rate: seen.rate(), requests: seen.all(), mean, bound })
            });
        }
    }
    if let Some(failing) = failing {
        let judged = interval.iter().filter(|(_, seen)| enough(*seen, failing.requests)).count();
        if judged > 0 && judged >= failing.endpoints as usize {
            take(&|seen| {
                let failed = 1.0 - seen.rate();
                let worse = enough(seen, failing.requests) && failed >= failing.share;
                worse.then_some(Reason::Failing { share: failed, requests: seen.all(), limit: failing.share })
            });
        }
    }
    out.sort_by(|(_, a, _), (_, b, _)| a.rate().total_cmp(&b.rate()));
    out.into_iter().map(|(key, _, why)| (key, why)).collect()
}

fn enough(seen: Seen, requests: u32) -> bool {
    seen.all() > 0 && seen.all() >= requests
}

/// The mean of the rates, and the rate below which one is an outlier; none where there are too few of them.
fn bound<I: Iterator<Item = f64>>(rates: impl Fn() -> I, least: u32, deviations: f64) -> Option<(f64, f64)> {
    let count = rates().count();
    if count == 0 || count < least as usize {
        return None;
    }
    let mean = rates().sum::<f64>() / count as f64;
    let variance = rates().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count as f64;
    Some((mean, mean - deviations * variance.sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: Option<Fleet> = Some(Fleet { deviations: 1.9, endpoints: 5, requests: 100 });
    const FAILING: Option<Failing> = Some(Failing { share: 0.85, endpoints: 5, requests: 50 });

    fn seen(good: u32, bad: u32) -> Seen {
        Seen { good, bad }
    }

    #[test]
    fn four_at_100_per_cent_and_one_at_50_make_90_on_average_and_52_the_bound() {
        let interval: Vec<_> = (0..5).map(|n| (n, if n == 4 { seen(100, 100) } else { seen(200, 0) })).collect();
        let out = judge(FLEET, None, &interval);
        let [(4, Reason::Fleet { rate, requests: 200, mean, bound })] = out[..] else { panic!("{out:?}") };
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(rate, 0.5) && close(mean, 0.9) && close(bound, 0.52), "{rate} {mean} {bound}");
    }

    #[test]
    fn too_few_requests_or_endpoints_judge_nobody_and_nothing_divides_by_zero() {
        let five: Vec<_> = (0..5).map(|n| (n, if n == 4 { seen(50, 49) } else { seen(200, 0) })).collect();
        assert_eq!(judge(FLEET, FAILING, &five), [], "99 requests are not enough, and four others not either");
        let four: Vec<_> = (0..4).map(|n| (n, if n == 3 { seen(0, 200) } else { seen(200, 0) })).collect();
        assert_eq!(judge(FLEET, FAILING, &four), []);
        let none = Some(Fleet { deviations: 1.9, endpoints: 0, requests: 0 });
        let idle: Vec<_> = (0..5).map(|n| (n, seen(0, 0))).collect();
        assert_eq!(judge(none, FAILING, &idle), []);
        assert_eq!(judge::<u32>(none, Some(Failing { share: 0.1, endpoints: 0, requests: 0 }), &[]), []);
    }

    #[test]
    fn equal_rates_put_nobody_out_however_bad() {
        for (good, bad) in [(200, 0), (100, 100), (0, 200), (67, 133)] {
            let equal: Vec<_> = (0..7).map(|n| (n, seen(good, bad))).collect();
            assert_eq!(judge(FLEET, None, &equal), []);
        }
    }

    #[test]
    fn the_share_of_failures_is_judged_alone_and_the_worst_come_first() {
        let interval = [
            (0, seen(60, 0)),
            (1, seen(9, 51)), // 85 % to the point
            (2, seen(0, 60)),
            (3, seen(10, 50)),
            (4, seen(60, 0)),
            (5, seen(0, 49)),
        ];
        let out: Vec<_> = judge(None, FAILING, &interval).into_iter().map(|(n, _)| n).collect();
        assert_eq!(out, [2, 1]);
    }
}
