//! The end of a request: what became of each leaf, and why it was not reached.

use super::{
    super::{
        answers::{Answer, Answers, Reply, Shortfall},
        leaves::{Leaf, Who},
        require::Require,
        sink::{End, Sink},
    },
    Asking,
};
use crate::{
    base::{BoxError, Error, Kind},
    layer::{Metadata, attempt},
};
use tower::Service;

impl<S, R, K> Asking<S, R, K>
where
    S: Service<R> + Clone,
    S::Error: Into<BoxError> + 'static,
    R: Metadata,
{
    /// Gives up all that is open, and tells what became of each leaf.
    pub(in super::super) fn close<T: Sink<S::Response, Kept = K>>(&mut self, end: End) -> Answers<K> {
        let late = self.over || end == End::Canary;
        let open = self.asked - self.answered - self.failed;
        if !T::DEEP {
            (self.tally.answered, self.tally.failed) = (self.answered, self.failed);
        }
        let unsent = self.need.leaves - self.asked;
        self.tally.unsent += unsent;
        if open > 0 {
            *(if late { &mut self.tally.late } else { &mut self.tally.dropped }) += open;
            let given_up = || if late { Reply::Late } else { Reply::Dropped };
            let unanswered = self.replies.iter_mut().take(self.asked).filter(|reply| matches!(reply, Reply::Unsent));
            unanswered.for_each(|reply| *reply = given_up());
        }
        self.spare_the_unasked();
        if open > 0 {
            let mut over = || {
                if let Some(hedges) = &mut self.hedges {
                    hedges.close();
                }
                self.fan.clear();
                self.leaves.iter_mut().for_each(Leaf::drop_count);
            };
            match end {
                _ if late => attempt::time_out(over),
                End::Done => attempt::supersede(over),
                _ => over(),
            }
        }
        let mut list = std::mem::take(&mut self.told);
        if T::KEEPS {
            let (leaves, replies) = (std::mem::take(&mut self.leaves), std::mem::take(&mut self.replies));
            let named = |(leaf, reply): (Leaf<S, R>, Reply<K>)| match leaf.who {
                Who::Named(name) => Some(Answer { name, reply }),
                Who::Counted(_) => None, // none: whoever has ended is known under its name
            };
            list = leaves.into_iter().zip(replies).filter_map(named).collect();
        }
        Answers { list, tally: self.tally }
    }

    /// Why it was not reached.
    #[cold]
    pub(in super::super) fn error<T: Sink<S::Response, Kept = K>>(&self, end: End, answers: &Answers<K>) -> Error {
        let tally = answers.tally;
        let needed = match self.require {
            Require::Coverage(coverage) if T::DEEP => coverage.of(tally.leaves()),
            _ => self.need.answers,
        };
        let (kind, message) = match (end, &self.cause) {
            (End::Canary, Some(error)) => (error.kind(), "the canary failed, and the others were not asked".into()),
            (End::Canary, None) => (Kind::Timeout, "the canary was silent, and the others were not asked".into()),
            (End::Late, _) | (_, None) => (Kind::Timeout, format!("{needed} leaves were needed by the deadline")),
            (_, Some(error)) => (error.kind(), format!("{needed} leaves were needed")),
        };
        let mut error = Error::new(kind, format!("scatter: {message}: {tally}"));
        if let Some(wait) = self.cause.as_ref().filter(|_| end != End::Late).and_then(Error::retry_after) {
            error = error.after(wait);
        }
        if tally.answered + tally.late + tally.dropped == 0 && answers.failed().all(|(_, error)| error.is_unsent()) {
            error = error.unsent();
        }
        error.because(Shortfall { tally, needed, failed: answers.failures() })
    }
}
