//! Equal owners, told apart by a number: there are few, however many slots they own.

use super::ShardId;
use std::collections::BTreeMap;

/// How many that came lately are found without a search.
const LATELY: usize = 256;

/// The owners that have come so far, each with a number of its own.
pub(crate) struct Rows<'a> {
    numbers: BTreeMap<&'a [ShardId], usize>,
    list: Vec<&'a [ShardId]>,
    /// By a mix of their numbers.
    lately: Box<[usize; LATELY]>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new() -> Self {
        Rows { numbers: BTreeMap::new(), list: Vec::new(), lately: Box::new([0; LATELY]) }
    }

    /// The number of these: as many as there were others before them.
    #[inline]
    pub(crate) fn number(&mut self, owners: &'a [ShardId]) -> usize {
        let mix = owners.iter().fold(0, |mix: usize, owner| mix.wrapping_mul(31).wrapping_add(owner.index()));
        let Some(lately) = self.lately.get_mut(mix % LATELY) else { return 0 }; // it is that long
        if self.list.get(*lately).is_some_and(|known| *known == owners) {
            return *lately;
        }
        let next = self.list.len();
        let number = *self.numbers.entry(owners).or_insert(next);
        if number == next {
            self.list.push(owners);
        }
        *lately = number;
        number
    }

    /// The owners of this number.
    pub(crate) fn of(&self, number: usize) -> &'a [ShardId] {
        self.list.get(number).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    #[test]
    fn equal_owners_have_one_number_and_others_another() {
        let mut rng = Seed::new(1).rng();
        let all: Vec<Vec<ShardId>> =
            (0..5_000).map(|_| (0..3).map(|_| ShardId(rng.below(12) as u16)).collect()).collect();
        let mut rows = Rows::new();
        let numbers: Vec<usize> = all.iter().map(|owners| rows.number(owners)).collect();
        assert!(all.iter().zip(&numbers).all(|(owners, number)| rows.of(*number) == &owners[..]));
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(numbers.iter().copied().max(), Some(different.len() - 1));
        assert_eq!(Rows::new().of(0), &[] as &[ShardId]);
    }
}
