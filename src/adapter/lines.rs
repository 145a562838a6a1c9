//! Bytes as they arrive, cut into lines, within a bound.

use std::io::BufRead;

/// Cuts bytes into lines, however they arrive; pure.
///
/// A line ends at `\n`, or `\r\n`, or where the bytes end ([`finish`](Lines::finish)). Of one that is longer than the bound
/// the beginning is kept and the rest counted, so that a line without an end takes no more memory than that.
///
/// ```
/// use seedpod::adapter::Lines;
/// let mut lines = Lines::new(8);
/// let mut seen = Vec::new();
/// lines.feed(b"one\r\ntw", |line| seen.push((line.bytes.to_vec(), line.cut)));
/// lines.feed(b"o\nmuch too long\n", |line| seen.push((line.bytes.to_vec(), line.cut)));
/// assert_eq!(seen, [(b"one".to_vec(), 0), (b"two".to_vec(), 0), (b"much too".to_vec(), 5)]);
/// ```
#[derive(Clone, Debug)]
pub struct Lines {
    begun: Vec<u8>,
    cut: u64,
    bytes_max: usize,
}

/// One line, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// What is kept of it.
    pub bytes: &'a [u8],
    /// How many bytes of it are not kept; zero but for a line that was too long.
    pub cut: u64,
}

impl Lines {
    /// How many bytes of a line are kept where nothing else is said: 16 KiB, at which container runtimes of Kubernetes
    /// cut log lines.
    pub const BYTES_MAX: usize = 16 * 1024;

    /// Keeps at most this many bytes of a line; at least one.
    pub fn new(bytes_max: usize) -> Self {
        Lines { begun: Vec::new(), cut: 0, bytes_max: bytes_max.max(1) }
    }

    /// Takes bytes in, and gives out the lines that end in them. What is left waits for the next bytes.
    pub fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(Line<'_>)) {
        let mut rest = bytes;
        loop {
            let before = rest;
            // of a slice it cannot fail; it is what searches fast without a further dependency
            let skipped = rest.skip_until(b'\n').unwrap_or(before.len());
            let piece = before.get(..skipped).unwrap_or(before);
            let Some(piece) = piece.strip_suffix(b"\n") else {
                self.keep(piece);
                return;
            };
            if self.begun.is_empty() && self.cut == 0 && piece.len() <= self.bytes_max {
                take(Line { bytes: piece.strip_suffix(b"\r").unwrap_or(piece), cut: 0 });
                continue;
            }
            self.keep(piece);
            self.give(&mut take);
        }
    }

    /// No more bytes come: gives out what is left, where anything is.
    pub fn finish(&mut self, mut take: impl FnMut(Line<'_>)) {
        if !self.begun.is_empty() || self.cut > 0 {
            self.give(&mut take);
        }
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = self.bytes_max.saturating_sub(self.begun.len()).min(piece.len());
        self.begun.extend_from_slice(piece.get(..room).unwrap_or_default());
        self.cut += (piece.len() - room) as u64;
    }

    fn give(&mut self, take: &mut impl FnMut(Line<'_>)) {
        let bytes = if self.cut == 0 { self.begun.strip_suffix(b"\r").unwrap_or(&self.begun) } else { &self.begun };
        take(Line { bytes, cut: self.cut });
        self.begun.clear();
        self.cut = 0;
    }
}

impl Default for Lines {
    fn default() -> Self {
        Lines::new(Lines::BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    #[test]
    fn pieces_of_any_size_make_the_same_lines() {
        let mut rng = Seed::new(3).rng();
        for _ in 0..2_000 {
            let text: Vec<u8> = (0..rng.below(200)).map(|_| *rng.choose(b"ab\n\r\xff").unwrap()).collect();
            let whole = |size: usize| {
                let (mut lines, mut seen) = (Lines::new(7), Vec::new());
                for piece in text.chunks(size) {
                    lines.feed(piece, |line| seen.push((line.bytes.to_vec(), line.cut)));
                    assert!(lines.begun.len() <= 7, "bounded");
                }
                lines.finish(|line| seen.push((line.bytes.to_vec(), line.cut)));
                seen
            };
            let expected = whole(1);
            assert_eq!(whole(1 + rng.below(9) as usize), expected);
            assert_eq!(whole(1000), expected);
            let kept: u64 = expected.iter().map(|(bytes, cut)| bytes.len() as u64 + cut).sum();
            let ends = text.iter().filter(|byte| **byte == b'\n').count() as u64;
            let returns = text.iter().filter(|byte| **byte == b'\r').count() as u64;
            assert!(kept + ends <= text.len() as u64 && kept + ends + returns >= text.len() as u64, "nothing is lost");
        }
    }

    #[test]
    fn a_line_without_an_end_is_bounded_and_counted() {
        let mut lines = Lines::new(10);
        for _ in 0..1000 {
            lines.feed(&[b'x'; 1000], |_| panic!("it has no end"));
        }
        let mut seen = Vec::new();
        lines.finish(|line| seen.push((line.bytes.len(), line.cut)));
        lines.finish(|_| panic!("given out once"));
        assert_eq!(seen, [(10, 999_990)]);
    }
}
