//! What a StatefulSet creates and deletes, number by number.

use std::collections::BTreeMap;

/// The most that one call of [`plan`] creates or deletes: the rest is for the next.
const BURST: usize = 500;

/// A pod of the set, under its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod {
    /// How it is.
    pub state: State,
    /// Whether it is of the newest template.
    pub newest: bool,
}

/// How a pod of the set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It has ended and takes the place of one that runs.
    Over,
    /// It has been told to go.
    Leaving,
    /// It runs not yet, or is not ready.
    Starting,
    /// It is ready, but not yet for long enough.
    Ready,
    /// It can be counted on.
    Available,
}

/// What a set wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// How many pods: the numbers 0 to one less.
    pub replicas: u32,
    /// Whether a pod waits for those before it (`OrderedReady`).
    pub ordered: bool,
    /// Whether pods of an old template are replaced (`RollingUpdate`), or only where somebody deletes them.
    pub rolling: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create the pod of this number.
    Create(u32),
    /// Delete the pod of this number.
    Delete(u32),
}

/// The next steps, as Kubernetes takes them; none where there is something to wait for.
///
/// - Missing pods are created from the lowest number up, those beyond the number wanted deleted from the highest down.
///   `ordered`: one at a time, each when all before it are available, and none is deleted while another one is leaving, or
///   is not well (but for the one that is not well itself).
/// - Then pods of an old template are deleted from the highest number down, one at a time, each when all above it are
///   available.
///
/// As in Kubernetes, an ordered set waits for a pod that never becomes ready, also where a newer template would mend it:
/// delete that pod.
pub fn plan(wanted: Wanted, pods: &BTreeMap<u32, Pod>) -> Vec<Step> {
    let mut steps = Vec::new();
    for number in 0..wanted.replicas {
        if steps.len() == BURST {
            return steps;
        }
        let step = match pods.get(&number).map(|pod| pod.state) {
            None => Step::Create(number),
            Some(State::Over) => Step::Delete(number),
            Some(State::Available) => continue,
            Some(_) if wanted.ordered => return steps,
            Some(_) => continue,
        };
        steps.push(step);
        if wanted.ordered {
            return steps;
        }
    }
    let unwell = pods.iter().find(|(_, pod)| pod.state < State::Available).map(|(number, _)| *number);
    for (number, pod) in pods.range(wanted.replicas..).rev() {
        match pod.state {
            State::Leaving if wanted.ordered => return steps,
            State::Leaving => continue,
            State::Starting | State::Ready if wanted.ordered && unwell != Some(*number) => return steps,
            _ if steps.len() == BURST => return steps,
            _ => steps.push(Step::Delete(*number)),
        }
        if wanted.ordered {
            return steps;
        }
    }
    if !wanted.rolling || !steps.is_empty() {
        return steps;
    }
    for (number, pod) in pods.range(..wanted.replicas).rev() {
        if !pod.newest && pod.state != State::Leaving {
            return vec![Step::Delete(*number)];
        }
        if pod.state != State::Available {
            break;
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    const ORDERED: Wanted = Wanted { replicas: 3, ordered: true, rolling: true };
    const PARALLEL: Wanted = Wanted { ordered: false, ..ORDERED };

    /// `a`: available, `r`: ready, `s`: starting, `l`: leaving, `o`: over, `-`: none; in capitals: of an old template.
    fn pods(text: &str) -> BTreeMap<u32, Pod> {
        let state = |letter: char| match letter.to_ascii_lowercase() {
            'a' => State::Available,
            'r' => State::Ready,
            's' => State::Starting,
            'l' => State::Leaving,
            _ => State::Over,
        };
        let pods = text.chars().zip(0..).filter(|(letter, _)| *letter != '-');
        pods.map(|(it, number)| (number, Pod { state: state(it), newest: it.is_lowercase() })).collect()
    }

    #[test]
    fn steps_are_those_of_kubernetes() {
        use Step::*;
        for (wanted, there, steps) in [
            (ORDERED, "", vec![Create(0)]),
            (ORDERED, "s", vec![]),
            (ORDERED, "r", vec![]),
            (ORDERED, "a", vec![Create(1)]),
            (ORDERED, "aa", vec![Create(2)]),
            (ORDERED, "aaa", vec![]),
            (ORDERED, "-aa", vec![Create(0)]),
            (ORDERED, "ala", vec![]),
            (ORDERED, "aoa", vec![Delete(1)]),
            (ORDERED, "aaaaa", vec![Delete(4)]),
            (ORDERED, "aaaal", vec![]),
            (ORDERED, "aaasa", vec![Delete(4)]),
            (ORDERED, "aaaas", vec![Delete(4)]),
            (ORDERED, "aaass", vec![]),
            (ORDERED, "aaars", vec![]),
            (ORDERED, "saaaa", vec![]),
            (ORDERED, "AAA", vec![Delete(2)]),
            (ORDERED, "AAl", vec![]),
            (ORDERED, "AAs", vec![]),
            (ORDERED, "AAa", vec![Delete(1)]),
            (ORDERED, "Aaa", vec![Delete(0)]),
            (ORDERED, "ASA", vec![]),
            (ORDERED, "AAAA", vec![Delete(3)]),
            (Wanted { rolling: false, ..ORDERED }, "AAA", vec![]),
            (PARALLEL, "", vec![Create(0), Create(1), Create(2)]),
            (PARALLEL, "sl", vec![Create(2)]),
            (PARALLEL, "aaaslao", vec![Delete(6), Delete(5), Delete(3)]),
            (PARALLEL, "AAA", vec![Delete(2)]),
            (PARALLEL, "AAs", vec![]),
            (PARALLEL, "ASA", vec![Delete(2)]),
        ] {
            assert_eq!(plan(wanted, &pods(there)), steps, "{there} {wanted:?}");
        }
    }

    /// Whatever happens meanwhile, an ordered set never creates before all below are available, never has two of its
    /// pods leave by its own hand, and ends as wanted.
    #[test]
    fn random_lives_end_as_wanted() {
        let mut rng = Seed::new(11).rng();
        for _ in 0..2_000 {
            let wanted = Wanted { replicas: rng.below(6) as u32, ordered: rng.below(2) == 0, rolling: true };
            let states = ["a", "r", "s", "l", "o", "-", "A", "S"];
            let text: String = (0..rng.below(8)).filter_map(|_| rng.choose(&states)).copied().collect();
            let mut there = pods(&text);
            let mut quiet = 0;
            for _ in 0..200 {
                let steps = plan(wanted, &there);
                if wanted.ordered {
                    assert!(steps.len() <= 1, "{text} {steps:?}");
                }
                for step in &steps {
                    match *step {
                        Step::Create(number) => {
                            let below = there.range(..number).filter(|(_, pod)| pod.state == State::Available).count();
                            assert!(!wanted.ordered || below == number as usize, "{text} {steps:?}");
                            let pod = Pod { state: State::Starting, newest: true };
                            assert_eq!(there.insert(number, pod), None, "one pod under a number");
                        }
                        Step::Delete(number) => there.get_mut(&number).unwrap().state = State::Leaving,
                    }
                }
                quiet = if steps.is_empty() { quiet + 1 } else { 0 };
                there.retain(|_, pod| pod.state != State::Leaving || rng.below(2) == 0);
                for pod in there.values_mut().filter(|pod| (State::Starting..=State::Ready).contains(&pod.state)) {
                    pod.state = [pod.state, State::Ready, State::Available][rng.below(3) as usize].max(pod.state);
                }
                if quiet > 60 {
                    break;
                }
            }
            let all = |pod: &Pod| *pod == Pod { state: State::Available, newest: true };
            assert!(there.len() == wanted.replicas as usize && there.values().all(all), "{text} {there:?}");
        }
    }
}
