//! What a request is sharded by: bytes that mean the same in every process.

use bytes::Bytes;
use std::{borrow::Cow, sync::Arc};

/// What a request is sharded by: bytes that mean the same in every process, borrowed or computed.
///
/// Text and bytes are themselves, whole numbers are their bytes in big-endian order, whatever the machine; what points to a
/// key is that key. Numbers of different widths are different keys, and in a map of ranges negative ones stand behind the
/// others. `usize` and `isize` are none: they are not as wide everywhere. There is no way in for [`Hash`](std::hash::Hash):
/// what it feeds a hasher may change with the compiler and the machine's word, and two processes would look for a key in two
/// places.
///
/// ```
/// use seedpod::serving::{ShardKey, ShardMap};
///
/// struct Cart { user: u64 }
///
/// impl ShardKey for Cart {
///     type Bytes<'a> = [u8; 8];
///     fn shard_bytes(&self) -> [u8; 8] {
///         self.user.to_be_bytes()
///     }
/// }
///
/// let map = ShardMap::planned(["s0", "s1", "s2"]).build()?;
/// assert_eq!(map.owner(&Cart { user: 7 }), map.owner(&7_u64));
/// assert_eq!(map.owner("ann"), map.owner(&b"ann"[..]));
/// # Ok::<(), seedpod::Error>(())
/// ```
pub trait ShardKey {
    /// The bytes, borrowed from the key or computed.
    type Bytes<'a>: AsRef<[u8]>
    where
        Self: 'a;

    /// The bytes: equal for equal keys, in every process and for as long as the data lives.
    fn shard_bytes(&self) -> Self::Bytes<'_>;
}

macro_rules! pointing {
    ($($pointer:ty $(where T: $bound:path)?),*) => {$(
        impl<T: ShardKey $(+ $bound)? + ?Sized> ShardKey for $pointer {
            type Bytes<'a>
                = T::Bytes<'a>
            where
                Self: 'a;

            #[inline]
            fn shard_bytes(&self) -> T::Bytes<'_> {
                (**self).shard_bytes()
            }
        }
    )*};
}

pointing!(&T, Box<T>, Arc<T>, Cow<'_, T> where T: ToOwned);

macro_rules! borrowed {
    ($($type:ty: $bytes:ident),*) => {$(
        impl ShardKey for $type {
            type Bytes<'a> = &'a [u8];

            #[inline]
            fn shard_bytes(&self) -> &[u8] {
                self.$bytes()
            }
        }
    )*};
}

borrowed!(str: as_bytes, String: as_bytes, [u8]: as_ref, Vec<u8>: as_slice, Bytes: as_ref);

impl<const N: usize> ShardKey for [u8; N] {
    type Bytes<'a> = &'a [u8; N];

    #[inline]
    fn shard_bytes(&self) -> &[u8; N] {
        self
    }
}

macro_rules! computed {
    ($($number:ty),*) => {$(
        impl ShardKey for $number {
            type Bytes<'a> = [u8; size_of::<$number>()];

            #[inline]
            fn shard_bytes(&self) -> [u8; size_of::<$number>()] {
                self.to_be_bytes()
            }
        }
    )*};
}

computed!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(key: &(impl ShardKey + ?Sized)) -> Vec<u8> {
        key.shard_bytes().as_ref().to_vec()
    }

    #[test]
    fn text_is_its_bytes_and_numbers_are_big_endian_everywhere() {
        for text in [bytes("ann"), bytes(&"ann"), bytes(&"ann".to_owned()), bytes(&b"ann"[..]), bytes(b"ann")] {
            assert_eq!(text, b"ann");
        }
        assert_eq!(bytes(&vec![1, 2]), bytes(&Bytes::from_static(&[1, 2])));
        assert_eq!(bytes(&0x0102_u16), [1, 2]);
        assert_eq!(bytes(&0x0102_u32), [0, 0, 1, 2]);
        assert_eq!(bytes(&1_u64), [0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(bytes(&1_u128).len(), 16);
        assert_eq!(bytes(&7_u8), [7]);
        assert_eq!(bytes(""), Vec::<u8>::new());
    }

    #[test]
    fn what_points_to_a_key_is_that_key_and_signed_numbers_are_their_bytes() {
        let (arc, boxed): (Arc<str>, Box<str>) = ("ann".into(), "ann".into());
        for text in [bytes(&arc), bytes(&boxed), bytes(&Cow::Borrowed("ann")), bytes(&Cow::<str>::Owned("ann".into()))]
        {
            assert_eq!(text, b"ann");
        }
        let (arc, boxed): (Arc<[u8]>, Box<[u8]>) = ([1, 2].into(), [1, 2].into());
        assert_eq!((bytes(&arc), bytes(&boxed)), (vec![1, 2], vec![1, 2]));
        assert_eq!(bytes(&7_i64), bytes(&7_u64), "ids of a database");
        assert_eq!((bytes(&-1_i16), bytes(&-2_i32)), (vec![255; 2], vec![255, 255, 255, 254]));
        assert_eq!((bytes(&-1_i8).len(), bytes(&-1_i128).len()), (1, 16));
    }
}
