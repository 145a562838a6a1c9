//! What the stages before a join tell it: batches that begin, and items that will not come.

use super::{
    draft::{Begin, End},
    fault::Fate,
    fused::Made,
    graph::Plan,
    lineage::{self, Share},
    mark::Mark,
};
use crate::base::Name;
use crate::queue::{Delivery, FIRST_ID, Id, Json, Payload, Publish, Topic};
use serde::{Deserialize, Serialize};

/// A line in a join's account of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    batch: (u64, u64),
    pub(super) weight: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum What {
    /// The batch begins.
    Opened,
    /// So many items ended elsewhere, in order: dropped, exploded into nothing, gone where the join cannot be reached.
    Ended(u64),
    /// So many items went to the dead letters, for this reason.
    Failed(u64, String),
    /// The batch's time is over.
    Due,
}

impl Line {
    pub(super) fn new(share: Share, what: What) -> Line {
        let bits = share.batch.as_u128();
        Line { batch: ((bits >> 64) as u64, bits as u64), weight: share.weight, what }
    }

    pub(super) fn batch(&self) -> Id {
        Id::from_u128(u128::from(self.batch.0) << 64 | u128::from(self.batch.1))
    }

    /// Adds this to the line before it, where it is more of the same.
    pub(super) fn add(lines: &mut Vec<Line>, line: Line) {
        if let Some(last) = lines.last_mut().filter(|last| last.batch == line.batch) {
            let more = match (&mut last.what, &line.what) {
                (What::Ended(sum), What::Ended(more)) => Some((sum, more)),
                (What::Failed(sum, why), What::Failed(more, same)) if why == same => Some((sum, more)),
                _ => None,
            };
            if let Some((sum, more)) = more {
                *sum += more;
                last.weight = last.weight.wrapping_add(line.weight);
                return;
            }
        }
        lines.push(line);
    }
}

/// A join that waits for what a stage takes from one of its inputs.
#[derive(Clone, Debug)]
pub(super) struct Track {
    /// The number of the join's stage.
    pub(super) join: usize,
    /// Under which shares stand in the headers.
    pub(super) header: Name,
    pub(super) account: Topic,
    /// By which of the stage's ports it can be reached.
    ports: Vec<bool>,
    /// The joins whose outcomes it waits for.
    inner: Vec<usize>,
    /// The edge is a source: what comes without a share is a batch of its own.
    opens: bool,
}

/// The joins between this edge and that join.
fn inner(plan: &Plan, edge: usize, join: usize) -> Vec<usize> {
    let leads = |other: &usize| {
        let mut ports = plan.stages.get(*other).into_iter().flat_map(|stage| &stage.ports);
        *other != join && ports.any(|port| plan.reach.get(port.edge).is_some_and(|reach| reach.contains(&join)))
    };
    plan.reach.get(edge).into_iter().flatten().copied().filter(leads).collect()
}

impl Track {
    /// The joins that wait for what is on this edge.
    pub(super) fn all(plan: &Plan, edge: usize) -> Vec<Track> {
        let opens = plan.edges.get(edge).is_some_and(|edge| matches!(edge.begin, Begin::Source(_)));
        let stage = plan.edges.get(edge).and_then(|edge| match edge.end {
            End::Stage(stage) => plan.stages.get(stage),
            _ => None,
        });
        let ports = stage.map_or(&[][..], |stage| &stage.ports);
        let joins = plan.reach.get(edge).into_iter().flatten();
        let track = |join: &usize| {
            let stage = plan.stages.get(*join)?;
            let barrier = stage.barrier.as_ref()?;
            let leads = |edge| plan.reach.get(edge).is_some_and(|reach: &Vec<usize>| reach.contains(join));
            Some(Track {
                join: *join,
                header: Name::from(format!("flow-join-{}", stage.name)),
                account: barrier.account.clone(),
                ports: ports.iter().map(|port| leads(port.edge)).collect(),
                inner: inner(plan, edge, *join),
                opens,
            })
        };
        joins.filter_map(track).collect()
    }

