//! Who is out and due is tried by one request at a time, whose outcome decides.

use super::{Out, Ward};
use crate::{
    base::{
        Outcome,
        sync::{Arc, atomic::Ordering::Relaxed},
        time::Instant,
    },
    serving::{eject::patient::Patient, load::PROBES},
};
use std::time::Duration;

/// After how long a probe that has not ended leaves its place to the next request: Envoy's and gRPC's first time out.
const PROBE_MAX: Duration = Duration::from_secs(30);

/// What a pick gets of an endpoint that was out.
pub(in crate::serving::eject) enum Turn {
    In,
    Out,
    Probe(u32),
}

impl Ward {
    /// A request has come to one that seems to be due.
    pub(in crate::serving::eject) fn turn(&mut self, patient: &Arc<Patient>, now: Instant) -> Turn {
        let (probation, number, lapses) = (self.settings.probation, self.turns, now + PROBE_MAX);
        let word = self.word(lapses);
        let Some(bed) = self.bed(patient) else { return Turn::In };
        let Some(out) = &mut bed.out else { return Turn::In };
        if now < out.until || out.probe.is_some_and(|(_, lapses)| now < lapses) {
            return Turn::Out;
        }
        if !probation {
            self.back(&patient.key, now, false);
            return Turn::In;
        }
        out.probe = Some((number, lapses));
        patient.word.store(word, Relaxed);
        self.turns = (self.turns + 1) % PROBES;
        Turn::Probe(number)
    }

    /// The probe of this number has ended. One whose place another has taken decides nothing.
    pub(in crate::serving::eject) fn settle(
        &mut self,
        patient: &Arc<Patient>,
        number: u32,
        outcome: Outcome,
        now: Instant,
    ) {
        let Some(bed) = self.bed(patient) else { return };
        let holds = |out: &&mut Out| out.probe.is_some_and(|(holder, _)| holder == number);
        let Some(out) = bed.out.as_mut().filter(holds) else { return };
        out.probe = None;
        let asked = match outcome {
            Outcome::Success => return self.back(&patient.key, now, true),
            Outcome::Failure | Outcome::LocalOrigin => Duration::ZERO,
            Outcome::Throttled(wait) => wait.unwrap_or_default(),
            _ => {
                // it says nothing of the endpoint: the next request decides
                let word = out.until;
                let word = self.word(word);
                patient.word.store(word, Relaxed);
                return;
            }
        };
        out.probes_failed = out.probes_failed.saturating_add(1);
        bed.times = bed.times.saturating_add(1);
        let times = bed.times;
        let wait = self.settings.out_for(times, &mut self.rng).max(asked.min(self.settings.longest()));
        let until = now + wait;
        let word = self.word(until);
        if let Some(out) = self.bed(patient).and_then(|bed| bed.out.as_mut()) {
            out.until = until;
            patient.word.store(word, Relaxed);
        }
    }
}
