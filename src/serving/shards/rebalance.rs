//! From the map that counts to another, step by step, while requests flow.

use super::super::{ShardMap, shard::plan::Plan};
use super::{
    Mover, Moving, ShardMaps, Shards,
    course::{Event, Stage, Then},
    steps::{self, Step, Task},
};
use crate::base::{Backoff, Deadline, Error, Kind, Result, Rng, Seed, time::sleep};
use std::{fmt, future::Future, time::Duration};

/// How a rebalance goes about it.
///
/// | setting | default |
/// | --- | --- |
/// | [`attempts`](Self::attempts) | 3 at each step |
/// | [`backoff`](Self::backoff) | 25 ms, doubling up to 250 ms, full jitter (Envoy's for retries) |
/// | [`pause_max`](Self::pause_max) | 5 s from the first seal until all is handed over |
/// | [`step`](Self::step) | 4,096 slots |
///
/// By itself, whatever its mover does, a step takes 0.15 ms between planned maps of three shards and five, 1.4 ms between those
/// of a thousand, and 5 ms where owners change slot by slot (rendezvous, two copies): it goes by what changes hands.
///
/// ```
/// use seedpod::serving::Rebalance;
/// use std::time::Duration;
///
/// let gently = Rebalance::new().step(256).pause_max(Duration::from_millis(200));
/// assert_ne!(gently, Rebalance::new());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "settings do nothing by themselves"]
pub struct Rebalance {
    attempts: u32,
    backoff: Backoff,
    pause_max: Duration,
    step: u32,
    seed: Option<Seed>,
}

impl Rebalance {
    /// The defaults.
    pub fn new() -> Self {
        Rebalance {
            attempts: 3,
            backoff: Backoff::new(Duration::from_millis(25), Duration::from_millis(250)),
            pause_max: Duration::from_secs(5),
            step: 4096,
            seed: None,
        }
    }

    /// How often each step is tried, at least once.
    pub fn attempts(self, attempts: u32) -> Self {
        Rebalance { attempts: attempts.max(1), ..self }
    }

    /// The wait between two tries.
    pub fn backoff(self, backoff: Backoff) -> Self {
        Rebalance { backoff, ..self }
    }

    /// The longest that sealing and handing over may take: what takes longer is given up, and the step tried again. Keys are
    /// served by nobody for that long, and for as long as the [commit](Mover::commit) takes, which is waited for, since it may
    /// count already. Keep both together below what requests [wait](Shards::hold).
    pub fn pause_max(self, pause_max: Duration) -> Self {
        Rebalance { pause_max, ..self }
    }

    /// How many slots move at a time, and are served by nobody while they are handed over. Of ranges, one moves at a time.
    pub fn step(self, slots: u32) -> Self {
        Rebalance { step: slots.max(1), ..self }
    }

    /// Where the jitter comes from, instead of the running simulation or the system.
    pub fn seed(self, seed: Seed) -> Self {
        Rebalance { seed: Some(seed), ..self }
    }
}

impl Default for Rebalance {
    fn default() -> Self {
        Rebalance::new()
    }
}

/// What a rebalance has done.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Rebalanced {
    /// How many maps it took.
    pub steps: u32,
    /// How many slots have arrived, each copy counted; 0 where it is ranges of keys.
    pub moved: f64,
    /// How many tries were given up on the way.
    pub given_up: u32,
    /// Of the map that counts at the end.
    pub version: u64,
    /// What could not be cleaned away at its old owner: it lies there unused. What a rebalance that was dropped or has crashed
    /// left behind is not among it: sweep what [`Fence::owns`](super::Fence::owns) denies.
    pub unclean: Vec<Moving>,
}

impl fmt::Display for Rebalanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rebalanced { steps, moved, given_up, version, .. } = self;
        let plural = |count: u32| if count == 1 { "" } else { "s" };
        write!(f, "{moved} slots moved in {steps} step{}", plural(*steps))?;
        match given_up {
            0 => {}
            1 => f.write_str(", 1 try given up")?,
            tries => write!(f, ", {tries} tries given up")?,
        }
        write!(f, ", map {version} counts")?;
        match self.unclean.len() {
            0 => Ok(()),
            count => write!(f, ", {count} moves not cleaned"),
        }
    }
}

impl<S, R, C> Shards<S, R, C> {
    /// What lies between the map that counts and the wanted one: to be read before it is done. The version of the wanted
    /// one does not matter, so that the same map can be planned for again, from wherever the last rebalance has ended.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where the maps differ in kind or seed, or in the number of copies.
    pub fn plan(&self, wanted: &ShardMap) -> Result<Plan> {
        self.maps().plan(wanted)
    }

