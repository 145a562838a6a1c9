//! Maps of ranges.

use super::*;
use crate::base::Kind;

fn map() -> ShardMap {
    let ranges = ShardMap::ranges().range("m".., ["s1", "s2"]).range(.."g", ["s0", "s1"]);
    ranges.range("g".."m", ["s2", "s0"]).build().unwrap()
}

#[test]
fn a_key_is_owned_by_the_range_that_it_is_in() {
    let map = map();
    let owners = |key: &str| map.owners(key).iter().map(|owner| map.name(*owner)).collect::<Vec<_>>();
    for (key, wanted) in
        [("", ["s0", "s1"]), ("fzz", ["s0", "s1"]), ("g", ["s2", "s0"]), ("lll", ["s2", "s0"]), ("m", ["s1", "s2"])]
    {
        assert_eq!(owners(key), wanted, "{key}");
    }
    let parts: Vec<_> = map.parts().map(|(span, _)| span.to_string()).collect();
    assert_eq!(parts, [r#"keys until "g""#, r#"keys from "g" until "m""#, r#"keys from "m""#]);
    assert_eq!((map.places(), map.copies(), map.strategy()), (3, 2, Strategy::Ranges));
}

#[test]
fn look_ups_agree_with_a_search_of_all_ranges() {
    let mut rng = Seed::new(8).rng();
    let mut starts: Vec<Vec<u8>> = (0..300).map(|_| key(&mut rng)).collect();
    // some that share their first eight bytes, and more
    starts.extend((0..50_u8).map(|last| [vec![7; 9], vec![last]].concat()));
    starts.push(Vec::new());
    starts.sort();
    starts.dedup();
    let mut builder = ShardMap::ranges();
    for (at, start) in starts.iter().enumerate() {
        let owner = format!("s{at}");
        builder = match starts.get(at + 1) {
            Some(end) => builder.range(start.as_slice()..end.as_slice(), [owner]),
            None => builder.range(start.as_slice().., [owner]),
        };
    }
    let map = builder.build().unwrap();
    for round in 0..5_000 {
        let key = match round % 3 {
            0 => starts[rng.below(starts.len() as u64) as usize].clone(),
            1 => [vec![7; 9], key(&mut rng)].concat(),
            _ => key(&mut rng),
        };
        let wanted = starts.iter().rposition(|start| *start <= key).unwrap();
        assert_eq!(map.name(map.owner(&key)), format!("s{wanted}"));
        assert!(map.parts().nth(wanted).unwrap().0.contains(&key));
    }
}

#[test]
fn ranges_that_overlap_are_empty_or_leave_keys_out_are_told_by_name() {
    let told = |ranges: ShardMapBuilder| ranges.build().unwrap_err().to_string();
    let gaps = told(ShardMap::ranges().range("b".."d", ["a"]).range("f".."h", ["b"]));
    for gap in
        [r#"keys until "b" have no owner"#, r#"keys from "d" until "f" have no owner"#, r#"keys from "h" have no"#]
    {
        assert!(gaps.contains(gap), "{gaps}");
    }
    let overlaps = told(ShardMap::ranges().range(.."d", ["a"]).range("c".., ["b"]));
    assert!(overlaps.contains(r#"keys from "c" overlap with the range before"#), "{overlaps}");
    let twice = told(ShardMap::ranges().range(.., ["a"]).range("c".."d", ["b"]));
    assert!(twice.contains(r#"keys from "c" until "d" overlap"#), "{twice}");
    let empty = told(ShardMap::ranges().range(.."d", ["a"]).range("d".."d", ["a"]).range("d".., ["b"]));
    assert!(empty.contains(r#"keys from "d" until "d" is empty"#), "{empty}");
    let owners = told(ShardMap::ranges().range(.."d", ["a", "b"]).range("d".."e", ["a"]).range("e".., ["c", "c"]));
    assert!(
        owners.contains("have 1 owners, the first range has 2") && owners.contains("have one owner twice"),
        "{owners}"
    );
    assert!(told(ShardMap::ranges()).contains("it has no shards"));
    assert!(told(ShardMap::ranges().range(.., [] as [&str; 0])).contains("all keys have no owner"));
    let zones = ShardMap::ranges().shard(Shard::new("a").zone("1")).shard(Shard::new("b").zone("1"));
    let zones = told(zones.shard(Shard::new("c").zone("2")).range(.., ["a", "b"]).apart());
    assert!(zones.contains("all keys have two owners in one zone"), "{zones}");
}

#[test]
fn ranges_are_cut_merged_and_assigned() {
    let map = map();
    let next = map.next(|change| {
        change.split("p").assign("q", ["s3", "s1"]).merge("g");
    });
    let next = next.unwrap();
    let runs: Vec<_> = next.parts().map(|(span, owners)| format!("{span}: {}", next.name(owners[0]))).collect();
    assert_eq!(runs, [r#"keys until "m": s0"#, r#"keys from "m" until "p": s1"#, r#"keys from "p": s3"#]);
    let plan = map.plan(&next).unwrap();
    let moves: Vec<_> = plan.moves.iter().map(ToString::to_string).collect();
    assert_eq!(moves, [r#"keys from "g" until "m": s2, s0 to s0, s1"#, r#"keys from "p": s1, s2 to s3, s1"#]);

    let refused = |change: fn(&mut Change)| map.next(change).unwrap_err();
    assert_eq!(
        refused(|change| {
            change.split("g");
        })
        .to_string(),
        r#"key "g": conflict: a range begins here already"#
    );
    assert_eq!(
        refused(|change| {
            change.merge("h");
        })
        .kind(),
        Kind::NotFound
    );
    assert_eq!(
        refused(|change| {
            change.merge("");
        })
        .kind(),
        Kind::NotFound
    );
    let owns = refused(|change| {
        change.remove("s2");
    });
    assert!(owns.to_string().contains(r#"it still owns keys from "g" until "m""#), "{owns}");
    let gone = map.next(|change| {
        change.assign("g", ["s0", "s1"]).assign("m", ["s1", "s0"]).remove("s2");
    });
    assert_eq!(gone.unwrap().shards().len(), 2);
}
