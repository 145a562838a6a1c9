//! Maps on the wire.

use super::*;
use serde_json::{Value, json};

fn maps() -> Vec<ShardMap> {
    let mut maps: Vec<_> =
        STRATEGIES.iter().map(|it| of(*it, names(5)).copies(2).seed(3).version(8).build().unwrap()).collect();
    let weighted = names(6).into_iter().zip([0, 3]).map(|(name, weight)| Shard::from(name).weight(weight).zone("a"));
    maps.push(ShardMap::ring(weighted).points(40).build().unwrap());
    let ranges = ShardMap::ranges().range(..[0_u8, 255], ["a", "b"]).range([0_u8, 255].., ["b", "c"]);
    maps.push(ranges.build().unwrap());
    let planned = maps[0]
        .next(|change| {
            change.add("other");
        })
        .unwrap();
    let mut loads = Loads::of(&planned);
    (0..1000_u64).for_each(|key| loads.add(planned.locate(&key), 1));
    loads.add(planned.locate("hot"), 900);
    maps.push(planned.relieve(&loads, 100).unwrap().expect("one slot is hot"));
    assert!(!maps.last().unwrap().table().unwrap().splits().is_empty());
    maps
}

#[test]
fn a_map_is_read_as_it_was_written() {
    for map in maps() {
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(serde_json::from_str::<ShardMap>(&text).unwrap(), map);
    }
}

#[test]
fn the_form_is_a_contract_and_small_where_names_decide() {
    let map = ShardMap::ring(["a", "b"]).copies(2).seed(7).build().unwrap();
    let text = serde_json::to_string(&map).unwrap();
    assert_eq!(
        text,
        r#"{"format":1,"version":1,"seed":7,"strategy":"ring","points":320,"copies":2,"apart":false,"shards":[{"name":"a"},{"name":"b"}],"check":11007171381360297503}"#
    );
    let planned = ShardMap::planned(names(100)).build().unwrap();
    assert!(serde_json::to_string(&planned).unwrap().len() < 5_000);
}

#[test]
fn what_is_broken_on_the_wire_is_refused() {
    let map = ShardMap::planned(["a", "b", "c"]).copies(2).build().unwrap();
    let whole = serde_json::to_value(&map).unwrap();
    let refused = |field: &str, value: Value| {
        let mut broken = whole.clone();
        broken[field] = value;
        serde_json::from_value::<ShardMap>(broken).unwrap_err().to_string()
    };
    for (field, value, says) in [
        ("format", json!(2), "version 1: unsupported: it is written in form 2, this reads form 1"),
        ("check", json!(1), "corrupt: its owners are not those that were written"),
        ("version", json!(2), "its owners are not those that were written"),
        ("seed", json!(2), "its owners are not those that were written"),
        ("slots", json!([]), "it tells the slots of a planned map"),
        ("slots", json!([[65_535, [0, 1]]]), "65536 slots"),
        ("slots", json!([[65_537, [0, 1]]]), "65536 slots"),
        ("slots", json!([[0, [0, 1]], [65_536, [0, 1]]]), "65536 slots"),
        ("slots", json!([[4_294_967_295_u32, [0, 1]]]), "65536 slots"),
        ("slots", json!([[65_536, [0, 0]]]), "a slot is not owned as the map's rules say"),
        ("slots", json!([[65_536, [0, 3]]]), "a slot is not owned"),
        ("slots", json!([[65_536, [0]]]), "a slot is not owned"),
        ("slots", json!([[65_536, [0, 1]]]), "its owners are not those that were written"),
        ("splits", json!([{"slot": 1, "halved": 9, "owners": []}]), "a slot is not split"),
        ("splits", json!([{"slot": 1, "halved": 1, "owners": [0, 1]}]), "a slot is not split"),
        ("ranges", json!([{"from": "", "owners": [0]}]), "nothing of others"),
        ("shards", json!([{"name": "b"}, {"name": "a"}, {"name": "c"}]), "its shards are not in order"),
        ("shards", json!([]), "it has no shards"),
        ("copies", json!(0), "no copies"),
        ("copies", json!(9), "9 copies need as many shards"),
        ("copies", json!(65_534), "65534 copies are more than 64"),
        ("version", json!(u64::MAX), "no map could follow"),
        ("strategy", json!("other"), "unknown variant"),
        ("strategy", json!("ring"), "nothing of others"),
        ("more", json!(1), "unknown field"),
    ] {
        let told = refused(field, value.clone());
        assert!(told.contains(says), "{field} {value}: {told}");
    }
    let ring = serde_json::to_value(ShardMap::ring(["a", "b"]).build().unwrap()).unwrap();
    let mut slow = serde_json::to_value(ShardMap::consistent_hash_ring(["a"]).build().unwrap()).unwrap();
    slow["shards"][0]["weight"] = json!(10_000);
    assert!(serde_json::from_value::<ShardMap>(slow).unwrap_err().to_string().contains("lower weights or points"));
    let mut renamed = ring.clone();
    renamed["shards"][0]["name"] = json!("other");
    assert!(serde_json::from_value::<ShardMap>(renamed).unwrap_err().to_string().contains("not those that were"));
}

