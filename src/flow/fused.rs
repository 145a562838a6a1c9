//! A stage of plain functions: over a whole delivery in one call, each item by reference.

use super::{
    Chain, Emit, Item,
    fault::Fault,
    router::{Route, Router},
};
use crate::queue::{Codec, Delivery, Json, Payload};
use smallvec::SmallVec;
use std::{
    any::Any,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// What a delivery became.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) lists: SmallVec<[List; 1]>,
    /// Items that did not go well, in order; nothing of theirs is in the lists.
    pub(super) faults: Vec<(u32, Fault)>,
}

/// What leaves by one port, or by all of a copier's.
#[derive(Debug, Default)]
pub(super) struct List {
    /// With the item from which the first of it came: one batch for the delivery, or one for each item.
    pub(super) batches: SmallVec<[(u32, Payload); 1]>,
    /// How many came of each item, where somebody counts.
    pub(super) counts: Vec<u32>,
}

/// How a stage works on a delivery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode {
    /// A batch for each item: so that its id does not depend on with which others it was delivered.
    pub(super) singly: bool,
    /// Somebody counts what came of each item.
    pub(super) counted: bool,
    /// Which of the stage's inputs it came by.
    pub(super) input: usize,
}

/// Work on a delivery that waits for nothing.
pub(super) trait Work: Send + Sync + 'static {
    fn run(&self, delivery: &Delivery, mode: Mode) -> Made;
}

/// A chain and the router at its end.
pub(super) struct Fused<In, C, R> {
    chain: C,
    router: R,
    marker: PhantomData<fn(&In)>,
}

impl<In, C, R> Fused<In, C, R> {
    pub(super) fn new(chain: C, router: R) -> Fused<In, C, R> {
        Fused { chain, router, marker: PhantomData }
    }
}

impl<In, C, R> Work for Fused<In, C, R>
where
    In: Item,
    C: Chain<In, Out: Item>,
    R: Router<C::Out>,
{
    fn run(&self, delivery: &Delivery, mode: Mode) -> Made {
        match delivery.slice::<In>() {
            Some(items) if R::TOGETHER && !mode.singly && !mode.counted => self.together(items),
            Some(items) => self.over(items.len() as u32, |at| items.get(at as usize).ok_or_else(String::new), mode),
            None => {
                let items: Vec<_> = (0..delivery.len()).map(|at| read::<In>(delivery, at)).collect();
                let get = |at: u32| match items.get(at as usize) {
                    Some(Ok(item)) => Ok(item),
                    Some(Err(words)) => Err(words.clone()),
                    None => Err(String::new()),
                };
                self.over(delivery.len(), get, mode)
            }
        }
    }
}

impl<In, C, R> Fused<In, C, R>
where
    C: Chain<In, Out: Item>,
    R: Router<C::Out>,
{
    /// The usual case, and nothing beside it: values of this process, to one list, and nobody counts.
    fn together(&self, items: &[In]) -> Made {
        let mut out = One { items: Vec::with_capacity(items.len()) };
        let (mut before, mut at, mut faults) = (0, 0, Vec::new());
        loop {
            let ended = catch_unwind(AssertUnwindSafe(|| {
                for item in items.get(at..).unwrap_or_default() {
                    before = out.items.len();
                    self.chain.each(item, &mut out);
                    at += 1;
                }
            }));
            let Err(panic) = ended else { break };
            out.items.truncate(before);
            faults.push((at as u32, Fault::Panicked(words_of(&*panic))));
            at += 1;
        }
        let mut list = List::default();
        if !out.items.is_empty() {
            let first = first_well(&faults, items.len() as u32);
            list.batches.push((first, Payload::values(out.items, Json)));
        }
        Made { lists: SmallVec::from([list]), faults }
    }

    /// Goes on behind an item that panics: what was made of the others is not made again.
    fn over<'a>(&self, count: u32, get: impl Fn(u32) -> Result<&'a In, String>, mode: Mode) -> Made
    where
        In: 'a,
    {
        let mut out = Out::new(&self.router, count, mode);
        let mut at = 0;
        while at < count {
            let ended = catch_unwind(AssertUnwindSafe(|| {
                while at < count {
                    out.begin();
                    let fault = match get(at) {
                        Ok(item) => {
                            self.chain.each(item, &mut out);
                            out.lost.take()
                        }
                        Err(words) => Some(Fault::Hopeless(words)),
                    };
                    match fault {
                        None => out.end(at),
                        Some(fault) => out.undo(at, fault),
                    }
                    at += 1;
                }
            }));
            if let Err(panic) = ended {
                out.undo(at, Fault::Panicked(words_of(&*panic)));
                at += 1;
            }
        }
        out.into_made()
    }
}