    /// Moves keys step by step until each has the owners that the plan gives it, and ends with the plan's map. Each step
    /// publishes a map of its own, of the version that follows; so does a try that is given up, with the owners of before, and
    /// the end.
    ///
    /// To go on after an error, a crash or a drop, [plan](Self::plan) again and call this again; to go back, plan for the
    /// old map. Each step derives from the map that counts and the one that is wanted, and from nothing else.
    ///
    /// **Cancel-safety**: dropped at any await, each key is owned by exactly one shard (per copy). What was sealed is served
    /// again at once; where [it is decided elsewhere](Mover::commit) which map counts, once the next rebalance begins.
    ///
    /// # Errors
    /// The mover's, naming the step, when the attempts are used up; what has arrived until then, stays.
    /// [`Kind::Conflict`] where the plan begins with another map than the one that counts, another rebalance is under way,
    /// or another map was published meanwhile; [`Kind::Unavailable`] where a shard of the wanted map has no endpoint;
    /// [`Kind::Invalid`] where the maps differ in the number of copies.
    pub async fn rebalance<M: Mover + ?Sized>(&self, plan: &Plan, mover: &M) -> Result<Rebalanced> {
        self.rebalance_by(&Rebalance::new(), plan, mover).await
    }

    /// The same by these settings.
    ///
    /// # Errors
    /// As [`rebalance`](Self::rebalance).
    pub async fn rebalance_by<M: Mover + ?Sized>(
        &self,
        settings: &Rebalance,
        plan: &Plan,
        mover: &M,
    ) -> Result<Rebalanced> {
        let missing = plan.after.shards().iter().find(|shard| !self.endpoints().contains(&shard.name));
        if let Some(shard) = missing {
            let message = "the wanted map names this shard, and there is no endpoint of that name";
            return Err(Error::new(Kind::Unavailable, message).at(shard.name.clone()).unsent());
        }
        self.maps().rebalance(settings, plan, mover).await
    }
}

impl ShardMaps {
    /// [`Shards::plan`] without a router.
    ///
    /// # Errors
    /// As there.
    pub fn plan(&self, wanted: &ShardMap) -> Result<Plan> {
        let now = self.current();
        if now.copies() != wanted.copies() {
            let message = format!("the map keeps {} copies of a key, the wanted one {}", now.copies(), wanted.copies());
            return Err(Error::new(Kind::Unsupported, message).at(format!("plan from version {}", now.version())));
        }
        now.plan(&wanted.with_version(now.version().saturating_add(1)))
    }

    /// [`Shards::rebalance`] without a router: where keys are moved by another process than those that route.
    ///
    /// # Errors
    /// As there; endpoints are not looked at.
    pub async fn rebalance<M: Mover + ?Sized>(
        &self,
        settings: &Rebalance,
        plan: &Plan,
        mover: &M,
    ) -> Result<Rebalanced> {
        let _turn = self.turn()?;
        let (wanted, now) = (&plan.after, self.current());
        let version = now.version();
        if plan.before != now {
            let other = if plan.before.version() == version { "another map of that version" } else { "map" };
            let message = format!("the plan begins with map {}, and {other} {version} counts", plan.before.version());
            return Err(Error::new(Kind::Conflict, message));
        }
        let rng = settings.seed.unwrap_or_else(|| Seed::ambient().fork("rebalance")).rng();
        let done = Rebalanced { steps: 0, moved: 0.0, given_up: 0, version, unclean: Vec::new() };
        let mut run = Run { maps: self, mover, settings, rng, done };
        if mover.commit(&now).is_some() {
            // whatever was left open is decided now: the keys stay where they are
            run.count(now.with_version(version.saturating_add(1))).await?;
        }
        while let Some(step) = steps::next(&self.current(), wanted, settings.step.into())? {
            run.step(step, wanted).await?;
        }
        let now = self.current();
        if !now.says_the_same(wanted) {
            run.count(wanted.with_version(now.version().saturating_add(1))).await?;
        }
        run.done.version = self.current().version();
        Ok(run.done)
    }
}

/// A rebalance under way.
struct Run<'a, M: ?Sized> {
    maps: &'a ShardMaps,
    mover: &'a M,
    settings: &'a Rebalance,
    rng: Rng,
    done: Rebalanced,
}

