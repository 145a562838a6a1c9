//! A strict reader of Prometheus' text format 0.0.4, written from the format's description: what a lenient one would let
//! pass is refused here.

use std::collections::{BTreeMap, BTreeSet};

/// Labels in the order in which they stand.
type Labels = Vec<(String, String)>;

/// All samples, by name and labels as they are written; or the first line that is not as it should be.
pub(crate) fn read(text: &str) -> Result<BTreeMap<String, f64>, String> {
    let mut reader = Reader::default();
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line does not end".into());
    }
    for (number, line) in text.split_terminator('\n').enumerate() {
        reader.line(line).map_err(|wrong| format!("line {}: {wrong}: {line}", number + 1))?;
    }
    reader.histograms()?;
    Ok(reader.samples.into_iter().map(|(series, (_, _, value))| (series, value)).collect())
}

#[derive(Default)]
struct Reader {
    types: BTreeMap<String, String>,
    helps: BTreeSet<String>,
    /// Metrics whose lines have begun, in their order: none may begin again.
    groups: Vec<String>,
    samples: BTreeMap<String, (String, Labels, f64)>,
    /// In the order of the lines.
    buckets: Vec<(String, Labels, f64, f64)>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').ok_or("no text")?;
            self.group(name)?;
            unescape(text, false)?;
            return self.helps.insert(name.into()).then_some(()).ok_or("a second HELP".into());
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("no type")?;
            if !["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind) {
                return Err("no such type".into());
            }
            self.group(name)?;
            if self.samples.values().any(|(family, ..)| family == name) {
                return Err("TYPE behind the first sample".into());
            }
            return self.types.insert(name.into(), kind.into()).is_none().then_some(()).ok_or("a second TYPE".into());
        }
        if line.starts_with('#') || line.is_empty() {
            return Err("neither comments nor empty lines are written".into());
        }
        self.sample(line)
    }

    fn group(&mut self, family: &str) -> Result<(), String> {
        check_name(family, true)?;
        if self.groups.last().is_some_and(|last| last == family) {
            return Ok(());
        }
        if self.groups.iter().any(|known| known == family) {
            return Err("the lines of a metric do not stand together".into());
        }
        self.groups.push(family.into());
        Ok(())
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let end = line.find(['{', ' ']).ok_or("no value")?;
        let (name, rest) = line.split_at(end);
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Vec::new(), rest),
        };
        let value = value.strip_prefix(' ').ok_or("no blank before the value")?;
        let number = match value {
            "NaN" => f64::NAN,
            "+Inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            _ if value.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) => {
                value.parse().map_err(|_| "no number")?
            }
            _ => return Err("no number, or more than one".into()),
        };
        let mut family = name;
        for part in ["_bucket", "_sum", "_count"] {
            if let Some(whole) = name.strip_suffix(part)
                && self.types.get(whole).is_some_and(|kind| kind == "histogram")
            {
                family = whole;
            }
        }
        self.group(family)?;
        let kind = self.types.get(family).map_or("untyped", String::as_str);
        if kind == "histogram" && family == name {
            return Err("a histogram has no value of its own".into());
        }
        if (kind == "counter" || kind == "histogram" && !name.ends_with("_sum")) && (number < 0.0 || number.is_nan()) {
            return Err("less than nothing".into());
        }
        if kind == "histogram" && name.ends_with("_bucket") {
            let (bound, others) = labels.iter().cloned().partition::<Labels, _>(|(name, _)| name == "le");
            let [(_, bound)] = &*bound else { return Err("a bucket has one `le`".into()) };
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().map_err(|_| "no bound")? };
            self.buckets.push((family.into(), others, bound, number));
        } else if labels.iter().any(|(name, _)| name == "le" || name == "quantile") {
            return Err("`le` belongs to buckets, `quantile` to summaries".into());
        }
        let mut sorted = labels.clone();
        sorted.sort();
        let series = format!("{name}{sorted:?}");
        if self.samples.keys().any(|known| *known == series) {
            return Err("the series stands there twice".into());
        }
        self.samples.insert(series, (family.into(), labels, number));
        Ok(())
    }

    fn histograms(&self) -> Result<(), String> {
        let of = |family: &str, part: &str, labels: &Labels| {
            let mut sorted = labels.clone();
            sorted.sort();
            self.samples.get(&format!("{family}_{part}{sorted:?}")).map(|(_, _, value)| *value)
        };
        for (family, kind) in &self.types {
            let buckets: Vec<_> = self.buckets.iter().filter(|(name, ..)| name == family).collect();
            if kind == "histogram" && buckets.is_empty() {
                return Err(format!("{family} has no bucket"));
            }
            for run in buckets.chunk_by(|one, other| one.1 == other.1) {
                let rise = run.is_sorted_by(|(_, _, bound, count), (_, _, next, more)| bound < next && count <= more);
                let last = run.last().map(|(_, _, bound, count)| (*bound, *count));
                let count = of(family, "count", &run[0].1);
                let whole = last == Some((f64::INFINITY, count.unwrap_or(-1.0)));
                if !rise || !whole || of(family, "sum", &run[0].1).is_none() {
                    return Err(format!("{family}: the buckets of {:?} do not add up", run[0].1));
                }
            }
        }
        Ok(())
    }
}

