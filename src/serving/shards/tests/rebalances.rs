//! Steps from one map to another, and what a rebalance says when it cannot go on.

use super::{
    steps::{self, Task},
    *,
};
use crate::{base::Backoff, serving::Shard};
use async_trait::async_trait;

/// A mover that only notes what it is asked, and fails or hangs where it is told.
#[derive(Default)]
struct Notes {
    asked: Lock<Vec<String>>,
    /// The word of a step, and how often it fails.
    fails: Lock<BTreeMap<&'static str, u32>>,
    hangs: Lock<Option<&'static str>>,
}

impl Notes {
    async fn ask(&self, what: &'static str, moving: &Moving) -> Result {
        self.asked.lock().push(format!("{what} {moving}"));
        if *self.hangs.lock() == Some(what) {
            pending::<()>().await;
        }
        let mut fails = self.fails.lock();
        match fails.get_mut(what) {
            Some(times) if *times > 0 => {
                *times -= 1;
                Err(Error::new(Kind::Unavailable, "no route").at(moving.from.clone()))
            }
            _ => Ok(()),
        }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock())
    }
}

#[async_trait]
impl Mover for Notes {
    async fn copy(&self, moving: &Moving) -> Result {
        self.ask("copy", moving).await
    }

    async fn seal(&self, moving: &Moving) -> Result {
        self.ask("seal", moving).await
    }

    async fn hand_over(&self, moving: &Moving) -> Result {
        self.ask("hand over", moving).await
    }

    async fn clean(&self, moving: &Moving) -> Result {
        self.ask("clean", moving).await
    }
}

fn owners(map: &ShardMap, key: u64) -> Vec<&str> {
    map.owners(&key).iter().map(|owner| map.name(*owner)).collect()
}

/// Goes step by step; how many there were.
fn walk(from: &ShardMap, to: &ShardMap, slots_max: f64) -> usize {
    let (mut now, mut steps) = (from.clone(), 0);
    while let Some(step) = steps::next(&now, to, slots_max).unwrap() {
        assert_eq!(step.map.version(), now.version() + 1);
        let spans = || step.tasks.iter().flat_map(|(moving, _)| moving.spans.iter());
        assert!(!step.tasks.is_empty() && step.tasks.iter().all(|(moving, _)| moving.version == step.map.version()));
        assert!(step.tasks.is_sorted_by_key(|(_, task)| *task == Task::Leave), "who answers is sealed first");
        for key in 0..500 {
            let (before, after) = (owners(&now, key), owners(&step.map, key));
            if spans().any(|span| span.contains(&key)) {
                assert_eq!(after, owners(to, key), "{key} has arrived");
            } else {
                assert_eq!(after, before, "{key} is where it was");
            }
            for joining in after.iter().filter(|name| !before.contains(name)) {
                let carried = |(moving, task): &(Moving, Task)| {
                    *task == Task::Carry
                        && *moving.from == *before[0]
                        && *moving.to == **joining
                        && moving.contains(&key)
                };
                assert!(step.tasks.iter().any(carried), "{joining} gets {key}");
            }
            for leaving in before.iter().filter(|name| !after.contains(name)) {
                let cleaned =
                    |(moving, _): &(Moving, Task)| *moving.from == **leaving && !moving.stays && moving.contains(&key);
                assert!(step.tasks.iter().any(cleaned), "{leaving} gives {key} up");
            }
        }
        if steps == 0 {
            let text = serde_json::to_string(&step.map).unwrap();
            assert_eq!(serde_json::from_str::<ShardMap>(&text).unwrap(), step.map, "it can be told to others");
        }
        (now, steps) = (step.map, steps + 1);
        assert!(steps < 200);
    }
    for key in 0..500 {
        assert_eq!(owners(&now, key), owners(to, key));
    }
    steps
}

