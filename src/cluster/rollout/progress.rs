//! What a Deployment's conditions say.

use super::Wanted;
use std::time::Duration;

/// The pods of a Deployment, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of its pods.
    pub replicas: u32,
    /// Those of the present template.
    pub updated: u32,
    /// Those ready.
    pub ready: u32,
    /// Those ready for long enough (`minReadySeconds`).
    pub available: u32,
}

/// One condition: whether it holds, why in one word, and why in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it holds.
    pub holds: bool,
    /// The reason, one of Kubernetes' words.
    pub reason: &'static str,
    /// The message.
    pub message: String,
}

/// The condition `Available`: all pods wanted are there, less those that may be unavailable.
pub fn available(wanted: &Wanted, counts: &Counts) -> Verdict {
    match counts.available >= wanted.replicas.saturating_sub(wanted.unavailable()) {
        true => Verdict {
            holds: true,
            reason: "MinimumReplicasAvailable",
            message: "Deployment has minimum availability.".into(),
        },
        false => Verdict {
            holds: false,
            reason: "MinimumReplicasUnavailable",
            message: "Deployment does not have minimum availability.".into(),
        },
    }
}

/// The condition `Progressing`, given the set that is rolled out, how long it is since anything got further, and the
/// deadline for that (`progressDeadlineSeconds`, Kubernetes' default 600).
pub fn progress(wanted: &Wanted, counts: &Counts, set: &str, stalled: Duration, deadline: Duration) -> Verdict {
    let complete =
        counts.updated == wanted.replicas && counts.replicas == wanted.replicas && counts.available == wanted.replicas;
    if complete {
        let message = format!("ReplicaSet \"{set}\" has successfully progressed.");
        return Verdict { holds: true, reason: "NewReplicaSetAvailable", message };
    }
    if stalled >= deadline {
        let message = format!("ReplicaSet \"{set}\" has timed out progressing.");
        return Verdict { holds: false, reason: "ProgressDeadlineExceeded", message };
    }
    Verdict { holds: true, reason: "ReplicaSetUpdated", message: format!("ReplicaSet \"{set}\" is progressing.") }
}

#[cfg(test)]
mod tests {
    use super::super::Strategy;
    use super::*;

    #[test]
    fn conditions_follow_the_counts() {
        let wanted = Wanted { replicas: 4, strategy: Strategy::default(), paused: false };
        let counts = |available| Counts { replicas: 4, updated: 4, ready: available, available };
        assert!(!available(&wanted, &counts(2)).holds && available(&wanted, &counts(3)).holds);
        let reason = |available, stalled| {
            let stalled = Duration::from_secs(stalled);
            progress(&wanted, &counts(available), "web-1", stalled, Duration::from_secs(600)).reason
        };
        assert_eq!(reason(3, 0), "ReplicaSetUpdated");
        assert_eq!(reason(3, 600), "ProgressDeadlineExceeded");
        assert_eq!(reason(4, 600), "NewReplicaSetAvailable");
    }
}
