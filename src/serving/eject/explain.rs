//! Who is out, why, since when and until when.

use crate::base::time::Instant;
use std::{fmt, sync::Arc, time::Duration};

/// Why an endpoint was put out.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// So many failures in a row.
    InARow {
        /// How many.
        failures: u32,
    },
    /// So many calls in a row that did not get as far as the application.
    LocalOrigin {
        /// How many.
        failures: u32,
    },
    /// Too small a share of the window's requests succeeded.
    Rate {
        /// The share.
        rate: f64,
        /// Of how many requests.
        requests: u32,
        /// What it should have been at least.
        below: f64,
    },
    /// A much smaller share of the interval's requests succeeded than elsewhere.
    Fleet {
        /// The share.
        rate: f64,
        /// Of how many requests.
        requests: u32,
        /// The mean of all endpoints.
        mean: f64,
        /// What it should have been at least.
        bound: f64,
    },
    /// Too large a share of the interval's requests failed.
    Failing {
        /// The share.
        share: f64,
        /// Of how many requests.
        requests: u32,
        /// From which share on it is too large.
        limit: f64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| (share * 1_000.0).round() / 10.0;
        match *self {
            Reason::InARow { failures } => write!(f, "{failures} failures in a row"),
            Reason::LocalOrigin { failures } => write!(f, "not reached {failures} times in a row"),
            Reason::Rate { rate, requests, below } => {
                write!(f, "{} % of {requests}, less than {} %", percent(rate), percent(below))
            }
            Reason::Fleet { rate, requests, mean, bound } => write!(
                f,
                "{} % of {requests} against the fleet's {} %, less than {} %",
                percent(rate),
                percent(mean),
                percent(bound)
            ),
            Reason::Failing { share, requests, limit } => {
                write!(f, "{} % of {requests} failed, {} % or more", percent(share), percent(limit))
            }
        }
    }
}

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// In: it is picked like all others.
    Healthy,
    /// Out until its time is over.
    Ejected,
    /// Its time is over: the next request that comes to it decides.
    Due,
    /// The request that decides is under way.
    Probing,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Standing::Healthy => "healthy",
            Standing::Ejected => "ejected",
            Standing::Due => "due for a probe",
            Standing::Probing => "probing",
        })
    }
}

/// An endpoint that is out.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explained {
    /// Its key.
    pub key: Arc<str>,
    /// Whether it waits or is being tried.
    pub standing: Standing,
    /// Why it was put out.
    pub why: Reason,
    /// Since when it has been out without a break.
    pub since: Instant,
    /// When it comes back, or is tried.
    pub until: Instant,
    /// How many times in a row it has been put out, failed probes included; forgotten as the settings say.
    pub times: u32,
    /// How many probes have failed since it is out.
    pub probes_failed: u32,
}

/// The state of a detector at one moment; prints as a few lines to read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// The moment.
    pub now: Instant,
    /// How many endpoints there are.
    pub endpoints: usize,
    /// How many may be out.
    pub allowed: usize,
    /// Whether so many are out that all are used.
    pub panics: bool,
    /// How many times the cap has kept an endpoint in.
    pub spared: u64,
    /// Who is out, longest first.
    pub out: Vec<Explained>,
    /// Who is out on one route alone, where routes are told apart, in the order of their names.
    pub routes: Vec<(String, Explanation)>,
}

impl Explanation {
    /// Of endpoints that nobody watches.
    pub(crate) fn unwatched(endpoints: usize, now: Instant) -> Self {
        Explanation { now, endpoints, allowed: 0, panics: false, spared: 0, out: Vec::new(), routes: Vec::new() }
    }

    /// After how long the first of those who are out comes back or is tried; those being tried do not count, nor do routes.
    pub fn next(&self) -> Option<Duration> {
        let waits = self.out.iter().filter(|out| out.standing != Standing::Probing);
        waits.map(|out| out.until.saturating_duration_since(self.now)).min()
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} out, {} allowed", self.out.len(), self.endpoints, self.allowed)?;
        if self.spared > 0 {
            write!(f, ", {} times kept in by the cap", self.spared)?;
        }
        if self.panics {
            f.write_str(", all are used: too few are in")?;
        }
        for out in &self.out {
            let since = Seconds(self.now.saturating_duration_since(out.since));
            write!(f, "\n{}: {} since {since}", out.key, out.standing)?;
            if out.standing == Standing::Ejected {
                write!(f, ", {} to go", Seconds(out.until.saturating_duration_since(self.now)))?;
            }
            write!(f, ": {}", out.why)?;
            if out.times > 1 {
                write!(f, " (time {} in a row)", out.times)?;
            }
        }
        for (route, explanation) in self.routes.iter().filter(|(_, explanation)| !explanation.out.is_empty()) {
            write!(f, "\nroute {route}: {explanation}")?;
        }
        Ok(())
    }
}

/// A duration to the tenth of a second.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.as_millis().div_ceil(100);
        match tenths % 10 {
            0 => write!(f, "{} s", tenths / 10),
            part => write!(f, "{}.{part} s", tenths / 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time;

    #[test]
    fn it_reads_as_a_few_lines() {
        let now = time::now() + Duration::from_secs(100);
        let out = |key: &str, standing, why, times| Explained {
            key: key.into(),
            standing,
            why,
            since: now - Duration::from_millis(18_000),
            until: now + Duration::from_millis(11_960),
            times,
            probes_failed: times - 1,
        };
        let out = vec![
            out("a", Standing::Ejected, Reason::InARow { failures: 5 }, 1),
            out("b", Standing::Probing, Reason::Fleet { rate: 0.61, requests: 120, mean: 0.97, bound: 0.6812 }, 3),
            out("c", Standing::Due, Reason::Rate { rate: 0.5, requests: 10, below: 0.8 }, 1),
            out("d", Standing::Ejected, Reason::Failing { share: 0.9, requests: 50, limit: 0.85 }, 1),
            out("e", Standing::Ejected, Reason::LocalOrigin { failures: 5 }, 2),
        ];
        let explanation = Explanation { now, endpoints: 10, allowed: 5, panics: false, spared: 0, out, routes: vec![] };
        assert_eq!(
            explanation.to_string(),
            "5 of 10 out, 5 allowed\n\
             a: ejected since 18 s, 12 s to go: 5 failures in a row\n\
             b: probing since 18 s: 61 % of 120 against the fleet's 97 %, less than 68.1 % (time 3 in a row)\n\
             c: due for a probe since 18 s: 50 % of 10, less than 80 %\n\
             d: ejected since 18 s, 12 s to go: 90 % of 50 failed, 85 % or more\n\
             e: ejected since 18 s, 12 s to go: not reached 5 times in a row (time 2 in a row)"
        );
        let panics = Explanation { panics: true, spared: 2, out: vec![], ..explanation };
        assert_eq!(
            panics.to_string(),
            "0 of 10 out, 5 allowed, 2 times kept in by the cap, all are used: too few are in"
        );
    }
}