#[test]
fn steps_lead_from_any_map_to_any_other_of_its_kind() {
    let zoned = |names: &[&'static str]| {
        let shards: Vec<_> =
            names.iter().zip(["a", "b", "c", "a", "b"]).map(|(name, zone)| Shard::new(*name).zone(zone)).collect();
        ShardMap::planned(shards).copies(2).apart().build().unwrap()
    };
    let five = ["s0", "s1", "s2", "s3", "s4"];
    assert_eq!(walk(&map(&five[..3]), &map(&five), 65_536.0), 1);
    assert!(walk(&map(&five[..3]), &map(&five), 4_096.0) >= 6);
    assert!(walk(&map(&five), &map(&five[2..]), 10_000.0) > 1);
    walk(&zoned(&five[..3]), &zoned(&five), 20_000.0);
    walk(&zoned(&five), &zoned(&five[..4]), 65_536.0);
    let ring = |names: &[&'static str]| ShardMap::ring(names.iter().copied()).build().unwrap();
    walk(&ring(&five[..4]), &ring(&five), 10_000.0);
    walk(&ring(&five), &ShardMap::rendezvous(["s1", "x"]).build().unwrap(), 20_000.0);
    let ranges = |borders: &[u64], owners: &[&'static str]| {
        let mut map = ShardMap::ranges().range(..borders[0], [owners[0]]);
        for (pair, owner) in borders.windows(2).zip(&owners[1..]) {
            map = map.range(pair[0]..pair[1], [*owner]);
        }
        map.range(borders[borders.len() - 1].., [owners[borders.len()]]).build().unwrap()
    };
    let (one, other) = (ranges(&[500, 900], &["a", "b", "c"]), ranges(&[300, 500, 1_500], &["b", "a", "b", "d"]));
    assert_eq!(walk(&one, &other, 4_096.0), 3, "a range at a time");
    assert_eq!(walk(&one, &one, 4_096.0), 0);
}

#[test]
fn steps_move_parts_of_a_slot_that_is_split() {
    let map = map(&["s0", "s1", "s2"]);
    let hot = map.locate(&7_u64);
    let mut loads = shard::Loads::of(&map);
    loads.add(hot, 1_000_000);
    let split = map.relieve(&loads, 1_000).unwrap().unwrap();
    assert!(split.parts().count() > shard::SLOTS, "it is split");
    walk(&map, &split, 65_536.0);
    walk(&split, &map, 65_536.0);
    walk(&split, &ShardMap::ring(["s0", "s9"]).build().unwrap(), 30_000.0);
}

#[test]
fn no_steps_lead_to_a_map_of_another_kind() {
    let map = map(&["s0", "s1"]);
    let others = [
        ShardMap::planned(["s0", "s1"]).seed(9).build().unwrap(),
        ShardMap::ranges().range(.., ["s0"]).build().unwrap(),
        ShardMap::planned(["s0", "s1"]).copies(2).build().unwrap(),
    ];
    for other in others {
        assert_eq!(steps::next(&map, &other, 1.0).unwrap_err().kind(), Kind::Invalid);
    }
}

fn growing() -> (Shards<Endpoint, By<fn(&Request<u64>) -> &u64>>, ShardMap) {
    let three = map(&["s0", "s1"]);
    let shards = Shards::new(three.clone(), key as fn(&Request<u64>) -> &u64, named(&["s0", "s1", "s2"], 0));
    let next = three.next(|change| {
        change.add("s2");
    });
    (shards, next.unwrap())
}

fn fast() -> Rebalance {
    let millisecond = Duration::from_millis(1);
    Rebalance::new().step(65_536).backoff(Backoff::new(millisecond, millisecond)).seed(Seed::new(1))
}

#[tokio::test(start_paused = true)]
async fn a_step_is_copied_sealed_handed_over_published_and_cleaned() {
    let ((shards, wanted), mover) = (growing(), Notes::default());
    let done = shards.rebalance_by(&fast(), &shards.plan(&wanted).unwrap(), &mover).await.unwrap();
    assert_eq!(done.to_string(), "21845 slots moved in 1 step, map 2 counts");
    let asked: Vec<_> = mover.asked().iter().map(|asked| asked.split(" by ").next().unwrap().to_owned()).collect();
    assert_eq!(
        asked,
        [
            "copy s0 to s2",
            "copy s1 to s2",
            "seal s0 to s2",
            "seal s1 to s2",
            "hand over s0 to s2",
            "hand over s1 to s2",
            "clean s0 to s2",
            "clean s1 to s2",
        ]
    );
    let again = shards.rebalance_by(&fast(), &shards.plan(&wanted).unwrap(), &mover).await.unwrap();
    assert_eq!((again.steps, again.version, mover.asked().len()), (0, 2, 0), "there is nothing left to do");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_is_tried_again_under_the_next_version_and_then_told() {
    for (what, word) in [("copy", "copy"), ("seal", "seal"), ("hand over", "hand-over")] {
        let ((shards, wanted), mover) = (growing(), Notes::default());
        mover.fails.lock().insert(what, 2);
        let done = shards.rebalance_by(&fast(), &shards.plan(&wanted).unwrap(), &mover).await.unwrap();
        assert_eq!((done.given_up, done.version), (2, 4), "{what}: each try has a version of its own");
        let (shards, wanted) = growing();
        mover.fails.lock().insert(what, 3);
        let error = shards.rebalance_by(&fast(), &shards.plan(&wanted).unwrap(), &mover).await.unwrap_err();
        let told = error.chain();
        assert!(told.starts_with(&format!("unavailable: the {word} of s0 to s2 by map ")), "{told}");
        assert!(told.ends_with("and 1 more has failed: s0: unavailable: no route"), "{told}");
        assert!(shards.map().says_the_same(&growing().0.map()), "all is where it was");
    }
    let ((shards, wanted), mover) = (growing(), Notes::default());
    mover.fails.lock().insert("clean", 99);
    let done = shards.rebalance_by(&fast(), &shards.plan(&wanted).unwrap(), &mover).await.unwrap();
    assert_eq!((done.unclean.len(), done.version), (2, 2), "it has moved all the same");
}

#[tokio::test(start_paused = true)]
async fn who_hangs_is_given_up_in_time_and_who_is_dropped_decides_at_once() {
    let ((shards, wanted), mover) = (growing(), Notes::default());
    *mover.hangs.lock() = Some("hand over");
    let start = time::now();
    let settings = fast().attempts(1).pause_max(Duration::from_secs(3));
    let error = shards.rebalance_by(&settings, &shards.plan(&wanted).unwrap(), &mover).await.unwrap_err();
    assert!(error.chain().ends_with("timed out: its keys were not handed over within 3s"), "{}", error.chain());
    assert_eq!((start.elapsed(), shards.map().version()), (Duration::from_secs(3), 2));
    let plan = shards.plan(&wanted).unwrap();
    let mut begun = Box::pin(shards.rebalance(&plan, &mover));
    assert!(begun.as_mut().now_or_never().is_none());
    let other = shards.rebalance(&plan, &mover).await.unwrap_err();
    assert_eq!(other.to_string(), "conflict: another rebalance is under way");
    assert_eq!(shards.map().version(), 2);
    drop(begun);
    assert_eq!(shards.map().version(), 3, "what was sealed for map 3 is served under it");
    let error = shards.rebalance(&plan, &mover).await.unwrap_err();
    assert_eq!(error.to_string(), "conflict: the plan begins with map 2, and map 3 counts");
    *mover.hangs.lock() = None;
    assert!(shards.rebalance(&shards.plan(&wanted).unwrap(), &mover).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_to_a_shard_without_endpoint_does_not_begin() {
    let ((shards, wanted), mover) = (growing(), Notes::default());
    shards.endpoints().remove("s2");
    let error = shards.rebalance(&shards.plan(&wanted).unwrap(), &mover).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "s2: unavailable: the wanted map names this shard, and there is no endpoint of that name"
    );
    assert!(mover.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_map_that_is_published_meanwhile_wins() {
    let ((shards, wanted), mover) = (growing(), Notes::default());
    *mover.hangs.lock() = Some("hand over");
    let plan = shards.plan(&wanted).unwrap();
    let mut begun = Box::pin(shards.rebalance(&plan, &mover));
    assert!(begun.as_mut().now_or_never().is_none());
    let theirs = map(&["s0", "s1"]).with_version(7);
    shards.maps().publish(theirs.clone()).unwrap();
    drop(begun);
    assert_eq!(shards.map(), theirs);
}

/// What a mover works for, at each of its steps.
#[tokio::test(start_paused = true)]
async fn no_two_tries_have_the_same_version_also_where_one_is_dropped_while_it_copies() {
    let ((shards, wanted), mover) = (growing(), Notes::default());
    let versions = |asked: Vec<String>| -> std::collections::BTreeSet<String> {
        let version = |asked: &String| asked.split(" by map ").nth(1).unwrap().split(':').next().unwrap().to_owned();
        asked.iter().filter(|asked| asked.starts_with("copy")).map(version).collect()
    };
    mover.fails.lock().insert("copy", 3);
    assert!(shards.rebalance_by(&fast(), &shards.plan(&wanted).unwrap(), &mover).await.is_err());
    *mover.hangs.lock() = Some("copy");
    let plan = shards.plan(&wanted).unwrap();
    assert!(Box::pin(shards.rebalance(&plan, &mover)).now_or_never().is_none());
    *mover.hangs.lock() = None;
    let done = shards.rebalance_by(&fast(), &shards.plan(&wanted).unwrap(), &mover).await.unwrap();
    assert_eq!(versions(mover.asked()), ["2", "3", "4", "5", "6"].map(String::from).into());
    assert_eq!((done.version, done.given_up), (6, 0));
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_comes_back_in_the_middle_of_a_move_ends_that_try_by_the_next_version_of_the_map() {
    let ((shards, wanted), mover) = (growing(), Notes::default());
    *mover.hangs.lock() = Some("hand over");
    let plan = shards.plan(&wanted).unwrap();
    let mut begun = Box::pin(shards.rebalance(&plan, &mover));
    assert!(begun.as_mut().now_or_never().is_none());
    // its seals are forgotten
    let now = shards.map();
    shards.maps().publish(now.with_version(now.version() + 1)).unwrap();
    time::sleep(Duration::from_secs(5)).await;
    assert!(begun.as_mut().now_or_never().is_none());
    assert_eq!(shards.map(), now.with_version(now.version() + 1), "it is where it was");
    *mover.hangs.lock() = None;
    let done = begun.await.unwrap();
    assert_eq!(done.given_up, 1, "and the move goes on by the versions after it");
    assert!(done.version > now.version() + 2 && shards.map().says_the_same(&wanted));
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_for_the_very_map_that_counts_and_for_as_many_copies() {
    let ((shards, wanted), mover) = (growing(), Notes::default());
    let plan = shards.plan(&wanted).unwrap();
    let (others, _) = growing();
    let theirs = ShardMap::planned(["s1", "s0"]).seed(0).build().unwrap().next(|change| {
        change.weigh("s1", 3);
    });
    let others =
        Shards::new(theirs.unwrap().with_version(1), key as fn(&Request<u64>) -> &u64, others.endpoints().clone());
    let error = others.rebalance(&plan, &mover).await.unwrap_err();
    assert_eq!(error.to_string(), "conflict: the plan begins with map 1, and another map of that version 1 counts");
    let error = shards.plan(&ShardMap::planned(["s0", "s1", "s2"]).copies(2).build().unwrap()).unwrap_err();
    let told = "plan from version 1: unsupported: the map keeps 1 copies of a key, the wanted one 2";
    assert_eq!(error.to_string(), told);
    assert!(mover.asked().is_empty());
}