    /// The shares of the delivered items, and the line that opens their batch where it begins here: to be passed on when
    /// the first item does not come again.
    pub(super) fn shares(&self, delivery: &Delivery) -> (Vec<Share>, Option<Line>) {
        let (batch, range) = (&delivery.batch, delivery.range.clone());
        // what was given up has returned its share: when it comes again, its batch waits for it no longer
        let again = batch.headers.get(FIRST_ID).is_some();
        if !again {
            if let Some(text) = batch.headers.get(self.header.as_str()) {
                if let Some(shares) = lineage::read(text, range.clone()) {
                    return (shares, None);
                }
            } else if self.opens {
                let begins = range.start == 0;
                if let Some(Mark::Adds(addition)) = Mark::read(&batch.headers) {
                    return (lineage::added(addition, batch.payload.len(), range), None);
                }
                let shares = lineage::members(batch.id, batch.payload.len(), range);
                return (shares, begins.then(|| self.opened(batch.id)));
            }
        }
        (vec![Share::none(batch.id); range.len()], None)
    }

    fn opened(&self, batch: Id) -> Line {
        let passing = |left: u64, join: &usize| left.wrapping_sub(lineage::passing(batch, *join));
        let weight = self.inner.iter().fold(lineage::opening(batch), passing);
        Line::new(Share { batch, weight }, What::Opened)
    }

    /// What the join is told where this message is no item, but opens or closes a batch.
    pub(super) fn told(&self, delivery: &Delivery) -> Option<Line> {
        match Mark::read(&delivery.batch.headers).filter(|_| self.opens)? {
            Mark::Opens(batch) => Some(self.opened(batch)),
            Mark::Closes(share) => Some(Line::new(share, What::Ended(0))),
            Mark::Adds(_) => None,
        }
    }

    /// What became of the shares: those of each port, in the order of its items, and the lines for the account.
    pub(super) fn pass(
        &self,
        delivery: &Delivery,
        made: &Made,
        lists: &[usize],
        fates: &[(u32, Fate)],
    ) -> (Vec<Vec<Share>>, Vec<Line>) {
        let (shares, opened) = self.shares(delivery);
        // once: with the batch's first item, when that does not come again
        let again = matches!(fates.first(), Some((0, Fate::Retry { .. })));
        let mut lines: Vec<_> = opened.into_iter().filter(|_| !again).collect();
        let mut ports: Vec<Vec<Share>> = vec![Vec::new(); lists.len()];
        let mut fates = fates.iter().peekable();
        for (at, share) in shares.iter().enumerate() {
            if let Some((_, fate)) = fates.next_if(|(of, _)| *of as usize == at) {
                if let Fate::Reject(reason) = fate
                    && share.weight != 0
                {
                    Line::add(&mut lines, Line::new(*share, What::Failed(1, reason.clone())));
                }
                continue;
            }
            let count =
                |list: &usize| made.lists.get(*list).and_then(|list| list.counts.get(at)).copied().unwrap_or_default();
            let leading = || lists.iter().zip(&self.ports).zip(0..).filter(|((_, leads), _)| **leads);
            let among: u32 = leading().map(|((list, _), _)| count(list)).sum();
            if among == 0 {
                if share.weight != 0 {
                    Line::add(&mut lines, Line::new(*share, What::Ended(1)));
                }
                continue;
            }
            let mut parts = lineage::divided(share.weight, among);
            for ((list, _), port) in leading() {
                let parts = parts.by_ref().take(count(list) as usize);
                if let Some(port) = ports.get_mut::<usize>(port) {
                    port.extend(parts.map(|weight| Share { batch: share.batch, weight }));
                }
            }
        }
        (ports, lines)
    }

    /// These lines, for the join.
    pub(super) fn publish(&self, stage: &Name, delivery: &Delivery, lines: Vec<Line>) -> Publish {
        let port = u32::MAX - 1 - self.join as u32; // behind that of dead letters
        let id = Id::derive(stage, delivery.batch.id, port, delivery.range.start);
        Publish::new(&self.account, id, Payload::values(lines, Json))
    }
}
