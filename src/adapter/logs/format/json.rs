//! JSON with other names.

use crate::adapter::{
    json::{self, Members},
    logs::{
        moment,
        record::{FIELDS_MAX, Field, Level, Record},
    },
};

/// The names under which time, level and message stand.
#[derive(Debug)]
pub(super) struct Names {
    time: Vec<String>,
    level: Vec<String>,
    message: Vec<String>,
}

const TIME: [&str; 7] = ["time", "timestamp", "@timestamp", "ts", "t", "date", "datetime"];
const LEVEL: [&str; 5] = ["level", "severity", "lvl", "log.level", "loglevel"];
const MESSAGE: [&str; 5] = ["message", "msg", "text", "event", "log"];

impl Names {
    /// These before those that are known.
    pub(super) fn first([time, level, message]: [&str; 3]) -> Self {
        let list = |first: &str, known: &[&str]| {
            let own = Some(first).filter(|first| !first.is_empty());
            own.iter().chain(known).map(|name| (*name).to_owned()).collect()
        };
        Names { time: list(time, &TIME), level: list(level, &LEVEL), message: list(message, &MESSAGE) }
    }
}

impl Default for Names {
    fn default() -> Self {
        Names::first(["", "", ""])
    }
}

pub(super) fn read(line: &str, names: &Names) -> Option<Record> {
    if !line.trim_start().starts_with('{') {
        return None;
    }
    let Ok(json::Value::Object(Members(mut members))) = json::open(json::document(line.as_bytes()).ok()?) else {
        return None;
    };
    if members.len() > FIELDS_MAX {
        return None;
    }
    let mut record = Record::default();
    // the first name that is there and says something that can be read; what cannot stays a field
    let mut take = |names: &[String], reads: &mut dyn FnMut(&str) -> bool| {
        for name in names {
            let Some(at) = members.iter().position(|(member, _)| member == name) else { continue };
            let text = members.get(at).and_then(|(_, value)| match json::open(value).ok()? {
                json::Value::Text(text) => Some(text),
                json::Value::Number(text) => Some(text.to_owned()),
                _ => None,
            });
            if text.is_some_and(|text| reads(&text)) {
                members.remove(at);
                return;
            }
        }
    };
    take(&names.time, &mut |text| {
        let whole = moment::rfc3339(text).filter(|(_, rest)| rest.is_empty()).map(|(time, _)| time);
        record.time = whole.or_else(|| moment::epoch(text));
        record.time.is_some()
    });
    take(&names.level, &mut |text| {
        record.level = Level::read(text);
        record.level.is_some()
    });
    let mut told = false;
    take(&names.message, &mut |text| {
        // container engines leave the line's end in it
        record.message = text.strip_suffix('\n').unwrap_or(text).to_owned();
        told = true;
        true
    });
    if !told {
        line.clone_into(&mut record.message);
    }
    for (name, value) in members {
        record.add(&name, field(value.get()));
    }
    Some(record)
}

/// As it was written, where every reader can hold it. JSON's grammar allows numbers beyond all numbers and halves of characters;
/// one such field must not make the whole line unreadable to whoever comes next, so it is a text there.
fn field(text: &str) -> Field {
    let held = match text.as_bytes().first() {
        Some(b'"') => !text.contains("\\u") || serde_json::from_str::<String>(text).is_ok(),
        Some(b'{' | b'[') => serde_json::from_str::<serde_json::Value>(text).is_ok(),
        Some(b't' | b'f' | b'n') => true,
        _ => text.parse().is_ok_and(f64::is_finite),
    };
    if held { Field::Json(text.to_owned()) } else { Field::Text(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str, names: &Names) -> String {
        let Some(record) = read(line, names) else { return "not understood".into() };
        let mut out = String::new();
        record.write(&mut out, 0);
        out.replace("\"time\":\"1970-01-01T00:00:00.000Z\",", "")
    }

    #[test]
    fn other_names_and_nothing_lost() {
        let known = Names::default();
        for (line, record) in [
            (
                r#"{"ts":1700000000.5,"lvl":50,"msg":"a\u0000b","n":1.10,"o":{"x":[1e400]},"n":2}"#,
                r#"{"time":"2023-11-14T22:13:20.500Z","level":"error","message":"a\u0000b","fields":{"n":1.10,"o":"{\"x\":[1e400]}","n_2":2}}"#,
            ),
            (
                r#"{"time":"soon","level":"audit","message":["x"],"msg":"y"}"#,
                r#"{"level":"info","message":"y","fields":{"time":"soon","level":"audit","message":["x"]}}"#,
            ),
            (
                r#"{"log":"out\n","stream":"stdout"}"#,
                r#"{"level":"info","message":"out","fields":{"stream":"stdout"}}"#,
            ),
            (
                r#"{"msg":"x","a":"\ud800","b":[1, "é"],"c":1e400}"#,
                r#"{"level":"info","message":"x","fields":{"a":"\"\\ud800\"","b":[1, "é"],"c":"1e400"}}"#,
            ),
            (r#"{"a":1}"#, r#"{"level":"info","message":"{\"a\":1}","fields":{"a":1}}"#),
            ("[1]", "not understood"),
            ("{\"a\":1} x", "not understood"),
            ("{\"a\":", "not understood"),
            ("text", "not understood"),
        ] {
            assert_eq!(told(line, &known), record, "{line}");
        }
        let own = Names::first(["when", "", "what"]);
        assert_eq!(
            told(r#"{"when":"2024-05-01 00:00:00","what":"up","msg":"z"}"#, &own),
            r#"{"time":"2024-05-01T00:00:00.000Z","level":"info","message":"up","fields":{"msg":"z"}}"#
        );
    }
}
