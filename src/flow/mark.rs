//! What is said of a batch that is sent bit by bit: marks, which travel through the source with the items.

use super::lineage::Share;
use crate::queue::{Headers, Id};

/// Under which a mark stands in the headers.
const HEADER: &str = "flow-batch";

/// What a message is to a batch that is sent bit by bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The batch begins.
    Opens(Id),
    /// These items are of it, and weigh so much together.
    Adds(Share),
    /// There will be no more, and this is what is left of its weight.
    Closes(Share),
}

impl Mark {
    pub(super) fn write(self, headers: &mut Headers) {
        let (word, share) = match self {
            Mark::Opens(batch) => ("opens", Share::none(batch)),
            Mark::Adds(share) => ("adds", share),
            Mark::Closes(share) => ("closes", share),
        };
        headers.insert(HEADER, format!("{word} {} {:016x}", share.batch, share.weight));
    }

    /// What stands in these headers; none where it is no mark.
    pub(super) fn read(headers: &Headers) -> Option<Mark> {
        let mut words = headers.get(HEADER)?.split(' ');
        let (word, batch, weight) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
        let share = Share { batch, weight: u64::from_str_radix(weight, 16).ok()? };
        match word {
            "opens" => Some(Mark::Opens(batch)),
            "adds" => Some(Mark::Adds(share)),
            "closes" => Some(Mark::Closes(share)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        let share = Share { batch: Id::of("album"), weight: 0xF00D };
        for mark in [Mark::Opens(share.batch), Mark::Adds(share), Mark::Closes(share)] {
            let mut headers = Headers::default();
            mark.write(&mut headers);
            assert_eq!(Mark::read(&headers), Some(mark));
        }
        assert_eq!(Mark::read(&Headers::default()), None);
        for bad in ["", "opens", "adds x 0", "adds 00 00", "sees 00000000000000000000000000000000 00"] {
            let mut headers = Headers::default();
            headers.insert(HEADER, bad);
            assert_eq!(Mark::read(&headers), None, "{bad}");
        }
    }
}