/// An item that came from another process.
pub(super) fn read<T: Item>(delivery: &Delivery, at: u32) -> Result<T, String> {
    decode::<T, Json>(delivery, at)
}

/// The same, where only this flow reads it.
pub(super) fn decode<T: 'static, C: Codec<T>>(delivery: &Delivery, at: u32) -> Result<T, String> {
    let decoded = delivery.bytes(at).and_then(|bytes| C::decode(&bytes));
    decoded.map_err(|error| format!("it is no {}: {}", std::any::type_name::<T>(), error.chain()))
}

pub(super) fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_string()
}

/// The first item that went well, which gives the batch its id: it is acknowledged with it, so no other batch has the same.
fn first_well(faults: &[(u32, Fault)], count: u32) -> u32 {
    let mut bad = faults.iter().map(|(at, _)| *at);
    (0..count).find(|at| bad.next() != Some(*at)).unwrap_or(0)
}

/// One list, and no choice.
struct One<T> {
    items: Vec<T>,
}

impl<T: Item> Emit<T> for One<T> {
    #[inline]
    fn owned(&mut self, item: T) {
        self.items.push(item);
    }

    #[inline]
    fn shared(&mut self, item: &T) {
        self.items.push(item.clone());
    }
}

/// Where the chain puts what it makes.
struct Out<'a, T, R> {
    router: &'a R,
    mode: Mode,
    count: u32,
    lists: SmallVec<[Growing<T>; 1]>,
    faults: Vec<(u32, Fault)>,
    /// What is wrong with the item in hand.
    lost: Option<Fault>,
}

struct Growing<T> {
    items: Vec<T>,
    /// How long it was when the item in hand began.
    before: usize,
    done: List,
}

impl<'a, T: Item, R: Router<T>> Out<'a, T, R> {
    fn new(router: &'a R, count: u32, mode: Mode) -> Self {
        let lists = router.lists();
        let room = if lists == 1 && !mode.singly { count as usize } else { 0 };
        let growing = || Growing { items: Vec::with_capacity(room), before: 0, done: List::default() };
        let lists = (0..lists).map(|_| growing()).collect();
        Out { router, mode, count, lists, faults: Vec::new(), lost: None }
    }

    #[inline]
    fn begin(&mut self) {
        for list in &mut self.lists {
            list.before = list.items.len();
        }
    }

    #[inline]
    fn end(&mut self, at: u32) {
        for list in &mut self.lists {
            let made = list.items.len() - list.before;
            if self.mode.counted {
                list.done.counts.push(made as u32);
            }
            if self.mode.singly && made > 0 {
                let items = std::mem::take(&mut list.items);
                list.done.batches.push((at, Payload::values(items, Json)));
            }
        }
    }

    #[cold]
    fn undo(&mut self, at: u32, fault: Fault) {
        for list in &mut self.lists {
            list.items.truncate(list.before);
            if self.mode.counted {
                list.done.counts.push(0);
            }
        }
        self.lost = None;
        self.faults.push((at, fault));
    }

    fn into_made(self) -> Made {
        let Out { lists, faults, count, .. } = self;
        let well = first_well(&faults, count);
        let lists = lists.into_iter().map(|list| {
            let Growing { items, mut done, .. } = list;
            if !items.is_empty() {
                done.batches.push((well, Payload::values(items, Json)));
            }
            done
        });
        Made { lists: lists.collect(), faults }
    }

    fn push(&mut self, to: usize, item: T) {
        if let Some(list) = self.lists.get_mut(to) {
            list.items.push(item);
        }
    }

    #[cold]
    fn lose(&mut self) {
        self.lost = Some(self.router.lost());
    }
}

impl<T: Item, R: Router<T>> Emit<T> for Out<'_, T, R> {
    #[inline]
    fn owned(&mut self, item: T) {
        match self.router.route(&item) {
            Route::To(to) => self.push(to, item),
            Route::Each(mut mask) => {
                while mask.count_ones() > 1 {
                    self.push(mask.trailing_zeros() as usize, item.clone());
                    mask &= mask - 1;
                }
                self.push(mask.trailing_zeros() as usize, item);
            }
            Route::Nowhere => self.lose(),
        }
    }

    #[inline]
    fn shared(&mut self, item: &T) {
        match self.router.route(item) {
            Route::To(to) => self.push(to, item.clone()),
            Route::Nowhere => self.lose(),
            Route::Each(_) => self.owned(item.clone()),
        }
    }
}
