//! Why no node would do, in Kubernetes' words.

use std::{fmt, sync::Arc};

/// What stood in the way on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It is cordoned.
    Cordoned,
    /// A taint, key and value, that the pod does not tolerate.
    Taint(Box<str>, Box<str>),
    /// Its labels are not what the node selector asks for.
    Selector,
    /// It holds as many pods as it may.
    TooManyPods,
    /// Too little of this resource is left.
    Insufficient(Arc<str>),
    /// One more there would spread the pods too unevenly.
    Spread,
    /// It lacks the label that the spread goes by.
    SpreadLabel,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Cordoned => f.write_str("node(s) were unschedulable"),
            Reason::Taint(key, value) => write!(f, "node(s) had untolerated taint {{{key}: {value}}}"),
            Reason::Selector => f.write_str("node(s) didn't match Pod's node affinity/selector"),
            Reason::TooManyPods => f.write_str("Too many pods"),
            Reason::Insufficient(resource) => write!(f, "Insufficient {resource}"),
            Reason::Spread => f.write_str("node(s) didn't match pod topology spread constraints"),
            Reason::SpreadLabel => {
                f.write_str("node(s) didn't match pod topology spread constraints (missing required label)")
            }
        }
    }
}

/// No node would do: how many there are, and how many of them each reason rules out.
///
/// Prints as Kubernetes' `FailedScheduling` event: `0/3 nodes are available: 1 node(s) were unschedulable, 2
/// Insufficient cpu.` A node that lacks two resources counts under both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unschedulable {
    /// How many nodes there are.
    pub nodes: usize,
    /// Each reason once, with the number of nodes.
    pub reasons: Vec<(Reason, usize)>,
}

impl Unschedulable {
    pub(super) fn count(&mut self, reason: Reason) {
        match self.reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => self.reasons.push((reason, 1)),
        }
    }
}

impl fmt::Display for Unschedulable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        // sorted as text, counts first: Kubernetes' own order
        let mut reasons: Vec<_> = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort();
        write!(f, "0/{} nodes are available: {}.", self.nodes, reasons.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_in_kubernetes() {
        let mut why = Unschedulable { nodes: 4, ..Unschedulable::default() };
        for reason in [
            Reason::Insufficient("cpu".into()),
            Reason::Cordoned,
            Reason::Insufficient("cpu".into()),
            Reason::Taint("gpu".into(), "".into()),
        ] {
            why.count(reason);
        }
        assert_eq!(
            why.to_string(),
            "0/4 nodes are available: 1 node(s) had untolerated taint {gpu: }, 1 node(s) were unschedulable, 2 \
             Insufficient cpu."
        );
        assert_eq!(Unschedulable::default().to_string(), "no nodes available to schedule pods");
    }
}
