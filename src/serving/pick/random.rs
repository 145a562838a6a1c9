//! Whatever comes.

use super::{Choice, Picker};
use crate::serving::{Among, Draw};

/// Each by chance, in proportion to its weight, whatever its load: for what costs the same everywhere, and to compare
/// others with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Random;

impl<Req: ?Sized> Picker<Req> for Random {
    #[inline(always)]
    fn choose<S>(&self, among: &Among<'_, S>, _: &Req, draw: &mut Draw) -> Option<Choice> {
        among.one(draw).map(Choice::of)
    }
}
