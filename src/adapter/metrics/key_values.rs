//! Metrics in lines of names and numbers.

use super::{
    Dropped, Registry, Shape,
    registry::{Reading, Value},
};
use crate::adapter::{Line, Lines};

pub(super) fn read(shape: &Shape, registry: &mut Registry, reading: Reading, bytes: &[u8]) {
    let mut lines = Lines::default();
    let mut take = |line: Line<'_>| {
        if let Err(reason) = one(shape, registry, reading, line) {
            registry.drop(reason);
        }
    };
    lines.feed(bytes, &mut take);
    lines.finish(&mut take);
}

fn one(shape: &Shape, registry: &mut Registry, reading: Reading, line: Line<'_>) -> Result<(), Dropped> {
    if line.cut > 0 {
        return Err(Dropped::TooLong);
    }
    let line = std::str::from_utf8(line.bytes).map_err(|_| Dropped::Malformed)?.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(());
    }
    let Some((name, value)) = parts(line) else {
        // such as memcached's END
        return if shape.ignored(&[line]) { Ok(()) } else { Err(Dropped::Malformed) };
    };
    let path: Vec<&str> = name.split('.').collect();
    if shape.ignored(&path) {
        return Ok(());
    }
    if !value.contains('=') {
        shape.value(registry, reading, &path, &[], number(value));
        return Ok(());
    }
    for pair in value.split(',') {
        let (inner, value) = pair.split_once('=').ok_or(Dropped::Malformed)?;
        let path: Vec<&str> = path.iter().copied().chain([inner.trim()]).collect();
        if !shape.ignored(&path) {
            shape.value(registry, reading, &path, &[], number(value.trim()));
        }
    }
    Ok(())
}

/// Name and value. What stands between them is the first of `=` and `:`, else the last blank.
fn parts(line: &str) -> Option<(&str, &str)> {
    if let Some((name, value)) = line.split_once(['=', ':']) {
        return Some((name.trim_end(), value.trim_start()));
    }
    let (name, value) = line.rsplit_once(char::is_whitespace)?;
    let name = name.trim_end();
    // memcached puts `STAT` before each
    let bare = name.split_once(' ').filter(|(word, _)| word.bytes().all(|byte| byte.is_ascii_uppercase()));
    Some((bare.map_or(name, |(_, name)| name.trim_start()), value))
}

fn number(text: &str) -> Result<Value, Dropped> {
    text.parse().map(Value::Number).map_err(|_| Dropped::NotANumber)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(shape: &Shape, text: &str) -> Vec<String> {
        let mut registry = Registry::new();
        registry.read("app", shape, text.as_bytes()).unwrap();
        let text = registry.exposition();
        let own = |line: &&str| line.starts_with('#') || line.contains("adapter_") && !line.contains("dropped");
        let told = text.lines().filter(|line| !(own(line) || line.contains("dropped") && line.ends_with(" 0")));
        told.map(|line| line.replace("seedpod_adapter_dropped_total", "dropped")).collect()
    }

    #[test]
    fn redis_memcached_and_plain_text() {
        let redis =
            "# Server\r\nredis_version:7.2.4\r\nuptime_in_seconds:61\r\n\r\n# Keyspace\r\ndb0:keys=3,expires=0\r\n";
        let shape = Shape::key_values().ignore("redis_version").gauge("db0.keys").counter("cmd_get");
        assert_eq!(shown(&shape, redis), ["db0_expires 0", "db0_keys 3", "uptime_in_seconds 61"]);
        assert_eq!(
            shown(&shape, "STAT cmd_get 4\nSTAT pid 7\nEND\n"),
            ["cmd_get_total 4", "pid 7", r#"dropped{reason="malformed"} 1"#]
        );
        assert_eq!(shown(&shape, "a b = 1\nc.d: -2.5\ne\t3"), ["a_b 1", "c_d -2.5", "e 3"]);
    }

    #[test]
    fn what_is_wrong_with_a_line_drops_it_alone() {
        let text = format!("a=1\na=2\nb=x\nc=nan\nd\ne=-inf\n=3\n{}=1\nf=0x10\ng=k=1,z\nz=9", "l".repeat(20_000));
        assert_eq!(
            shown(&Shape::key_values(), &text),
            [
                "a 1",
                "g_k 1",
                "z 9",
                r#"dropped{reason="malformed"} 2"#,
                r#"dropped{reason="too_long"} 1"#,
                r#"dropped{reason="not_a_number"} 2"#,
                r#"dropped{reason="not_finite"} 2"#,
                r#"dropped{reason="name"} 1"#,
                r#"dropped{reason="duplicate"} 1"#,
            ]
        );
        assert_eq!(shown(&Shape::key_values(), "\u{fffd}\n"), [r#"dropped{reason="malformed"} 1"#]);
    }
}
