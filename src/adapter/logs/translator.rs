//! Lines in, JSON lines out.

use super::{
    Format,
    joining::{Held, Joining},
    moment::{self, Nanos},
    record::Record,
};
use crate::adapter::{Line, Lines};
use std::{borrow::Cow, time::SystemTime};

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogCounts {
    /// Lines that arrived, empty ones among them.
    pub lines: u64,
    /// Lines with nothing in them, which are passed over.
    pub empty: u64,
    /// Records given out.
    pub records: u64,
    /// Lines that joined the record before: stack traces.
    pub joined: u64,
    /// Records whose line is not of the format: it stands whole in `message`.
    pub not_understood: u64,
    /// Lines that were longer than the bound: the beginning stands in `message`, with a mark of how much is missing.
    pub cut: u64,
    /// Lines with bytes that are no UTF-8: they stand there as `\xNN`.
    pub escaped: u64,
}

impl LogCounts {
    pub(super) fn add(&mut self, more: LogCounts) {
        self.lines += more.lines;
        self.empty += more.empty;
        self.records += more.records;
        self.joined += more.joined;
        self.not_understood += more.not_understood;
        self.cut += more.cut;
        self.escaped += more.escaped;
    }
}

/// Lines of some format in, JSON lines out: `{"time":…,"level":…,"message":…,"fields":{…}}`; pure.
///
/// The time is RFC 3339 in UTC, that of arrival where the line has none; the level one of [`Level`](super::Level), `info` where
/// the line has none; what else the line says is in `fields`, which is not there where it says nothing else.
///
/// # Guarantees
/// - Nothing is lost: each line that is not empty is a record, or is in the `stack` of the one before. One that is not of the
///   format stands whole in `message`, and is counted.
/// - Bounded: of a line [`bytes_max`](Translator::bytes_max) are kept, a record has at most 64 KiB of them and 512 lines; what
///   would be more begins a further record.
///
/// ```
/// use seedpod::adapter::logs::{Format, Translator};
/// let mut translator = Translator::new(Format::access()).bytes_max(100);
/// let mut told = Vec::new();
/// let now = std::time::SystemTime::UNIX_EPOCH;
/// translator.feed(b"server started\n", now, |line| told.push(line.to_owned()));
/// translator.feed(format!("{}\n", "x".repeat(120)).as_bytes(), now, |line| told.push(line.to_owned()));
/// assert!(told[0].contains(r#""message":"server started""#));
/// assert!(told[1].contains(r#"x… [20 bytes cut]""#));
/// assert_eq!((translator.counts().not_understood, translator.counts().cut), (2, 1));
/// ```
#[derive(Clone, Debug)]
pub struct Translator {
    format: Format,
    joining: Joining,
    lines: Lines,
    held: Option<Held>,
    counts: LogCounts,
}

impl Translator {
    /// For lines of this format, each a record by itself.
    pub fn new(format: Format) -> Self {
        Translator {
            format,
            joining: Joining::Never,
            lines: Lines::default(),
            held: None,
            counts: LogCounts::default(),
        }
    }

    /// Keeps at most this many bytes of a line. Default: [`Lines::BYTES_MAX`].
    #[must_use]
    pub fn bytes_max(self, bytes: usize) -> Self {
        Translator { lines: Lines::new(bytes), ..self }
    }

    /// Takes what looks like the lines of a stack trace (Java, Python, Go, Rust, JavaScript: indented lines, `Caused by:`,
    /// `Traceback` and what ends it, …) into the field `stack` of the record before.
    ///
    /// A record is given out when the next one begins, or at [`flush`](Translator::flush).
    #[must_use]
    pub fn join_traces(self) -> Self {
        Translator { joining: Joining::Traces, ..self }
    }

    /// Takes every line for which this is false into the field `stack` of the record before.
    #[must_use]
    pub fn join_unless(self, begins: fn(&str) -> bool) -> Self {
        Translator { joining: Joining::Unless(begins), ..self }
    }

    /// What became of the lines so far.
    pub fn counts(&self) -> LogCounts {
        self.counts
    }

    /// The same, and begins anew.
    pub(super) fn take_counts(&mut self) -> LogCounts {
        std::mem::take(&mut self.counts)
    }

    /// Whether a record waits for further lines of its own.
    pub fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// Takes bytes in, however they are cut, and gives out a JSON line for each record that is complete.
    pub fn feed(&mut self, bytes: &[u8], now: SystemTime, mut take: impl FnMut(&str)) {
        let now = moment::of(now);
        let mut lines = std::mem::take(&mut self.lines); // what takes the lines needs all the rest
        lines.feed(bytes, |line| self.line(line, now, &mut take));
        self.lines = lines;
    }

    /// No more lines of the record that waits will come: gives it out.
    pub fn flush(&mut self, mut take: impl FnMut(&str)) {
        if let Some(held) = self.held.take() {
            self.give(held, &mut take);
        }
    }

    /// No more bytes come: gives out the line that has no end, and what waits.
    pub fn finish(&mut self, now: SystemTime, mut take: impl FnMut(&str)) {
        let now = moment::of(now);
        let mut lines = std::mem::take(&mut self.lines);
        lines.finish(|line| self.line(line, now, &mut take));
        self.lines = lines;
        self.flush(take);
    }

    fn line(&mut self, line: Line<'_>, now: Nanos, take: &mut impl FnMut(&str)) {
        self.counts.lines += 1;
        if line.bytes.is_empty() && line.cut == 0 {
            self.counts.empty += 1;
            return;
        }
        let text = self.decode(line.bytes);
        self.counts.cut += u64::from(line.cut > 0);
        let text = match line.cut {
            0 => text,
            cut => format!("{text}… [{cut} bytes cut]").into(),
        };
        if self.held.as_mut().is_some_and(|held| held.takes(&self.joining, &text)) {
            self.counts.joined += 1;
            return;
        }
        self.flush(&mut *take);
        let held = Held::new(text.into_owned(), line.cut > 0, now);
        match self.joining {
            Joining::Never => self.give(held, take),
            _ => self.held = Some(held),
        }
    }

    /// As text; bytes that are none stand there as `\xNN`.
    fn decode<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, str> {
        use std::fmt::Write;
        if let Ok(text) = std::str::from_utf8(bytes) {
            return text.into();
        }
        self.counts.escaped += 1;
        let mut out = String::with_capacity(bytes.len() + 16);
        for chunk in bytes.utf8_chunks() {
            out.push_str(chunk.valid());
            for byte in chunk.invalid() {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
        out.into()
    }

    fn give(&mut self, held: Held, take: &mut impl FnMut(&str)) {
        // of what was cut, half a pair or half a document is all that could be read
        let read = if held.cut { None } else { self.format.read(&held.first, held.arrived) };
        let mut record = read.unwrap_or_else(|| {
            self.counts.not_understood += 1;
            Record { message: held.first, ..Record::default() }
        });
        if !held.rest.is_empty() {
            record.add("stack", super::record::Field::Text(held.rest));
        }
        self.counts.records += 1;
        let mut out = String::with_capacity(128 + record.message.len());
        record.write(&mut out, held.arrived);
        take(&out);
    }
}
