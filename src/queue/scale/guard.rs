//! The guard against a bottleneck downstream: whether the workers that came last brought anything.

use super::Inputs;
use crate::base::time::Instant;
use std::time::Duration;

/// How many finished items a rate must be made of before it is compared: at 20 its standard error is 22 %.
const EVIDENCE: u64 = 20;
/// How much of what they should have brought new workers must bring.
const GAIN: f64 = 1.0 / 3.0;
/// How long the ceiling stands before a tenth more is tried: as long as a scale-down waits.
const TRIED_AGAIN: Duration = Duration::from_secs(300);
/// How long a level is measured before it is measured anew, so that it tells of the present.
const FRESH: f64 = 60.0;

/// What was finished while this many workers were all busy and items waited: only then is the rate theirs alone.
#[derive(Clone, Copy, Debug)]
struct Level {
    workers: u32,
    finished: u64,
    seconds: f64,
}

impl Level {
    /// The rate, this many standard errors away from what was counted.
    fn rate(&self, errors: f64) -> f64 {
        let counted = self.finished as f64;
        ((counted + errors * counted.sqrt()) / self.seconds).max(0.0)
    }

    fn tells(&self) -> bool {
        self.finished >= EVIDENCE && self.seconds > 0.0
    }
}

/// The level that is being measured.
#[derive(Clone, Copy, Debug)]
struct Open {
    workers: u32,
    /// Not before the workers that were there at the change have finished what they had.
    settled: Instant,
    start: Option<(Instant, u64)>,
}

/// Compares the rates at which workers of different numbers finish items, as long as they are all busy.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    levels: Vec<Level>,
    open: Option<Open>,
    ceiling: Option<Ceiling>,
}

/// No more workers than these, until something changes.
#[derive(Clone, Copy, Debug)]
struct Ceiling {
    workers: u32,
    until: Instant,
    /// What they brought when it was found.
    level: Level,
}

/// How many levels are remembered: with them doubling, more than any number of workers needs.
const LEVELS: usize = 32;

impl Guard {
    /// How many workers are known to make no difference any more.
    pub(super) fn ceiling(&mut self, now: Instant, inputs: &Inputs) -> Option<u32> {
        let workers = inputs.workers;
        let all_busy = u64::from(workers.busy) * 10 >= u64::from(workers.running) * 9 && workers.running > 0;
        if inputs.backlog == 0 || (!all_busy && workers.starting == 0) {
            *self = Guard::default(); // they keep up: nothing holds them back
            return None;
        }
        if let Some(ceiling) = self.ceiling.as_mut().filter(|ceiling| now >= ceiling.until) {
            ceiling.workers = ceiling.workers.saturating_add((ceiling.workers / 10).max(1));
            ceiling.until = now + TRIED_AGAIN;
        }
        if workers.starting == 0 {
            self.measure(now, inputs);
        } else {
            self.close();
        }
        self.ceiling.map(|ceiling| ceiling.workers)
    }

    fn close(&mut self) {
        self.open = None;
    }

    fn measure(&mut self, now: Instant, inputs: &Inputs) {
        let running = inputs.workers.running;
        let mut open = match self.open {
            Some(open) if open.workers == running => open,
            _ => Open {
                workers: running,
                settled: now + inputs.service_time.unwrap_or_default().min(TRIED_AGAIN),
                start: None,
            },
        };
        match open.start {
            Some((since, finished)) => {
                let level = Level {
                    workers: running,
                    finished: inputs.finished.saturating_sub(finished),
                    seconds: now.saturating_duration_since(since).as_secs_f64(),
                };
                if level.tells() {
                    self.compare(now, level);
                    self.keep(level);
                    if level.seconds >= FRESH {
                        open.start = Some((now, inputs.finished));
                    }
                }
            }
            None if now >= open.settled => open.start = Some((now, inputs.finished)),
            None => {}
        }
        self.open = Some(open);
    }

    /// In the place of what was known of this many workers.
    fn keep(&mut self, level: Level) {
        self.levels.retain(|known| known.workers != level.workers);
        if self.levels.len() >= LEVELS {
            self.levels.remove(0);
        }
        self.levels.push(level);
    }

    /// In the doubt, the new workers have brought something.
    fn compare(&mut self, now: Instant, level: Level) {
        let useless = self.levels.iter().filter(|fewer| fewer.workers < level.workers).any(|fewer| {
            let more = f64::from(level.workers) / f64::from(fewer.workers) - 1.0;
            level.rate(2.0) < fewer.rate(-2.0) * (1.0 + GAIN * more)
        });
        match self.ceiling {
            // what they depend on has become faster: what was learned of it is out of date
            Some(held) if level.rate(-2.0) > held.level.rate(2.0) * (1.0 + GAIN) => {
                (self.ceiling, self.levels) = (None, Vec::new());
            }
            None if useless => {
                self.ceiling = Some(Ceiling { workers: level.workers, until: now + TRIED_AGAIN, level });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time;
    use crate::queue::scale::Count;

    /// Looks every 5 s while the workers double every 30 s, and what they finish per second is as given.
    fn ceiling(rate: impl Fn(u32) -> f64) -> Option<u32> {
        let (start, mut guard, mut finished) = (time::now(), Guard::default(), 0.0);
        let mut workers = 4;
        for look in 0..30_u64 {
            if look % 6 == 5 {
                workers *= 2;
            }
            finished += 5.0 * rate(workers);
            let now = start + Duration::from_secs(5 * look);
            let inputs = Inputs {
                backlog: 1,
                service_time: Some(Duration::from_secs(1)),
                workers: Count { running: workers, busy: workers, ..Count::default() },
                finished: finished as u64,
                ..Inputs::default()
            };
            if let Some(ceiling) = guard.ceiling(now, &inputs) {
                return Some(ceiling);
            }
        }
        None
    }

    #[test]
    fn workers_that_bring_what_they_should_are_not_held_back() {
        assert_eq!(ceiling(f64::from), None);
        assert_eq!(
            ceiling(|workers| f64::from(workers).powf(0.7)),
            None,
            "nor those that get in each other's way a little"
        );
    }

    #[test]
    fn workers_that_bring_nothing_are_the_last_ones() {
        assert_eq!(ceiling(|workers| f64::from(workers).min(16.0)), Some(32));
    }

    #[test]
    fn too_few_finished_items_tell_nothing() {
        assert_eq!(ceiling(|_| 0.1), None);
    }

    #[test]
    fn it_is_lifted_when_the_backlog_is_gone_and_when_the_rate_rises_and_tries_a_tenth_more() {
        let now = time::now();
        let inputs = |backlog, finished| Inputs {
            backlog,
            finished,
            workers: Count { running: 80, busy: 80, ..Count::default() },
            ..Inputs::default()
        };
        let level = Level { workers: 80, finished: 100, seconds: 10.0 };
        let held =
            Guard { ceiling: Some(Ceiling { workers: 80, until: now + TRIED_AGAIN, level }), ..Guard::default() };
        assert_eq!(held.clone().ceiling(now, &inputs(5, 0)), Some(80));
        assert_eq!(held.clone().ceiling(now, &inputs(0, 0)), None);
        assert_eq!(held.clone().ceiling(now + TRIED_AGAIN, &inputs(5, 0)), Some(88));
        let looked = |rate: u64| {
            let mut guard = held.clone();
            let ceilings = (0..20)
                .map(|look| guard.ceiling(now + look * Duration::from_secs(1), &inputs(5, u64::from(look) * rate)));
            ceilings.last().flatten()
        };
        assert_eq!((looked(11), looked(40)), (Some(80), None));
    }
}
