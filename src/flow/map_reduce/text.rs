//! Texts, and the pieces of them that are worked on: cut where a record ends, so that no piece splits one.

use crate::base::{Error, Kind, Result};
use bytes::Bytes;
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
};

/// Where a text may be cut: behind the bytes for which this holds. They are ASCII, so that no character is split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cut {
    /// At the ends of lines.
    #[default]
    Lines,
    /// At white space, as C has it: space, tab, line feed, vertical tab, form feed, carriage return.
    Spaces,
}

impl Cut {
    fn is_end(self, byte: u8) -> bool {
        match self {
            Cut::Lines => byte == b'\n',
            Cut::Spaces => super::words::is_space(byte),
        }
    }
}

/// A text, by name.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) name: String,
    pub(super) len: u64,
    pub(super) from: Source,
}

#[derive(Debug)]
pub(super) enum Source {
    File(PathBuf),
    Memory(Bytes),
}

/// A piece of a text: from the first record that begins in this range to the end of the last one that does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) text: usize,
    pub(super) from: u64,
    pub(super) to: u64,
    /// It is the whole text.
    pub(super) is_all: bool,
}

/// A record that is longer than this is refused: a piece must fit in memory.
pub(super) const LONGEST: u64 = 16 << 20;
/// By how much it looks further for the end of a record.
const FURTHER: u64 = 64 << 10;

impl Text {
    /// Its pieces, of about this many bytes each.
    pub(super) fn pieces(&self, number: usize, size: u64) -> impl Iterator<Item = Piece> + use<> {
        let (len, size) = (self.len, size.max(1));
        (0..len.div_ceil(size).max(1)).map(move |at| Piece {
            text: number,
            from: at * size,
            to: ((at + 1) * size).min(len),
            is_all: len <= size,
        })
    }

    /// Reads a piece; the buffer is used for it.
    pub(super) fn read<'a>(&'a self, piece: &Piece, cut: Cut, buffer: &'a mut Vec<u8>) -> Result<&'a str> {
        let first = piece.from.saturating_sub(1); // the byte before says whether a record begins here
        let due = piece.to - first;
        let place = |error: Error| error.at(self.name.clone());
        let (bytes, start) = match &self.from {
            Source::Memory(bytes) => {
                let bytes = bytes.get(first as usize..).unwrap_or_default();
                let range = bytes.get(..due as usize).unwrap_or(bytes);
                let Some(start) = begins(range, piece, cut) else { return Ok("") };
                let end = self.end_in_memory(bytes, due as usize, piece, cut).map_err(place)?;
                (bytes.get(..end).unwrap_or_default(), start)
            }
            Source::File(path) => {
                let mut file = File::open(path).map_err(unreadable).map_err(place)?;
                buffer.clear();
                file.seek(SeekFrom::Start(first)).map_err(unreadable).map_err(place)?;
                read_to(&mut file, due, buffer).map_err(place)?;
                let Some(start) = begins(buffer, piece, cut) else { return Ok("") };
                self.fill(&mut file, first, piece, cut, buffer).map_err(place)?;
                (buffer.as_slice(), start)
            }
        };
        let bytes = bytes.get(start..).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|error| {
            let begins = piece.to.min(piece.from + error.valid_up_to() as u64);
            let message = format!("it is no UTF-8, at about byte {begins}");
            Error::new(Kind::Invalid, message).because(error).at(self.name.clone())
        })
    }

    /// Where the record ends that the last byte of the range belongs to.
    fn end_in_memory(&self, bytes: &[u8], due: usize, piece: &Piece, cut: Cut) -> Result<usize> {
        if piece.to == self.len {
            return Ok(bytes.len());
        }
        let last = due.saturating_sub(1);
        let rest = bytes.get(last..).unwrap_or_default();
        let rest = rest.get(..rest.len().min(LONGEST as usize)).unwrap_or_default();
        match rest.iter().position(|byte| cut.is_end(*byte)) {
            Some(at) => Ok(last + at + 1),
            None if last + rest.len() == bytes.len() => Ok(bytes.len()),
            None => Err(too_long(piece)),
        }
    }

    /// Reads on, to where the record ends that the last byte of the range belongs to.
    fn fill(&self, file: &mut File, first: u64, piece: &Piece, cut: Cut, buffer: &mut Vec<u8>) -> Result {
        let mut due = piece.to - first;
        let (mut looked, most) = (due.saturating_sub(1) as usize, due + LONGEST);
        if piece.to == self.len {
            return Ok(());
        }
        loop {
            let rest = buffer.get(looked..).unwrap_or_default();
            if let Some(at) = rest.iter().position(|byte| cut.is_end(*byte)) {
                buffer.truncate(looked + at + 1);
                return Ok(());
            }
            if first + due == self.len {
                return Ok(());
            }
            if due >= most {
                return Err(too_long(piece));
            }
            looked = buffer.len();
            due = (due + FURTHER).min(self.len - first);
            read_to(file, due, buffer)?;
        }
    }
}

