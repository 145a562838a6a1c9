//! Settings of ejection that make no sense are refused, by their name.

use super::Ejection;
use crate::base::{Error, Kind, Result};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

impl Ejection {
    pub(in crate::serving::eject) fn check(&self) -> Result {
        let invalid = |what: String| Err(Error::new(Kind::Invalid, what).at("ejection"));
        for (name, percent) in [("cap", self.cap), ("panic threshold", self.panic)] {
            if percent > 100 {
                return invalid(format!("the {name} is a percentage, not {percent}"));
            }
        }
        if self.interval.is_zero() || self.wait.is_zero() {
            return invalid("neither the interval nor the time out can be zero".into());
        }
        // a day of each at most leaves room for every sum below
        if self.interval > DAY || self.longest() > DAY {
            return invalid("neither the interval nor the time out can be longer than a day".into());
        }
        if let Some(max) = self.wait_max.filter(|max| *max < self.wait) {
            return invalid(format!("the longest time out, {max:?}, is shorter than the first, {:?}", self.wait));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return invalid(format!("the jitter is a share from 0 to 1, not {}", self.jitter));
        }
        if let Some(rate) = self.rate {
            if !(0.0..=1.0).contains(&rate.below) {
                return invalid(format!("the success rate is a share from 0 to 1, not {}", rate.below));
            }
            if !(Duration::from_millis(10)..=DAY).contains(&rate.window) {
                return invalid(format!("the window is from 10 ms to a day, not {:?}", rate.window));
            }
        }
        if let Some(fleet) = self.fleet
            && !(fleet.deviations >= 0.0 && fleet.deviations.is_finite())
        {
            return invalid(format!("the deviations are a number from 0 on, not {}", fleet.deviations));
        }
        if let Some(failing) = self.failing
            && !(failing.share > 0.0 && failing.share <= 1.0)
        {
            return invalid(format!("the share of failures is above 0 and up to 1, not {}", failing.share));
        }
        Ok(())
    }
}
