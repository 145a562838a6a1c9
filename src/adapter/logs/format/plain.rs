//! Any text, perhaps with a time and a level before it.

use crate::adapter::logs::{
    moment,
    record::{Level, Record},
};

pub(super) fn read(line: &str) -> Record {
    let (time, rest) = match moment::rfc3339(line) {
        // what goes on without a blank is no time, but a part of something longer
        Some((time, rest)) if rest.is_empty() || rest.starts_with([' ', '\t', ':']) => {
            (Some(time), rest.trim_start_matches([' ', '\t', ':']))
        }
        _ => (None, line),
    };
    let (level, message) = level(rest).map_or((None, rest), |(level, rest)| (Some(level), rest));
    Record { time, level, message: message.to_owned(), fields: Vec::new() }
}

/// `[WARN] …`, `WARN: …`, `WARN …`: in capitals where nothing is around it, since "Error" begins sentences, too.
fn level(text: &str) -> Option<(Level, &str)> {
    if let Some((word, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return Some((long(word.trim())?, rest.trim_start_matches([':', ' '])));
    }
    let end = text.find([' ', ':']).unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end)?;
    let capitals = word.bytes().all(|byte| byte.is_ascii_uppercase());
    if capitals { Some((long(word)?, rest.trim_start_matches([':', ' ']))) } else { None }
}

/// A single letter or a number is a level in a field, not in a text.
fn long(word: &str) -> Option<Level> {
    if word.len() > 2 { Level::read(word) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_levels_are_read_where_they_are_meant() {
        for (line, level, message, timed) in [
            ("2024-05-01 12:00:00,123 [WARN] disk is slow", Some(Level::Warn), "disk is slow", true),
            ("2024-05-01T12:00:00Z ERROR: no", Some(Level::Error), "no", true),
            ("[error] [client ::1] File does not exist", Some(Level::Error), "[client ::1] File does not exist", false),
            ("INFO up", Some(Level::Info), "up", false),
            ("Error is human", None, "Error is human", false),
            ("A day", None, "A day", false),
            ("2024-05-01T12:00:00Zulu", None, "2024-05-01T12:00:00Zulu", false),
            ("[7] x", None, "[7] x", false),
            ("", None, "", false),
        ] {
            let record = read(line);
            assert_eq!((record.level, &*record.message, record.time.is_some()), (level, message, timed), "{line}");
        }
    }
}
