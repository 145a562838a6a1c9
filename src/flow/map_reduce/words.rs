//! Words, as `tr -s '[:space:]' '\n'` has them.

/// Whether this is white space as C has it: space, tab, line feed, vertical tab, form feed, carriage return.
#[inline]
pub(super) fn is_space(byte: u8) -> bool {
    byte == b' ' || byte.wrapping_sub(b'\t') < 5
}

/// The words of a text: what stands between white space, as it stands there. White space is that of C's `isspace`, so
/// that word counts agree with `tr`, `sort` and `uniq` of the shell.
///
/// ```
/// let words: Vec<_> = seedpod::flow::words(" to be,\tor not\nto be").collect();
/// assert_eq!(words, ["to", "be,", "or", "not", "to", "be"]);
/// ```
pub fn words(text: &str) -> Words<'_> {
    Words { rest: text }
}

/// An iterator over the [`words`] of a text.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        let start = self.rest.bytes().position(|byte| !is_space(byte))?;
        let rest = self.rest.get(start..)?;
        let len = rest.bytes().position(is_space).unwrap_or(rest.len());
        let (word, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_stands_between_white_space() {
        let all = |text| words(text).collect::<Vec<_>>();
        assert_eq!(all(""), [""; 0]);
        assert_eq!(all(" \t\n\x0b\x0c\r "), [""; 0]);
        assert_eq!(all("one"), ["one"]);
        assert_eq!(all("  größer\u{a0}als\x0bzwei  "), ["größer\u{a0}als", "zwei"], "no white space of C's");
    }
}
