//! Syslog, by RFC 5424 and by RFC 3164.

use crate::adapter::logs::{
    moment::{self, Nanos},
    record::{FIELDS_MAX, Field, Level, Record},
};

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const SEVERITIES: [(&str, Level); 8] = [
    ("emerg", Level::Fatal),
    ("alert", Level::Fatal),
    ("crit", Level::Fatal),
    ("err", Level::Error),
    ("warning", Level::Warn),
    ("notice", Level::Info),
    ("info", Level::Info),
    ("debug", Level::Debug),
];

pub(super) fn read(line: &str, now: Nanos) -> Option<Record> {
    let (number, rest) = line.strip_prefix('<')?.split_once('>')?;
    let plain = number.len() <= 3 && number.bytes().all(|byte| byte.is_ascii_digit());
    let priority: usize = number.parse().ok().filter(|_| plain && (number == "0" || !number.starts_with('0')))?;
    let facility = FACILITIES.get(priority / 8)?;
    let (severity, level) = SEVERITIES.get(priority % 8)?;
    let mut record = Record { level: Some(*level), ..Record::default() };
    record.text("facility", facility);
    record.text("severity", severity);
    match rest.strip_prefix("1 ") {
        Some(rest) => modern(&mut record, rest)?,
        None => old(&mut record, rest, now),
    }
    Some(record)
}

/// `TIME HOST APP PROCESS MESSAGE-ID DATA TEXT`
fn modern(record: &mut Record, rest: &str) -> Option<()> {
    let mut rest = rest;
    let mut word = || {
        let (word, after) = rest.split_once(' ')?;
        rest = after;
        Some(word)
    };
    let time = word()?;
    record.time = match time {
        "-" => None,
        time => Some(moment::rfc3339(time).filter(|(_, rest)| rest.is_empty())?.0),
    };
    for name in ["host", "app", "pid", "msgid"] {
        record.text(name, word()?);
    }
    let text = match rest.strip_prefix('-') {
        Some(text) => text,
        None => data(record, rest)?,
    };
    let text = if text.is_empty() { text } else { text.strip_prefix(' ')? };
    text.strip_prefix('\u{feff}').unwrap_or(text).clone_into(&mut record.message);
    Some(())
}

/// `[id name="value" …]…`, as fields `id.name`; what stands behind it.
fn data<'a>(record: &mut Record, mut rest: &'a str) -> Option<&'a str> {
    if !rest.starts_with('[') {
        return None;
    }
    while let Some(element) = rest.strip_prefix('[') {
        let end = element.find([' ', ']'])?;
        let (id, after) = element.split_at_checked(end)?;
        if id.is_empty() || id.contains(['"', '=']) {
            return None;
        }
        rest = after;
        while let Some(pair) = rest.strip_prefix(' ') {
            let (name, value) = pair.split_once("=\"")?;
            if name.is_empty() || name.contains([' ', '"', ']', '=']) || record.fields.len() >= FIELDS_MAX {
                return None;
            }
            let (value, after) = parameter(value)?;
            record.add(&format!("{id}.{name}"), Field::Text(value));
            rest = after;
        }
        rest = rest.strip_prefix(']')?;
    }
    Some(rest)
}

/// In the value of a parameter `"`, `\` and `]` are escaped, and nothing else.
fn parameter(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((out, text.get(at + 1..)?)),
            ']' => return None,
            '\\' => match letters.next()?.1 {
                same @ ('"' | '\\' | ']') => out.push(same),
                other => out.extend(['\\', other]),
            },
            letter => out.push(letter),
        }
    }
    None
}

/// `Oct 11 22:14:15 host tag[pid]: text`; where that is not so, all of it is the text, as the RFC wants.
fn old(record: &mut Record, rest: &str, now: Nanos) {
    let parts = moment::syslog(rest, now).and_then(|(time, rest)| {
        let (host, text) = rest.strip_prefix(' ')?.split_once(' ')?;
        Some((time, host, text))
    });
    let Some((time, host, text)) = parts else {
        rest.clone_into(&mut record.message);
        return;
    };
    record.time = Some(time);
    record.text("host", host);
    let tag = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    let end = text.find(|letter| !tag(letter)).unwrap_or(text.len());
    let (app, after) = text.split_at_checked(end).unwrap_or((text, ""));
    let (pid, after) = match after.strip_prefix('[').and_then(|after| after.split_once(']')) {
        Some((pid, after)) => (pid, after),
        None => ("", after),
    };
    match after.strip_prefix(':').filter(|_| !app.is_empty()) {
        Some(text) => {
            record.text("app", app);
            record.text("pid", pid);
            text.trim_start_matches(' ').clone_into(&mut record.message);
        }
        None => text.clone_into(&mut record.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        let now = moment::rfc3339("2024-01-01T00:00:00Z").unwrap().0;
        let Some(record) = read(line, now) else { return "not understood".into() };
        let mut out = String::new();
        record.write(&mut out, now);
        out
    }

    #[test]
    fn both_forms() {
        for (line, record) in [
            (
                "<34>Oct 11 22:14:15 mymachine su[77]: 'su root' failed",
                r#"{"time":"2023-10-11T22:14:15.000Z","level":"fatal","message":"'su root' failed","fields":{"facility":"auth","severity":"crit","host":"mymachine","app":"su","pid":"77"}}"#,
            ),
            (
                "<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!",
                r#"{"time":"2023-02-05T17:32:18.000Z","level":"info","message":"Use the BFG!","fields":{"facility":"user","severity":"notice","host":"10.0.0.99"}}"#,
            ),
            (
                "<0>no header at all",
                r#"{"time":"2024-01-01T00:00:00.000Z","level":"fatal","message":"no header at all","fields":{"facility":"kern","severity":"emerg"}}"#,
            ),
            (
                r#"<165>1 2003-10-11T22:14:15.003Z host app - ID47 [ex@1 a="1\]\"" b="\n"][x@2] "#,
                r#"{"time":"2003-10-11T22:14:15.003Z","level":"info","message":"","fields":{"facility":"local4","severity":"notice","host":"host","app":"app","msgid":"ID47","ex@1.a":"1]\"","ex@1.b":"\\n"}}"#,
            ),
            (
                "<14>1 - - - - - - \u{feff}bom",
                r#"{"time":"2024-01-01T00:00:00.000Z","level":"info","message":"bom","fields":{"facility":"user","severity":"info"}}"#,
            ),
        ] {
            assert_eq!(told(line), record, "{line}");
        }
        for wrong in [
            "",
            "<",
            "<>x",
            "<192>x",
            "<034>x",
            "<1x>x",
            "<14>1 yesterday - - - - -",
            "<14>1 - - -",
            "<14>1 - - - - - x",
            "<14>1 - - - - - [",
            "<14>1 - - - - - [a b]",
            "<14>1 - - - - - [a b=\"c]\"]",
            "<14>1 - - - - - [a]x",
        ] {
            assert_eq!(told(wrong), "not understood", "{wrong}");
        }
    }
}
