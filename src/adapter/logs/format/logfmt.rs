//! Keys and values.

use crate::adapter::logs::{
    moment,
    record::{FIELDS_MAX, Field, Level, Record},
};

pub(super) fn read(line: &str) -> Option<Record> {
    let mut record = Record::default();
    let mut message = None;
    let mut words: Vec<&str> = Vec::new();
    let mut pairs = 0;
    let mut rest = line.trim();
    while !rest.is_empty() {
        let end = rest.find([' ', '\t', '=', '"']).unwrap_or(rest.len());
        let (key, after) = rest.split_at_checked(end)?;
        if key.is_empty() || after.starts_with('"') {
            return None;
        }
        let Some(after) = after.strip_prefix('=') else {
            match pairs {
                0 => words.push(key),
                _ => record.add(key, Field::Json("true".into())),
            }
            rest = after.trim_start();
            continue;
        };
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find([' ', '\t', '"']).unwrap_or(after.len());
                let (value, after) = after.split_at_checked(end)?;
                (value.to_owned(), after)
            }
        };
        if !(after.is_empty() || after.starts_with([' ', '\t'])) || record.fields.len() >= FIELDS_MAX {
            return None;
        }
        rest = after.trim_start();
        pairs += 1;
        let time = || moment::rfc3339(&value).map(|(time, _)| time).or_else(|| moment::epoch(&value));
        match key {
            "time" | "ts" | "t" | "timestamp" if record.time.is_none() && time().is_some() => record.time = time(),
            "level" | "lvl" | "severity" if record.level.is_none() && Level::read(&value).is_some() => {
                record.level = Level::read(&value);
            }
            "msg" | "message" if message.is_none() => message = Some(value),
            _ => record.value(key, value),
        }
    }
    if pairs == 0 {
        return None;
    }
    record.message = match message {
        Some(message) => {
            words.iter().for_each(|word| record.add(word, Field::Json("true".into())));
            message
        }
        None if words.is_empty() => line.trim().to_owned(),
        None => words.join(" "),
    };
    Some(record)
}

/// A quoted text up to its end, and what stands behind it. Escapes are those of JSON and Go that matter: a backslash keeps
/// what it does not know.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((out, text.get(at + 1..)?)),
            '\\' => match letters.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                same @ ('"' | '\\') => out.push(same),
                other => out.extend(['\\', other]),
            },
            letter => out.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        let Some(record) = read(line) else { return "not understood".into() };
        let mut out = String::new();
        record.write(&mut out, 0);
        out.replace("\"time\":\"1970-01-01T00:00:00.000Z\",", "")
    }

    #[test]
    fn keys_and_values() {
        for (line, record) in [
            (
                r#"ts=2024-05-01T12:00:00.5Z level=WARNING msg="a \"b\"\n\d" n=1.5 ok x= id=007"#,
                r#"{"time":"2024-05-01T12:00:00.500Z","level":"warn","message":"a \"b\"\n\\d","fields":{"n":1.5,"ok":true,"x":"","id":"007"}}"#,
            ),
            (
                "connection failed err=timeout err=again",
                r#"{"level":"info","message":"connection failed","fields":{"err":"timeout","err_2":"again"}}"#,
            ),
            (
                "at=info path=/a=b",
                r#"{"level":"info","message":"at=info path=/a=b","fields":{"at":"info","path":"/a=b"}}"#,
            ),
            (
                "level=audit time=soon msg=x",
                r#"{"level":"info","message":"x","fields":{"level":"audit","time":"soon"}}"#,
            ),
            ("just words", "not understood"),
            ("a=\"b", "not understood"),
            ("a=\"b\"c", "not understood"),
            ("=b", "not understood"),
            ("a=b\"c", "not understood"),
            ("", "not understood"),
        ] {
            assert_eq!(told(line), record, "{line}");
        }
    }
}
