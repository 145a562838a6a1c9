//! How long one is out, how many may be, and which settings are refused.

use super::*;
use crate::base::{Kind, Seed};

fn waits(settings: &Ejection) -> Vec<u64> {
    let mut rng = Seed::new(1).rng();
    (1..=12).map(|times| settings.out_for(times, &mut rng).as_millis() as u64).collect()
}

#[test]
fn the_time_out_grows_as_each_says_and_never_beyond_the_longest() {
    let envoy: Vec<_> = (1..=12).map(|times| 30_000 * times.min(10)).collect();
    assert_eq!(waits(&Ejection::envoy()), envoy);
    let doubled = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000, 60_000, 60_000, 60_000];
    assert_eq!(waits(&Ejection::linkerd().jitter(0.0)), doubled);
    let finagle = waits(&Ejection::finagle());
    assert!((2_500..5_000).contains(&finagle[0]) && (150_000..300_000).contains(&finagle[11]), "{finagle:?}");
    let mut rng = Seed::new(2).rng();
    assert_eq!(Ejection::envoy().out_for(u32::MAX, &mut rng), WAIT_MAX);
    assert_eq!(Ejection::finagle().jitter(0.0).out_for(u32::MAX, &mut rng), Duration::from_secs(150));
}

#[test]
fn a_first_time_out_longer_than_the_usual_longest_is_the_longest() {
    let settings = Ejection::envoy().wait(Duration::from_secs(400));
    assert!(settings.check().is_ok());
    assert_eq!(settings.out_for(3, &mut Seed::new(1).rng()), Duration::from_secs(400));
}

#[test]
fn the_cap_rounds_down_for_every_number_of_endpoints() {
    for percent in [0, 1, 10, 33, 50, 99, 100] {
        let (settings, one) = (Ejection::new().cap(percent), Ejection::new().cap(percent).at_least_one(true));
        for all in 0..1_000 {
            let allowed = settings.allowed(all);
            assert!(allowed * 100 <= all * percent as usize && (allowed + 1) * 100 > all * percent as usize);
            assert_eq!(one.allowed(all), if all > 1 { allowed.max(1) } else { allowed });
        }
    }
    let small: Vec<_> = (0..6).map(|all| Ejection::new().allowed(all)).collect();
    assert_eq!(small, [0, 0, 1, 1, 2, 2]);
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let (new, second) = (Ejection::new, Duration::from_secs(1));
    for (wrong, says) in [
        (new().cap(101), "cap"),
        (new().panic(101), "panic threshold"),
        (new().interval(Duration::ZERO), "interval"),
        (new().interval(Duration::MAX), "day"),
        (new().wait(Duration::ZERO), "time out"),
        (new().wait(Duration::MAX), "day"),
        (new().wait(2 * second).wait_max(second), "longest time out, 1s, is shorter than the first, 2s"),
        (new().jitter(f64::NAN), "jitter"),
        (new().jitter(-0.1), "jitter"),
        (new().rate(1.1, second, 5), "success rate"),
        (new().rate(f64::NAN, second, 5), "success rate"),
        (new().rate(0.5, Duration::ZERO, 5), "window"),
        (new().fleet(f64::INFINITY, 5, 5), "deviations"),
        (new().fleet(-1.0, 5, 5), "deviations"),
        (new().failing(0.0, 5, 5), "share of failures"),
        (new().failing(f64::NAN, 5, 5), "share of failures"),
    ] {
        let error = wrong.check().unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.to_string().contains(says), "{error}");
    }
    for right in [new(), Ejection::none(), Ejection::envoy(), Ejection::linkerd(), Ejection::finagle()] {
        right.check().unwrap();
    }
}
