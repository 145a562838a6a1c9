//! By which port an item leaves its stage.

use super::fault::Fault;

/// Where an item goes: numbers of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    To(usize),
    /// To every port whose bit is set.
    Each(u64),
    Nowhere,
}

/// How many ports a stage may have: one for each bit.
pub(super) const PORTS: usize = 64;

/// The end of a stage.
pub(super) trait Router<T>: Send + Sync + 'static {
    /// Whether all items leave in one list, whatever they are.
    const TOGETHER: bool = false;

    /// How many different lists of items leave the stage.
    fn lists(&self) -> usize {
        1
    }

    /// Where this item goes, among the lists.
    fn route(&self, item: &T) -> Route;

    /// What is wrong with an item that goes nowhere.
    fn lost(&self) -> Fault {
        Fault::Hopeless(String::new())
    }
}

/// All leave together: by one port, or each by every port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Together;

impl<T> Router<T> for Together {
    const TOGETHER: bool = true;

    #[inline]
    fn route(&self, _: &T) -> Route {
        Route::To(0)
    }
}
