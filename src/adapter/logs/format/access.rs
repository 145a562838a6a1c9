//! The Common and the Combined log format of web servers.

use crate::adapter::logs::{
    moment,
    record::{Field, Level, Record},
};

/// `client ident user [time] "request" status bytes`, and perhaps `"referer" "agent"`.
pub(super) fn read(line: &str) -> Option<Record> {
    let mut record = Record::default();
    let (client, rest) = line.split_once(' ')?;
    let (ident, rest) = rest.split_once(' ')?;
    // a user's name may have blanks in it
    let (user, rest) = rest.split_once(" [")?;
    let (time, rest) = rest.split_once("] ")?;
    record.time = Some(moment::access(time)?);
    let (request, rest) = quoted(rest)?;
    let (status, after) = word(rest.strip_prefix(' ')?);
    let (bytes, after) = word(after?);
    let code: u16 = status.parse().ok().filter(|code| (100..1000).contains(code) && status.len() == 3)?;
    if bytes != "-" && (bytes.is_empty() || !bytes.bytes().all(|byte| byte.is_ascii_digit())) {
        return None;
    }
    record.level = Some(match code {
        500.. => Level::Error,
        400.. => Level::Warn,
        _ => Level::Info,
    });
    record.message = format!("{request} {code}");
    for (name, text) in [("client", client), ("ident", ident), ("user", user)] {
        record.text(name, text);
    }
    match request.split(' ').collect::<Vec<_>>()[..] {
        [method, path, protocol] => {
            record.text("method", method);
            record.text("path", path);
            record.text("protocol", protocol);
        }
        _ => record.text("request", &request),
    }
    record.add("status", Field::Json(status.to_owned()));
    if bytes != "-" {
        record.value("bytes", bytes.to_owned());
    }
    if let Some(after) = after {
        let (referer, after) = quoted(after)?;
        let (agent, after) = quoted(after.strip_prefix(' ')?)?;
        if !after.is_empty() {
            return None;
        }
        record.text("referer", &referer);
        record.text("agent", &agent);
    }
    Some(record)
}

fn word(text: &str) -> (&str, Option<&str>) {
    text.split_once(' ').map_or((text, None), |(word, rest)| (word, Some(rest)))
}

/// A quoted text, and what stands behind it. Servers escape quotes and backslashes; other escapes stay as they are.
fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let mut out = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((out, text.get(at + 1..)?)),
            '\\' => match letters.next()?.1 {
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
        out
    }

    #[test]
    fn common_and_combined() {
        assert_eq!(
            told(r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif HTTP/1.0" 200 2326"#),
            r#"{"time":"2000-10-10T20:55:36.000Z","level":"info","message":"GET /a.gif HTTP/1.0 200","fields":{"client":"127.0.0.1","user":"frank","method":"GET","path":"/a.gif","protocol":"HTTP/1.0","status":200,"bytes":2326}}"#
        );
        assert_eq!(
            told(r#"::1 id john doe [10/Oct/2000:13:55:36 +0000] "\x16\x03 \"" 503 - "-" "Mozilla \\ x""#),
            r#"{"time":"2000-10-10T13:55:36.000Z","level":"error","message":"\\x16\\x03 \" 503","fields":{"client":"::1","ident":"id","user":"john doe","request":"\\x16\\x03 \"","status":503,"agent":"Mozilla \\ x"}}"#
        );
        for wrong in [
            "",
            "hello",
            r#"a b c [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200"#,
            r#"a b c [10/Oct/2000:13:55:36] "GET / HTTP/1.0" 200 1"#,
            r#"a b c [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0 200 1"#,
            r#"a b c [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 20 1"#,
            r#"a b c [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 x"#,
            r#"a b c [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1 "x" "y" "z""#,
            r#"a b c [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1 x"#,
        ] {
            assert_eq!(told(wrong), "not understood", "{wrong}");
        }
    }
}