/// Where the first record begins, in a range that has one byte more in front unless it is the first; none where all of it
/// belongs to a record that began before.
fn begins(range: &[u8], piece: &Piece, cut: Cut) -> Option<usize> {
    if piece.from == 0 {
        return Some(0);
    }
    let before = range.iter().position(|byte| cut.is_end(*byte))?;
    (before + 1 < range.len()).then_some(before + 1)
}

/// Reads until the buffer holds this much.
fn read_to(file: &mut File, due: u64, buffer: &mut Vec<u8>) -> Result {
    let more = due - buffer.len() as u64;
    let got = file.take(more).read_to_end(buffer).map_err(unreadable)?;
    if (got as u64) < more {
        return Err(Error::new(Kind::Conflict, "it became shorter while it was read"));
    }
    Ok(())
}

pub(super) fn unreadable(error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::PermissionDenied => Kind::Rejected,
        _ => Kind::Failed,
    };
    Error::new(kind, "it cannot be read").because(error)
}

fn too_long(piece: &Piece) -> Error {
    let message = format!("a record at about byte {} is longer than {} MiB", piece.to, LONGEST >> 20);
    Error::new(Kind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    fn text(bytes: &[u8], from: Source) -> Text {
        Text { name: "text".into(), len: bytes.len() as u64, from }
    }

    /// However it is cut, every record is in one piece, once and in order, from memory and from a file.
    #[test]
    fn pieces_put_together_are_the_text() {
        let mut rng = Seed::new(1).rng();
        let folder = std::env::temp_dir().join(format!("seedpod-pieces-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("text");
        for round in 0..300 {
            let bytes: Vec<u8> = (0..rng.below(200)).map(|_| *rng.choose(b"ab\n \t\x0b").unwrap()).collect();
            std::fs::write(&path, &bytes).unwrap();
            for from in [Source::Memory(bytes.clone().into()), Source::File(path.clone())] {
                let text = text(&bytes, from);
                for cut in [Cut::Lines, Cut::Spaces] {
                    let size = 1 + rng.below(40);
                    let mut buffer = Vec::new();
                    let mut got = String::new();
                    for piece in text.pieces(0, size) {
                        let part = text.read(&piece, cut, &mut buffer).unwrap();
                        let whole = got.is_empty() || got.ends_with(|end: char| cut.is_end(end as u8));
                        assert!(part.is_empty() || whole, "round {round}, pieces of {size}: {got:?} then {part:?}");
                        got.push_str(part);
                    }
                    assert_eq!(got.as_bytes(), bytes, "round {round}, {cut:?}, pieces of {size}");
                }
            }
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_told_by_name_and_place() {
        let mut buffer = Vec::new();
        let bad = b"good\n\xffbad\n";
        let bad = text(bad, Source::Memory(Bytes::from_static(bad)));
        let piece = bad.pieces(0, 100).next().unwrap();
        let error = bad.read(&piece, Cut::Lines, &mut buffer).unwrap_err();
        assert_eq!(error.to_string(), "text: invalid: it is no UTF-8, at about byte 5");
        let gone = Text { name: "gone".into(), len: 3, from: Source::File("/nowhere/at/all".into()) };
        let error = gone.read(&piece, Cut::Lines, &mut buffer).unwrap_err();
        assert_eq!((error.kind(), error.place()), (Kind::NotFound, Some("gone")));
        let long = vec![b'x'; LONGEST as usize + 100];
        let long = text(&long, Source::Memory(long.clone().into()));
        let error = long.read(&long.pieces(0, 10).next().unwrap(), Cut::Lines, &mut buffer).unwrap_err();
        assert_eq!(error.to_string(), "text: invalid: a record at about byte 10 is longer than 16 MiB");
    }
}
