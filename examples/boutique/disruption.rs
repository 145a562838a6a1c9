//! What goes wrong while people shop: a pod is killed, a node is drained, a service is rolled to its next version.
//!
//! The seed chooses the order, the moments and the victims. Each disruption is over before the next begins, so that what
//! is tested is the shop and not whether three nodes were enough.

use super::{
    call::Caller,
    model::Recommended,
    shop::{self, Shop},
    telemetry::Operations,
};
use seedpod::{
    Error, Kind, Result,
    base::{
        Rng, Seed,
        time::{self, Instant},
    },
};
use std::time::Duration;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Disruption {
    /// A checkout pod is killed, without grace, while a checkout is in flight in it.
    Kill,
    /// All pods of a node have to go elsewhere.
    Drain,
    /// Recommendation goes from v1 to v2.
    Rollout,
}

/// What happens when, in a show of this length.
pub(crate) fn plan(seed: Seed, length: Duration) -> [(Duration, Disruption); 3] {
    let mut rng = seed.fork("plan").rng();
    let mut order = [Disruption::Kill, Disruption::Drain, Disruption::Rollout];
    rng.shuffle(&mut order);
    let [first, second, third] = order;
    [(0.10, first), (0.35, second), (0.60, third)]
        .map(|(part, disruption)| (length.mul_f64(part + 0.1 * rng.unit()), disruption))
}

/// Carries out the plan of a show that began then, and tells what was done.
pub(crate) async fn disrupt(
    shop: &Shop,
    seed: Seed,
    plan: [(Duration, Disruption); 3],
    began: Instant,
    mut tell: impl AsyncFnMut(String),
) -> Result {
    let mut rng = seed.fork("victims").rng();
    for (after, disruption) in plan {
        time::sleep_until(began + after).await;
        let done = match disruption {
            Disruption::Kill => kill(shop, &mut rng).await,
            Disruption::Drain => drain(shop, &mut rng).await,
            Disruption::Rollout => rollout(shop).await,
        };
        tell(done.map_err(|error| error.at(format!("{disruption:?}")))?).await;
        shop.settled(SETTLED_WITHIN).await?;
    }
    Ok(())
}

const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// How long to wait for a checkout to be in flight in the victim before another one is looked for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Kills a checkout pod in the middle of a checkout, and makes sure that it hit.
async fn kill(shop: &Shop, rng: &mut Rng) -> Result<String> {
    for _ in 0..20 {
        let pods = shop.pods("checkout")?;
        let Some(victim) = rng.choose(&pods) else { break };
        if !busy(shop, victim.name()).await {
            continue;
        }
        shop.kill(victim.name()).await?;
        let cut = stopped(shop, victim.name()).await;
        if cut.contains_key(CHECKOUT) {
            let node = victim.node().unwrap_or_default();
            return Ok(format!("killed {} on {node}, in flight: {}", victim.name(), listed(&cut)));
        }
    }
    Err(Error::new(Kind::Failed, "no checkout was in flight in any pod that was killed"))
}

const CHECKOUT: &str = "POST /orders";

/// Waits for a checkout to be in flight in a pod: first for one among other requests, then for any.
async fn busy(shop: &Shop, pod: &str) -> bool {
    let begun = time::now();
    while begun.elapsed() < PATIENCE {
        let in_flight = shop.telemetry().in_flight(pod);
        let others = if begun.elapsed() < PATIENCE / 2 { 1 } else { 0 };
        if in_flight.contains_key(CHECKOUT) && in_flight.values().sum::<u32>() > others {
            return true;
        }
        time::sleep(Duration::from_millis(1)).await;
    }
    false
}

/// What was cut off in a pod that has been killed: its tasks end at their next await.
async fn stopped(shop: &Shop, pod: &str) -> Operations {
    let begun = time::now();
    while !shop.telemetry().in_flight(pod).is_empty() && begun.elapsed() < PATIENCE {
        time::sleep(Duration::from_millis(1)).await;
    }
    shop.telemetry().cut(pod)
}

fn listed(operations: &Operations) -> String {
    let listed: Vec<_> = operations.iter().map(|(operation, count)| format!("{count} × {operation}")).collect();
    listed.join(", ")
}

/// Drains a node, any but the one that keeps the shop's state.
async fn drain(shop: &Shop, rng: &mut Rng) -> Result<String> {
    let node = rng.choose(&shop::OTHERS).ok_or_else(|| Error::new(Kind::NotFound, "there is no node to drain"))?;
    let begun = time::now();
    let moved = shop.drain(node).await?;
    Ok(format!("drained {node}: {moved} pods went elsewhere in {:.1} s", begun.elapsed().as_secs_f64()))
}

/// Rolls recommendation to v2, and asks it what it thinks now.
async fn rollout(shop: &Shop) -> Result<String> {
    let begun = time::now();
    shop.apply(&shop::MANIFEST.replace("shop/recommendation:v1", "shop/recommendation:v2")).await?;
    shop.settled(SETTLED_WITHIN).await?;
    let asked: Recommended =
        Caller::outside(shop.http()).get("http://recommendation/recommendations?products=mug").await?;
    let Recommended { version, reason, .. } = asked;
    Ok(format!("rolled recommendation to {version} in {:.1} s: {reason:?}", begun.elapsed().as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_seed_chooses_the_order_and_everything_happens_once() {
        let length = Duration::from_secs(10);
        let plans: BTreeSet<_> = (0..100).map(|seed| plan(Seed::new(seed), length).map(|(_, what)| what)).collect();
        assert_eq!(plans.len(), 6, "every order comes up");
        for seed in (0..100).map(Seed::new) {
            let plan = plan(seed, length);
            assert!(plan.is_sorted() && plan[2].0 < length.mul_f64(0.75), "{plan:?}");
            assert_eq!(plan.map(|(_, what)| what).into_iter().collect::<BTreeSet<_>>().len(), 3);
        }
    }
}
