//! What came of a run.

use crate::base::Outcome;
use std::{fmt, time::Duration};

/// One client's answers.
#[derive(Debug, Default)]
pub(super) struct Tally {
    answers: Vec<Answer>,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    at: Duration,
    took: Duration,
    outcome: Outcome,
}

impl Tally {
    pub(super) fn add(&mut self, at: Duration, took: Duration, outcome: Outcome) {
        self.answers.push(Answer { at, took, outcome });
    }
}

/// What came of a run: of each request, of each second, of each server.
///
/// Printed, it is a short table.
#[derive(Clone, Debug)]
pub struct Report {
    /// By the time they took.
    answers: Vec<Answer>,
    seconds: Vec<Second>,
    servers: Vec<(String, u64)>,
}

/// The requests that came in one second of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Second {
    /// How many came.
    pub offered: u64,
    /// How many of them were answered well, whenever that was.
    pub succeeded: u64,
}

impl Second {
    /// The share of them that was answered well; 1 where none came.
    pub fn success(&self) -> f64 {
        share(self.succeeded, self.offered)
    }
}

impl Report {
    pub(super) fn new(tallies: Vec<Tally>, servers: Vec<(String, u64)>) -> Self {
        let mut answers: Vec<Answer> = tallies.into_iter().flat_map(|tally| tally.answers).collect();
        answers.sort_by_key(|answer| (answer.took, answer.at));
        let length = answers.iter().map(|answer| answer.at.as_secs() as usize + 1).max().unwrap_or(0);
        let mut seconds = vec![Second::default(); length];
        for answer in &answers {
            if let Some(second) = seconds.get_mut(answer.at.as_secs() as usize) {
                second.offered += 1;
                second.succeeded += u64::from(answer.outcome == Outcome::Success);
            }
        }
        Report { answers, seconds, servers }
    }

    /// How many requests there were.
    pub fn requests(&self) -> u64 {
        self.answers.len() as u64
    }

    /// The share that was answered well, from 0.0 to 1.0; 1 where there were none.
    pub fn success(&self) -> f64 {
        self.success_within(Duration::MAX)
    }

    /// The share that was answered well within this time: the success rate of callers who wait no longer.
    pub fn success_within(&self, patience: Duration) -> f64 {
        let good = self.answers.iter().filter(|answer| answer.outcome == Outcome::Success && answer.took <= patience);
        share(good.count() as u64, self.requests())
    }

    /// The time within which this share of all good answers came, as 0.99; zero where there was none.
    pub fn percentile(&self, share: f64) -> Duration {
        let good: Vec<Duration> =
            self.answers.iter().filter(|a| a.outcome == Outcome::Success).map(|a| a.took).collect();
        let rank = (share.clamp(0.0, 1.0) * good.len() as f64).ceil() as usize;
        good.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// How many calls were sent to servers: with retries and hedges more than there were requests.
    pub fn attempts(&self) -> u64 {
        self.servers().map(|(_, sent)| sent).sum()
    }

    /// Attempts per request.
    pub fn amplification(&self) -> f64 {
        self.attempts() as f64 / self.requests().max(1) as f64
    }

    /// The seconds of the run, by when their requests came.
    pub fn seconds(&self) -> &[Second] {
        &self.seconds
    }

    /// How many calls were sent to each server, in the order of the servers.
    pub fn servers(&self) -> impl Iterator<Item = (&str, u64)> {
        self.servers.iter().map(|(name, sent)| (name.as_str(), *sent))
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |share: f64| self.percentile(share).as_secs_f64() * 1_000.0;
        write!(
            f,
            "{} requests, {:.2} % well, p50 {:.0} ms, p99 {:.0} ms, p99.9 {:.0} ms, {:.2} attempts each",
            self.requests(),
            self.success() * 100.0,
            millis(0.5),
            millis(0.99),
            millis(0.999),
            self.amplification()
        )?;
        let (least, most) =
            self.servers().fold((u64::MAX, 0), |(least, most), (_, sent)| (least.min(sent), most.max(sent)));
        write!(f, ", {least} to {most} to a server")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_percentiles_and_seconds_are_those_of_the_answers() {
        let milli = Duration::from_millis(1);
        let mut tally = Tally::default();
        for number in 0..1_000_u32 {
            let outcome = if number % 10 == 9 { Outcome::Failure } else { Outcome::Success };
            tally.add(number * 2 * milli, (number + 1) * milli, outcome);
        }
        let report = Report::new(vec![tally], Vec::new());
        assert_eq!((report.requests(), report.success(), report.success_within(500 * milli)), (1_000, 0.9, 0.45));
        assert_eq!((report.percentile(0.5), report.percentile(1.0)), (499 * milli, 999 * milli));
        assert_eq!(report.percentile(0.0), milli);
        let second = Second { offered: 500, succeeded: 450 };
        assert_eq!((report.seconds(), second.success()), (&[second, second][..], 0.9));
    }

    #[test]
    fn nothing_came_of_nothing() {
        let report = Report::new(Vec::new(), Vec::new());
        assert_eq!((report.success(), report.percentile(0.5), report.amplification()), (1.0, Duration::ZERO, 0.0));
    }
}
