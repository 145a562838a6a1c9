//! Where pods may and should run: taints, tolerations, spread.

use super::{LabelSelector, choice, view};

view! {
    /// What keeps pods off a node, unless they tolerate it.
    Taint {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
        /// What it does to pods that do not tolerate it.
        effect: TaintEffect,
    }

    /// A taint that a pod can live with.
    Toleration {
        /// The taint's key; empty with `Exists` means every taint.
        key: String,
        /// How the taint's value is compared; by default `Equal`.
        operator: Option<TolerationOperator>,
        /// The taint's value.
        value: String,
        /// The taint's effect; absent means every effect.
        effect: Option<TaintEffect>,
        /// How long a pod already there may stay; absent means for good.
        toleration_seconds: Option<i64>,
    }

    /// How evenly pods should be spread.
    TopologySpreadConstraint {
        /// The largest difference allowed between the fullest and the emptiest domain.
        max_skew: i32,
        /// The node label whose values are the domains.
        topology_key: String,
        /// What happens to a pod that would break it.
        when_unsatisfiable: WhenUnsatisfiable,
        /// The pods that are counted.
        label_selector: Option<LabelSelector>,
        /// The least number of domains that there should be.
        min_domains: Option<i32>,
    }
}

choice! {
    /// What a taint does.
    TaintEffect {
        /// No new pods.
        NoSchedule,
        /// No new pods, if there is a better place.
        PreferNoSchedule,
        /// No pods at all: those there are evicted.
        NoExecute,
    }

    /// How a toleration compares a taint's value.
    TolerationOperator {
        /// It must be the same.
        Equal,
        /// It may be any.
        Exists,
    }

    /// What happens to a pod that would break a spread constraint.
    WhenUnsatisfiable {
        /// It waits.
        DoNotSchedule,
        /// It goes where it breaks least.
        ScheduleAnyway,
    }
}

impl Toleration {
    /// Whether a pod with this toleration can live with this taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        let effect = self.effect.is_none_or(|effect| effect == taint.effect);
        let key = self.key == taint.key || self.key.is_empty();
        effect
            && match self.operator.unwrap_or_default() {
                TolerationOperator::Exists => key,
                TolerationOperator::Equal => key && !self.key.is_empty() && self.value == taint.value,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_match_as_in_kubernetes() {
        let taint = Taint { key: "gpu".into(), value: "a".into(), effect: TaintEffect::NoSchedule };
        let toleration = |json: &str| serde_json::from_str::<Toleration>(json).unwrap();
        for (json, tolerated) in [
            (r#"{"key":"gpu","value":"a"}"#, true),
            (r#"{"key":"gpu","value":"b"}"#, false),
            (r#"{"key":"gpu","operator":"Exists"}"#, true),
            (r#"{"operator":"Exists"}"#, true),
            (r#"{"key":"gpu","operator":"Exists","effect":"NoExecute"}"#, false),
            (r#"{"key":"disk","operator":"Exists"}"#, false),
            (r#"{"value":"a"}"#, false),
        ] {
            assert_eq!(toleration(json).tolerates(&taint), tolerated, "{json}");
        }
    }
}
