//! A change of the number wanted, shared out over the sets of a rollout that is under way.

use super::{Scale, Set, Wanted};

/// Scales all sets in proportion, so that a rollout neither hurries nor risks anything because of it.
///
/// With one set there is nothing to share; with a current set that has all it needs, the old ones go.
pub(super) fn proportionally(wanted: &Wanted, sets: &[Set]) -> Vec<Scale> {
    let scale = |set: &Set, replicas| (set.replicas != replicas).then(|| Scale { name: set.name.clone(), replicas });
    let mut active: Vec<_> = sets.iter().filter(|set| set.replicas > 0).collect();
    let current = sets.iter().find(|set| set.current);
    let newest = || sets.iter().max_by_key(|set| set.created);
    let only = match active.as_slice() {
        [] => current.or_else(newest),
        [only] => Some(*only),
        _ => None,
    };
    if let Some(only) = only {
        return scale(only, wanted.replicas).into_iter().collect();
    }
    let saturated = |set: &&Set| set.replicas == wanted.replicas && set.available == wanted.replicas;
    if current.is_some_and(|set| saturated(&set)) {
        return active.iter().filter(|set| !set.current).filter_map(|set| scale(set, 0)).collect();
    }
    let most = if wanted.replicas > 0 { wanted.most() } else { 0 };
    let all: u32 = active.iter().map(|set| set.replicas).sum();
    let mut left = i64::from(most) - i64::from(all);
    // largest first; among equals the newest grows and the oldest shrinks
    active.sort_by_key(|set| {
        let age = set.created as i64;
        (std::cmp::Reverse(set.replicas), if left > 0 { -age } else { age })
    });
    let share = |set: &Set| {
        let before = set.scaled_for.map_or(all, |(_, most)| most).max(1);
        (i128::from(set.replicas) * i128::from(most) * 2 + i128::from(before)) / (i128::from(before) * 2)
    };
    let mut replicas: Vec<_> = active.iter().map(|set| i64::from(set.replicas)).collect();
    for (set, now) in active.iter().zip(&mut replicas) {
        let change = share(set) as i64 - *now;
        let change = if left > 0 { change.clamp(0, left) } else { change.clamp(left, 0) };
        *now += change;
        left -= change;
    }
    // what rounding leaves over falls to the largest
    if let Some(largest) = replicas.first_mut() {
        *largest = (*largest + left).max(0);
    }
    active.iter().zip(replicas).filter_map(|(set, now)| scale(set, u32::try_from(now).unwrap_or(0))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Strategy, step};
    use super::*;

    fn set(name: &str, current: bool, replicas: u32, created: u64) -> Set {
        Set { name: name.into(), current, replicas, created, scaled_for: Some((10, 13)), ..Set::default() }
    }

    #[test]
    fn shares_by_size_and_leaves_nothing_over() {
        let wanted = Wanted { replicas: 20, strategy: Strategy::default(), paused: false };
        let sets = [set("old", false, 8, 1), set("new", true, 5, 2)];
        let scales = step(&wanted, &sets);
        assert_eq!(scales, [Scale { name: "old".into(), replicas: 15 }, Scale { name: "new".into(), replicas: 10 }]);
        let none = Wanted { replicas: 0, ..wanted };
        assert_eq!(step(&none, &sets).iter().map(|scale| scale.replicas).collect::<Vec<_>>(), [0, 0]);
    }

    #[test]
    fn a_single_set_gets_it_all_even_when_paused() {
        let wanted = Wanted { replicas: 3, strategy: Strategy::default(), paused: true };
        assert_eq!(step(&wanted, &[set("new", true, 10, 1)]), [Scale { name: "new".into(), replicas: 3 }]);
        assert_eq!(step(&wanted, &[set("new", true, 0, 1)]), [Scale { name: "new".into(), replicas: 3 }]);
        assert_eq!(step(&wanted, &[]), []);
    }
}