#[test]
fn whatever_is_flipped_on_the_wire_another_map_never_comes_out() {
    let mut rng = Seed::new(4).rng();
    for map in maps().into_iter().filter(|map| map.strategy() != Strategy::ConsistentHashRing) {
        let text = serde_json::to_vec(&map).unwrap();
        for _ in 0..12 {
            let mut broken = text.clone();
            let at = rng.below(broken.len() as u64) as usize;
            match rng.below(3) {
                0 => broken[at] ^= 1 << rng.below(7),
                1 => drop(broken.remove(at)),
                _ => broken[at] = b"0123456789"[rng.below(10) as usize],
            }
            if let Ok(read) = serde_json::from_slice::<ShardMap>(&broken) {
                let same = |key: u64| {
                    let names =
                        |map: &ShardMap| map.owners(&key).iter().map(|it| map.name(*it).to_owned()).collect::<Vec<_>>();
                    names(&read) == names(&map)
                };
                assert!(read.version() == map.version() && (0..500).all(same), "{}", String::from_utf8_lossy(&broken));
            }
        }
    }
}

#[test]
fn a_span_is_read_as_it_was_written_and_one_that_ends_before_it_begins_is_refused() {
    let keys = |from: &'static [u8], until: Option<&'static [u8]>| Span::Keys {
        from: from.into(),
        until: until.map(Into::into),
    };
    let mut spans = vec![keys(b"", None), keys(b"\x00\xff", None), keys(b"a", Some(b"a\x00"))];
    spans.extend(maps().iter().flat_map(|map| map.runs().map(|(span, _)| span).take(50).collect::<Vec<_>>()));
    for span in spans {
        let text = serde_json::to_string(&span).unwrap();
        assert_eq!(serde_json::from_str::<Span>(&text).unwrap(), span);
    }
    assert_eq!(
        serde_json::to_value(keys(b"a", Some(b"\xff"))).unwrap(),
        json!({"keys": {"from": "61", "until": "ff"}})
    );
    for wrong in [
        json!({"hashes": {"seed": 0, "first": 2, "last": 1}}),
        json!({"hashes": {"seed": 0, "first": 2}}),
        json!({"keys": {"from": "61", "until": "61"}}),
        json!({"keys": {"from": "6"}}),
        json!({"keys": {"from": "61", "until": "6G"}}),
        json!({"keys": {"from": "61", "until": ""}}),
        json!({"keys": {"from": "61", "to": "62"}}),
        json!("all"),
    ] {
        assert!(serde_json::from_value::<Span>(wrong.clone()).is_err(), "{wrong}");
    }
}