/// Up to the closing brace, and what stands behind it.
fn labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    loop {
        let (name, after) = rest.split_once("=\"").ok_or("no label")?;
        check_name(name, false)?;
        if labels.iter().any(|(known, _)| known == name) {
            return Err("a label stands there twice".into());
        }
        let mut escaped = false;
        let end = after.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let (value, after) = after.split_at(end.ok_or("the value of a label does not end")?);
        labels.push((name.into(), unescape(value, true)?));
        match after.get(1..2) {
            Some(",") => rest = &after[2..],
            Some("}") => return Ok((labels, &after[2..])),
            _ => return Err("neither a further label nor the end".into()),
        }
    }
}

fn unescape(text: &str, quotes: bool) -> Result<String, String> {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        out.push(match letter {
            '\\' => match letters.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('"') if quotes => '"',
                _ => return Err("no such escape".into()),
            },
            '"' if quotes => return Err("a quote that is not escaped".into()),
            letter => letter,
        });
    }
    Ok(out)
}

fn check_name(name: &str, colon: bool) -> Result<(), String> {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || colon && byte == b':';
    let good =
        name.bytes().next().is_some_and(letter) && name.bytes().all(|byte| letter(byte) || byte.is_ascii_digit());
    let kept = !colon && name.starts_with("__");
    if good && !kept { Ok(()) } else { Err(format!("{name:?} is no name")) }
}

#[test]
fn the_strict_reader_refuses_what_is_wrong() {
    let good = "# HELP a_total say \"\\\\\"\n# TYPE a_total counter\na_total{x=\"1\\\"\\n\"} 1\na_total 2\n# TYPE h histogram\n\
                h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3.5\nh_count 2\nb -1e-9\n";
    let read_good = read(good).unwrap();
    assert_eq!((read_good.len(), read_good["b[]"]), (7, -1e-9));
    for (wrong, with) in [
        ("b -1e-9\n", "b -1e-9"),
        ("b -1e-9", "b 1 2"),
        ("b -1e-9", "b  1"),
        ("b -1e-9", "1b 1"),
        ("b -1e-9", "b 0x1"),
        ("b -1e-9", "b inf"),
        ("b -1e-9", "b{} 1"),
        ("b -1e-9", "b{a=\"\\t\"} 1"),
        ("b -1e-9", "b{a=\"1\",a=\"2\"} 1"),
        ("b -1e-9", "b{__a=\"1\"} 1"),
        ("b -1e-9", "b{le=\"1\"} 1"),
        ("b -1e-9", "a_total{y=\"1\"} 1"),
        ("b -1e-9", "# a comment"),
        ("a_total 2", "a_total{x=\"1\\\"\\n\"} 2"),
        ("a_total 2", "a_total -2"),
        ("a_total 2", "# TYPE a_total gauge"),
        ("counter", "rate"),
        ("h_count 2", "h_count 3"),
        ("h_sum 3.5\n", ""),
        ("h_bucket{le=\"1\"} 1", "h_bucket{le=\"1\"} 3"),
        ("h_bucket{le=\"+Inf\"} 2\n", ""),
    ] {
        let text = good.replace(wrong, with);
        assert!(read(&text).is_err(), "{text}");
    }
}
