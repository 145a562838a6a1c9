//! What may be had once more.

/// What may be had once more, to be sent again: whatever is `Clone`, always; a body, where all of it is at hand.
///
/// ```
/// use seedpod::base::Repeat;
///
/// assert_eq!(7.again(), Some(7));
/// ```
pub trait Repeat: Sized {
    /// The same once more; none where it can only be had once.
    fn again(&self) -> Option<Self>;
}

impl<T: Clone> Repeat for T {
    #[inline]
    fn again(&self) -> Option<Self> {
        Some(self.clone())
    }
}