impl<M: Mover + ?Sized> Run<'_, M> {
    /// Makes one step, in as many tries as it may take.
    async fn step(&mut self, mut step: Step, wanted: &ShardMap) -> Result {
        let mut tries = 0;
        loop {
            let (stage, error) = match self.attempt(&step).await {
                Ok(()) => break,
                Err(failure) => failure,
            };
            tries += 1;
            self.done.given_up += 1;
            if tries >= self.settings.attempts || stage == Stage::Committing {
                return Err(told(&step, stage, error));
            }
            let wait = self.settings.backoff.wait(tries - 1, &mut self.rng);
            sleep(wait).await;
            match steps::next(&self.maps.current(), wanted, self.settings.step.into())? {
                Some(next) => step = next,
                None => return Ok(()),
            }
        }
        self.done.steps += 1;
        for (moving, task) in &step.tasks {
            if *task == Task::Carry {
                self.done.moved += moving.width();
            }
            if !moving.stays && self.repeatedly(Stage::Cleaning, || self.mover.clean(moving)).await.is_err() {
                self.done.unclean.push(moving.clone());
            }
        }
        Ok(())
    }

    /// One try, up to the map by which the keys arrive. An error leaves them where they were, except where it is unknown
    /// whether that map counts.
    async fn attempt(&mut self, step: &Step) -> Result<(), (Stage, Error)> {
        let outside = self.mover.commit(&step.map).is_some();
        let stays = self.maps.current().with_version(step.map.version());
        let mut undo = Undo { maps: self.maps, map: Some(stays), stage: Stage::Copying, outside };
        if let Err(error) = self.carry(step, &mut undo).await {
            let stage = undo.stage;
            if stage.then(Event::Failed, outside) == Then::Undo
                && let Some(stays) = undo.map.clone()
                && outside
            {
                self.count(stays).await.map_err(|error| (Stage::Committing, error))?;
                undo.map = None;
            }
            return Err((stage, error)); // in this process, the guard undoes it
        }
        undo.done();
        let counted = self.count(step.map.clone()).await;
        undo.map = None;
        counted.map_err(|error| (Stage::Committing, error))
    }

    /// Copies, seals and hands over.
    async fn carry(&self, step: &Step, undo: &mut Undo<'_>) -> Result {
        let carried = || step.tasks.iter().filter(|(_, task)| *task == Task::Carry).map(|(moving, _)| moving);
        for moving in carried() {
            self.mover.copy(moving).await?;
        }
        undo.done();
        let handed_over = async {
            for (moving, _) in &step.tasks {
                self.mover.seal(moving).await?;
            }
            undo.done();
            for moving in carried() {
                self.mover.hand_over(moving).await?;
            }
            Ok(())
        };
        Deadline::within(self.settings.pause_max).bound(handed_over).await.unwrap_or_else(|_| {
            let message = format!("its keys were not handed over within {:?}", self.settings.pause_max);
            Err(Error::new(Kind::Timeout, message))
        })
    }

    /// Makes this map count, where that is decided.
    async fn count(&mut self, map: ShardMap) -> Result {
        let mut tries = 0;
        while let Some(commit) = self.mover.commit(&map) {
            let Err(error) = commit.await else { break };
            tries += 1;
            let event = if error.is_conflict() { Event::Overtaken } else { Event::Failed };
            if Stage::Committing.then(event, true) != Then::Again || tries >= self.settings.attempts {
                return Err(error);
            }
            sleep(self.settings.backoff.wait(tries - 1, &mut self.rng)).await;
        }
        match self.maps.publish(map.clone()) {
            // whoever follows the place where it is decided may have been faster
            Err(_) if self.maps.current() == map => Ok(()),
            published => published,
        }
    }

    async fn repeatedly<F: Future<Output = Result>>(&self, stage: Stage, act: impl Fn() -> F) -> Result {
        let mut rng = self.rng.clone();
        let mut tries = 0;
        loop {
            let Err(error) = act().await else { return Ok(()) };
            tries += 1;
            if stage.then(Event::Failed, false) != Then::Again || tries >= self.settings.attempts {
                return Err(error);
            }
            sleep(self.settings.backoff.wait(tries - 1, &mut rng)).await;
        }
    }
}

#[cold]
fn told(step: &Step, stage: Stage, error: Error) -> Error {
    let what = step.tasks.first().map_or_else(String::new, |(moving, _)| moving.to_string());
    let more = match step.tasks.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let message = format!("the {} of {what}{more} has failed", stage.as_str());
    Error::new(error.kind(), message).because(error)
}

/// Decides, when dropped with its map, that the keys stay where they are.
struct Undo<'a> {
    maps: &'a ShardMaps,
    /// The owners of before, under the version for which keys were sealed.
    map: Option<ShardMap>,
    stage: Stage,
    outside: bool,
}

impl Undo<'_> {
    /// Its stage is over, and well.
    fn done(&mut self) {
        if let Then::Go(next) = self.stage.then(Event::Done, self.outside) {
            self.stage = next;
        }
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(stays) = self.map.take()
            && self.stage.then(Event::Dropped, self.outside) == Then::Undo
        {
            let _ = self.maps.publish(stays); // in vain where another map counts: then that one decides
        }
    }
}
