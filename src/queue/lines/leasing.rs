//! Waiting at several lines at once.

use super::Lines;
use crate::base::{Answer, Few, Result};
use crate::queue::{Broker, Delivery, Want};
use smallvec::SmallVec;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// Leases that are asked for, one per line; it ends with the first that got something. Calls act when they are made: what
/// others have got by then is [`left`](Leasing::left).
#[must_use = "what it got must be handled"]
pub(in crate::queue) struct Leasing<'a> {
    lines: &'a Lines,
    asked: SmallVec<[(usize, Answer<'a, Few<Delivery>>); 1]>,
}

impl<'a> Leasing<'a> {
    pub(super) fn new(lines: &'a Lines, broker: &'a dyn Broker, want: Want) -> Self {
        let ask = |line: usize| lines.all.get(line).map(|subscription| (line, broker.lease(subscription, want)));
        Leasing { lines, asked: lines.order().into_iter().filter_map(ask).collect() }
    }

    /// What was leased and not taken.
    pub(in crate::queue) fn left(self) -> Few<Delivery> {
        let got = |(_, answer)| match answer {
            Answer::Now(Some(Ok(deliveries))) => Some(deliveries),
            _ => None,
        };
        self.asked.into_iter().filter_map(got).flatten().collect()
    }
}

impl Future for Leasing<'_> {
    type Output = Result<(usize, Few<Delivery>)>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut at = 0;
        while let Some((line, answer)) = this.asked.get_mut(at) {
            let line = *line;
            match Pin::new(answer).poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(leased) => {
                    drop(this.asked.remove(at));
                    let deliveries = leased?;
                    this.lines.looked(line, &deliveries);
                    if !deliveries.is_empty() || this.asked.is_empty() {
                        return Poll::Ready(Ok((line, deliveries)));
                    }
                }
            }
        }
        if this.asked.is_empty() { Poll::Ready(Ok((0, Few::new()))) } else { Poll::Pending }
    }
}
