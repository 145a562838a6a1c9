//! Leaves pinned side by side: few allocations for many futures, and no unsafe code.

use pin_project_lite::pin_project;
use std::pin::Pin;

/// Leaves that are larger than this get a box each: a block of them is built on the stack.
const LARGE: usize = 2048;
/// Leaves up to this size share blocks of 64, where there are many.
const SMALL: usize = 512;
/// Up to so many leaves, blocks of 16 waste less than one of 64.
const FEW: usize = 48;

pin_project! {
    struct One<F> {
        #[pin]
        leaf: Option<F>,
    }
}

pin_project! {
    struct Pair<T> {
        #[pin]
        a: T,
        #[pin]
        b: T,
    }
}

/// A tree of pairs: pinned as a whole, so that each of its leaves is.
trait Node<F> {
    const LEAVES: usize;

    fn empty() -> Self;

    /// The leaf at this place, which is below `LEAVES`.
    fn at(self: Pin<&mut Self>, place: usize) -> Pin<&mut Option<F>>;
}

impl<F> Node<F> for One<F> {
    const LEAVES: usize = 1;

    #[inline(always)]
    fn empty() -> Self {
        One { leaf: None }
    }

    #[inline(always)]
    fn at(self: Pin<&mut Self>, _: usize) -> Pin<&mut Option<F>> {
        self.project().leaf
    }
}

impl<F, T: Node<F>> Node<F> for Pair<T> {
    const LEAVES: usize = 2 * T::LEAVES;

    #[inline(always)]
    fn empty() -> Self {
        Pair { a: T::empty(), b: T::empty() }
    }

    #[inline(always)]
    fn at(self: Pin<&mut Self>, place: usize) -> Pin<&mut Option<F>> {
        let this = self.project();
        // chosen before going on: a choice of addresses, and no branch that depends on which leaf comes next
        let half = if place & T::LEAVES == 0 { this.a } else { this.b };
        half.at(place)
    }
}

type Four<F> = Pair<Pair<One<F>>>;
type Sixteen<F> = Pair<Pair<Four<F>>>;
type SixtyFour<F> = Pair<Pair<Sixteen<F>>>;

/// So many places for leaves, empty at first.
pub(super) struct Slab<F>(Blocks<F>);

/// By the number of leaves and their size.
enum Blocks<F> {
    Four(Pin<Box<Four<F>>>),
    Sixteen(Pin<Box<Sixteen<F>>>),
    Sixteens(Vec<Pin<Box<Sixteen<F>>>>),
    SixtyFours(Vec<Pin<Box<SixtyFour<F>>>>),
    /// A box for each that has been put in.
    Boxes(Vec<Pin<Box<Option<F>>>>),
}

impl<F> Slab<F> {
    /// Places for this many.
    #[inline]
    pub(super) fn new(count: usize) -> Self {
        Slab(match size_of::<Option<F>>() {
            LARGE.. => Blocks::Boxes(Vec::with_capacity(count)),
            _ if count <= 4 => Blocks::Four(Box::pin(Node::<F>::empty())),
            _ if count <= 16 => Blocks::Sixteen(Box::pin(Node::<F>::empty())),
            size if count <= FEW || size > SMALL => {
                Blocks::Sixteens((0..count.div_ceil(16)).map(|_| Box::pin(Node::<F>::empty())).collect())
            }
            _ => Blocks::SixtyFours((0..count.div_ceil(64)).map(|_| Box::pin(Node::<F>::empty())).collect()),
        })
    }

    /// So many more places are used.
    #[inline(always)]
    pub(super) fn put(&mut self, count: usize) {
        if let Blocks::Boxes(boxes) = &mut self.0 {
            boxes.extend((0..count).map(|_| Box::pin(None)));
        }
    }

    /// What is at this place; none beyond the last one.
    #[inline(always)]
    pub(super) fn at(&mut self, place: usize) -> Option<Pin<&mut Option<F>>> {
        match &mut self.0 {
            Blocks::Four(block) => Some(block.as_mut().at(place)),
            Blocks::Sixteen(block) => Some(block.as_mut().at(place)),
            Blocks::Sixteens(blocks) => Some(blocks.get_mut(place / 16)?.as_mut().at(place)),
            Blocks::SixtyFours(blocks) => Some(blocks.get_mut(place / 64)?.as_mut().at(place)),
            Blocks::Boxes(boxes) => Some(boxes.get_mut(place)?.as_mut()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;

    fn each_has_its_place<const BYTES: usize>() {
        for count in [1, 3, 4, 5, 16, 17, 48, 49, 64, 65, 200] {
            let mut slab = Slab::<[u8; BYTES]>::new(count);
            for place in 0..count {
                slab.put(1);
                if place % 7 != 3 {
                    slab.at(place).unwrap().set(Some([place as u8; BYTES]));
                }
            }
            let mut addresses = std::collections::BTreeSet::new();
            for place in 0..count {
                let slot = slab.at(place).unwrap();
                let found = Pin::as_ref(&slot).get_ref();
                assert_eq!(*found, (place % 7 != 3).then_some([place as u8; BYTES]), "{place} of {count}");
                assert!(addresses.insert(std::ptr::from_ref(found)), "{place} of {count}");
            }
        }
    }

    #[test]
    fn each_leaf_has_a_place_of_its_own_whatever_its_size() {
        each_has_its_place::<8>();
        each_has_its_place::<600>();
        each_has_its_place::<2_000>();
        each_has_its_place::<9_000>();
    }
}
