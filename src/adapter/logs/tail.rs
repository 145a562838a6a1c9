//! Where reading a file has come to, also when it is rotated.

/// Where reading a file has come to; pure.
///
/// A file that does not begin as what was read of it is another one: it is read from its beginning, behind what is left of the
/// one that was rotated away.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    offset: usize,
    /// The last bytes before the offset: by them the file is known again.
    seen: Vec<u8>,
}

/// How many bytes a file is known again by.
const SEEN: usize = 256;

impl Tail {
    /// What of the content has not been given out, for a content that goes on; none for that of another file.
    pub(super) fn news<'a>(&self, content: &'a [u8]) -> Option<&'a [u8]> {
        let (read, news) = content.split_at_checked(self.offset)?;
        read.ends_with(&self.seen).then_some(news)
    }

    /// The whole of this content has been given out.
    pub(super) fn read_to_the_end_of(&mut self, content: &[u8]) {
        self.offset = content.len();
        self.seen.clear();
        self.seen.extend_from_slice(content.get(content.len().saturating_sub(SEEN)..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_goes_on_and_what_is_another_begins() {
        let mut tail = Tail::default();
        assert_eq!(tail.news(b"one\n"), Some(&b"one\n"[..]));
        tail.read_to_the_end_of(b"one\n");
        assert_eq!(tail.news(b"one\ntwo\n"), Some(&b"two\n"[..]));
        assert_eq!(tail.news(b"one\n"), Some(&b""[..]));
        assert_eq!(tail.news(b"six\nten\n"), None, "of the same length, and another");
        assert_eq!(tail.news(b""), None, "shorter");
    }
}
