//! One record, as all logs have it in the end.

use super::moment::{self, Nanos};
use crate::adapter::json;
use std::fmt;

/// How grave it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Finer than debug.
    Trace,
    /// For developers.
    Debug,
    /// As it should be; also where nothing is said.
    Info,
    /// Worth a look.
    Warn,
    /// Something failed.
    Error,
    /// Nothing goes on.
    Fatal,
}

impl Level {
    /// As it stands in a record.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Fatal => "fatal",
        }
    }

    /// What a word, a letter or a number (as bunyan and pino have them: 30 is info) says.
    ///
    /// ```
    /// use seedpod::adapter::logs::Level;
    /// assert_eq!(Level::read("WARNING"), Some(Level::Warn));
    /// assert_eq!(Level::read("audit"), None);
    /// ```
    pub fn read(text: &str) -> Option<Level> {
        const WORDS: [(&str, Level); 31] = [
            ("trace", Level::Trace),
            ("finest", Level::Trace),
            ("t", Level::Trace),
            ("10", Level::Trace),
            ("debug", Level::Debug),
            ("fine", Level::Debug),
            ("d", Level::Debug),
            ("20", Level::Debug),
            ("info", Level::Info),
            ("information", Level::Info),
            ("informational", Level::Info),
            ("notice", Level::Info),
            ("i", Level::Info),
            ("30", Level::Info),
            ("warn", Level::Warn),
            ("warning", Level::Warn),
            ("w", Level::Warn),
            ("40", Level::Warn),
            ("error", Level::Error),
            ("err", Level::Error),
            ("severe", Level::Error),
            ("e", Level::Error),
            ("50", Level::Error),
            ("fatal", Level::Fatal),
            ("critical", Level::Fatal),
            ("crit", Level::Fatal),
            ("alert", Level::Fatal),
            ("emerg", Level::Fatal),
            ("panic", Level::Fatal),
            ("f", Level::Fatal),
            ("60", Level::Fatal),
        ];
        WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, level)| *level)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a line says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Record {
    pub(super) time: Option<Nanos>,
    pub(super) level: Option<Level>,
    pub(super) message: String,
    pub(super) fields: Vec<(String, Field)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Field {
    Text(String),
    /// JSON, as it was written.
    Json(String),
}

/// How many fields a record may have; a line with more is not understood.
pub(super) const FIELDS_MAX: usize = 256;

impl Record {
    /// Adds a text; none where it says nothing (`-` in many formats).
    pub(super) fn text(&mut self, name: &str, text: &str) {
        if !text.is_empty() && text != "-" {
            self.add(name, Field::Text(text.to_owned()));
        }
    }

    /// Adds a value: a number where it is one in JSON, too, else a text.
    pub(super) fn value(&mut self, name: &str, text: String) {
        let field = if is_number(&text) { Field::Json(text) } else { Field::Text(text) };
        self.add(name, field);
    }

    /// Adds a field. Where there is one of this name the new one is numbered: nothing is lost.
    pub(super) fn add(&mut self, name: &str, field: Field) {
        let taken = |name: &str| self.fields.iter().any(|(known, _)| known == name);
        let mut own = name.to_owned();
        let mut number = 1;
        while taken(&own) {
            number += 1;
            own = format!("{name}_{number}");
        }
        self.fields.push((own, field));
    }

    /// Appends it as one line of JSON, without a line end.
    pub(super) fn write(&self, out: &mut String, now: Nanos) {
        out.push_str("{\"time\":\"");
        moment::write(out, self.time.unwrap_or(now));
        out.push_str("\",\"level\":\"");
        out.push_str(self.level.unwrap_or(Level::Info).as_str());
        out.push_str("\",\"message\":");
        json::quote(out, &self.message);
        for (index, (name, field)) in self.fields.iter().enumerate() {
            out.push_str(if index == 0 { ",\"fields\":{" } else { "," });
            json::quote(out, name);
            out.push(':');
            match field {
                Field::Text(text) => json::quote(out, text),
                Field::Json(text) => out.push_str(text),
            }
        }
        out.push_str(if self.fields.is_empty() { "}" } else { "}}" });
    }
}

/// Whether JSON has it as a number that every reader can hold.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    let leading = whole > 1 && digits.starts_with('0');
    // longer ones are identifiers more often than numbers, and many readers would round them
    if whole == 0 || leading || text.len() > 15 {
        return false;
    }
    match digits.get(whole..) {
        Some("") => true,
        Some(rest) => rest
            .strip_prefix('.')
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit())),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_whatever_is_in_it() {
        let mut record = Record { message: "a\n\"b\"\u{1}".into(), ..Record::default() };
        record.value("n", "-1.5".into());
        record.value("n", "007".into());
        record.text("empty", "-");
        record.add("raw", Field::Json("[1]".into()));
        let mut out = String::new();
        record.write(&mut out, 1);
        assert_eq!(
            out,
            r#"{"time":"1970-01-01T00:00:00.000000001Z","level":"info","message":"a\n\"b\"\u0001","fields":{"n":-1.5,"n_2":"007","raw":[1]}}"#
        );
    }

    #[test]
    fn numbers_are_those_of_json() {
        for text in ["0", "-0", "12", "0.5", "-1.25"] {
            assert!(is_number(text) && serde_json::from_str::<f64>(text).is_ok(), "{text}");
        }
        for text in ["", "-", "01", "1.", ".5", "+1", "1e5", "0x1", "12345678901234567", "1.2.3", "１"] {
            assert!(!is_number(text), "{text}");
        }
    }
}
