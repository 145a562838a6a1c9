//! Rendezvous hashing: who has only the names agrees on who is first for a key, and who is next when that one goes.

use crate::base::hash;

/// The hash of a key, the same in every process.
pub(super) fn of(bytes: &[u8]) -> u64 {
    hash::of(bytes)
}

/// The hash of a name. Not that of a key: equal ones would cancel each other out.
pub(super) fn name(bytes: &[u8]) -> u64 {
    hash::of(bytes).rotate_left(32).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// How well the two go together. Equal for all who ask; the highest of a key's scores is its first choice.
#[inline]
pub(super) fn score(key: u64, name: u64) -> u64 {
    // a sum of the two would give the same order of names to many keys: mixed, each key orders them afresh
    let mut word = key ^ name;
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_first_for_its_share_of_the_keys_and_second_for_its_share_of_anothers() {
        let names: Vec<_> = (0..10).map(|n| name(format!("10.0.0.{n}:7070").as_bytes())).collect();
        let mut counts = [[0_u32; 10]; 10];
        for key in 0..200_000_u64 {
            let key = of(&key.to_le_bytes());
            let mut order: Vec<usize> = (0..10).collect();
            order.sort_by_key(|n| std::cmp::Reverse(score(key, names[*n])));
            counts[order[0]][order[1]] += 1;
        }
        for (first, seconds) in counts.iter().enumerate() {
            assert!((19_000..21_000).contains(&seconds.iter().sum::<u32>()), "{counts:?}");
            let others = seconds.iter().enumerate().filter(|(second, _)| *second != first);
            assert!(others.map(|(_, count)| count).all(|count| (1_900..2_550).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn scores_are_a_contract_between_processes() {
        assert_eq!(score(of(b"session"), name(b"cart-a")), 16_990_526_668_100_900_667);
    }
}
