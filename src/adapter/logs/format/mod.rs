//! What the application's lines look like.

mod access;
mod json;
mod logfmt;
mod plain;
mod syslog;

use super::{moment::Nanos, record::Record};
use std::sync::Arc;

/// What the application's lines look like.
///
/// ```
/// use seedpod::adapter::logs::{Format, Translator};
/// let mut translator = Translator::new(Format::any([Format::json(), Format::logfmt(), Format::plain()]));
/// let mut told = Vec::new();
/// let now = std::time::SystemTime::UNIX_EPOCH;
/// translator.feed(b"{\"ts\":1700000000,\"msg\":\"up\"}\nlevel=warn msg=\"slow\" ms=130\nbye\n", now, |line| told.push(line.to_owned()));
/// assert_eq!(told, [
///     r#"{"time":"2023-11-14T22:13:20.000Z","level":"info","message":"up"}"#,
///     r#"{"time":"1970-01-01T00:00:00.000Z","level":"warn","message":"slow","fields":{"ms":130}}"#,
///     r#"{"time":"1970-01-01T00:00:00.000Z","level":"info","message":"bye"}"#,
/// ]);
/// ```
#[derive(Clone, Debug)]
pub struct Format(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Plain,
    Logfmt,
    Access,
    Syslog,
    Json(Arc<json::Names>),
    Any(Arc<[Format]>),
}

impl Format {
    /// Any text. A time at its beginning (RFC 3339, or near to it) and a level behind that, alone or in brackets, are read as
    /// such: `2024-05-01 12:00:00,123 [WARN] disk is slow`. Every line is understood.
    pub fn plain() -> Self {
        Format(Kind::Plain)
    }

    /// `level=info msg="order stored" id=7`. The keys `time`, `ts`, `t`, `timestamp`; `level`, `lvl`, `severity`; `msg`,
    /// `message` have their meaning, all others are fields. Words before the first pair are the message, where none is told;
    /// else the whole line is. A line without a pair is not understood.
    pub fn logfmt() -> Self {
        Format(Kind::Logfmt)
    }

    /// The Common and the Combined log format of web servers. The level follows the status: from 500 on an error, from 400 on
    /// a warning.
    pub fn access() -> Self {
        Format(Kind::Access)
    }

    /// Syslog: RFC 5424 with its structured data, and RFC 3164, whose times have neither year nor zone: the nearest year, UTC.
    pub fn syslog() -> Self {
        Format(Kind::Syslog)
    }

    /// JSON objects with other names: `time`, `timestamp`, `@timestamp`, `ts`, `t`, `date`; `level`, `severity`, `lvl`,
    /// `log.level`; `message`, `msg`, `text`, `event`, `log`. Of each the first that is there counts; all else are fields, to
    /// the last digit (what not every reader of JSON can hold, such as `1e400`, as a text). Times are RFC 3339 or numbers since 1970.
    pub fn json() -> Self {
        Format(Kind::Json(Arc::default()))
    }

    /// JSON objects with these names, before those that [`json`](Format::json) knows; an empty one names nothing.
    pub fn json_named(time: &str, level: &str, message: &str) -> Self {
        Format(Kind::Json(json::Names::first([time, level, message]).into()))
    }

    /// The first of these that understands a line.
    pub fn any(formats: impl IntoIterator<Item = Format>) -> Self {
        Format(Kind::Any(formats.into_iter().collect()))
    }

    /// What the line says; none where it is not of this format.
    pub(super) fn read(&self, line: &str, now: Nanos) -> Option<Record> {
        match &self.0 {
            Kind::Plain => Some(plain::read(line)),
            Kind::Logfmt => logfmt::read(line),
            Kind::Access => access::read(line),
            Kind::Syslog => syslog::read(line, now),
            Kind::Json(names) => json::read(line, names),
            Kind::Any(formats) => formats.iter().find_map(|format| format.read(line, now)),
        }
    }
}
