//! How answers become one.

use super::answers::{Answers, Covered, Gathered, Shortfall, Tally};
use crate::base::Error;
use std::ops::ControlFlow;

/// How answers become one: [`Collect`] unless said, by [`Scatter::gather`](super::Scatter::gather) or by
/// [`Scatter::fold`](super::Scatter::fold).
pub trait Gather<T> {
    /// What is put together while answers come.
    type State;
    /// What is kept of each answer.
    type Kept;
    /// What comes of it.
    type Output;

    /// Whether an answer stands for more leaves than one.
    const DEEP: bool = false;
    /// Whether [`finish`](Self::finish) is told of each leaf, and not only of those that failed.
    const KEEPS: bool = true;

    /// Before the first answer.
    fn begin(&self) -> Self::State;

    /// Takes an answer, in the order in which they come; a break says that no more are needed.
    fn take(&self, state: &mut Self::State, name: &str, answer: T) -> ControlFlow<Self::Kept, Self::Kept>;

    /// After the last answer.
    fn finish(&self, state: Self::State, answers: Answers<Self::Kept>) -> Self::Output;

    /// How many leaves this answer covers.
    fn tally(&self, _answer: &T) -> Tally {
        Tally::ONE
    }

    /// How many leaves are lost with this failure.
    fn lost(&self, _error: &Error) -> Tally {
        Tally { failed: 1, ..Tally::default() }
    }
}

/// All answers, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collect;

impl<T> Gather<T> for Collect {
    type State = ();
    type Kept = T;
    type Output = Answers<T>;

    #[inline(always)]
    fn begin(&self) {}

    #[inline(always)]
    fn take(&self, (): &mut (), _: &str, answer: T) -> ControlFlow<T, T> {
        ControlFlow::Continue(answer)
    }

    fn finish(&self, (): (), answers: Answers<T>) -> Answers<T> {
        answers
    }
}

/// All answers, put together by a function when the last one is in.
#[derive(Clone, Copy, Debug)]
pub struct Together<F>(pub(super) F);

impl<T, U, F: Fn(Answers<T>) -> U> Gather<T> for Together<F> {
    type State = ();
    type Kept = T;
    type Output = Gathered<U>;

    fn begin(&self) {}

    fn take(&self, (): &mut (), _: &str, answer: T) -> ControlFlow<T, T> {
        ControlFlow::Continue(answer)
    }

    fn finish(&self, (): (), answers: Answers<T>) -> Gathered<U> {
        let (tally, failed) = (answers.tally, answers.failures());
        Gathered { value: (self.0)(answers), tally, failed }
    }
}

/// Each answer is taken as it comes, and not kept.
#[derive(Clone, Copy, Debug)]
pub struct Fold<I, F> {
    pub(super) init: I,
    pub(super) step: F,
}

impl<T, A, I, F> Gather<T> for Fold<I, F>
where
    I: Fn() -> A,
    F: Fn(&mut A, &str, T) -> ControlFlow<()>,
{
    type State = A;
    type Kept = ();
    type Output = Gathered<A>;

    const KEEPS: bool = false;

    fn begin(&self) -> A {
        (self.init)()
    }

    #[inline(always)]
    fn take(&self, state: &mut A, name: &str, answer: T) -> ControlFlow<(), ()> {
        (self.step)(state, name, answer)
    }

    fn finish(&self, value: A, answers: Answers<()>) -> Gathered<A> {
        Gathered { value, tally: answers.tally, failed: answers.failures() }
    }
}

/// As the one inside, of answers that were put together themselves: each counts as the leaves that it covers.
#[derive(Clone, Copy, Debug)]
pub struct Tree<G>(pub(super) G);

impl<T: Covered, G: Gather<T>> Gather<T> for Tree<G> {
    type State = G::State;
    type Kept = G::Kept;
    type Output = G::Output;

    const DEEP: bool = true;
    const KEEPS: bool = G::KEEPS;

    fn begin(&self) -> G::State {
        self.0.begin()
    }

    fn take(&self, state: &mut G::State, name: &str, answer: T) -> ControlFlow<G::Kept, G::Kept> {
        self.0.take(state, name, answer)
    }

    fn finish(&self, state: G::State, answers: Answers<G::Kept>) -> G::Output {
        self.0.finish(state, answers)
    }

    fn tally(&self, answer: &T) -> Tally {
        answer.tally()
    }

    /// What a branch had gathered when it fell short is lost with it.
    fn lost(&self, error: &Error) -> Tally {
        let leaves = error.downcast_ref::<Shortfall>().map_or(1, |shortfall| shortfall.tally.leaves());
        Tally { failed: leaves, ..Tally::default() }
    }
}
