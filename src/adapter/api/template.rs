//! Templates of paths, matched and filled in; pure.

/// A path with names for parts of it: `/orders/{id}`, `/files/{*path}`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pattern(Vec<Segment>);

#[derive(Clone, Debug, PartialEq)]
enum Segment {
    Plain(Box<str>),
    One(Box<str>),
    Rest(Box<str>),
}

/// Parts of a path by their names, as they stood in it.
pub(super) type Captures<'p, 't> = Vec<(&'p str, &'t str)>;

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err(format!("path {text:?} does not begin with a slash"));
        };
        let mut segments = Vec::new();
        for part in path.split('/') {
            if matches!(segments.last(), Some(Segment::Rest(_))) {
                return Err(format!("path {text:?} goes on behind its rest"));
            }
            let named = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            segments.push(match named {
                Some(name) => match name.strip_prefix('*') {
                    Some(name) => Segment::Rest(word(name, text)?.into()),
                    None => Segment::One(word(name, text)?.into()),
                },
                None if part.contains(['{', '}', '?', '#']) => {
                    return Err(format!("in the path {text:?} a name is a whole part between slashes, without query"));
                }
                None => Segment::Plain(part.into()),
            });
        }
        let pattern = Pattern(segments);
        let names: Vec<_> = pattern.names().collect();
        match (1..names.len()).any(|at| names.iter().take(at).any(|name| Some(name) == names.get(at))) {
            true => Err(format!("path {text:?} has a name twice")),
            false => Ok(pattern),
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|segment| match segment {
            Segment::One(name) | Segment::Rest(name) => Some(&**name),
            Segment::Plain(_) => None,
        })
    }

    /// Whether the path is one of these. A named part is not empty.
    pub(super) fn read<'p, 't>(&'p self, path: &'t str) -> Option<Captures<'p, 't>> {
        let mut rest = Some(path.strip_prefix('/')?);
        let mut captures = Vec::new();
        for segment in &self.0 {
            let text = rest?;
            let (part, after) = match segment {
                Segment::Rest(_) => (text, None),
                _ => text.split_once('/').map_or((text, None), |(part, after)| (part, Some(after))),
            };
            match segment {
                Segment::Plain(plain) if **plain != *part => return None,
                Segment::Plain(_) => {}
                Segment::One(_) | Segment::Rest(_) if part.is_empty() => return None,
                Segment::One(name) | Segment::Rest(name) => captures.push((&**name, part)),
            }
            rest = after;
        }
        rest.is_none().then_some(captures)
    }
}

fn word<'a>(name: &'a str, whole: &str) -> Result<&'a str, String> {
    let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if good { Ok(name) } else { Err(format!("{name:?} in {whole:?} is no name: letters, digits, `_`")) }
}

/// Whether a path leads up: what is put into another path must not leave it.
pub(super) fn leads_up(path: &str) -> bool {
    let dots = |part: &str| matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    path.split(['/', '\\']).any(dots)
}

/// Where a request goes: a path, and perhaps a query, with names for what comes from the other path.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    path: Vec<Part>,
    query: Vec<Part>,
    /// The keys of its query, decoded: nobody else may set them.
    keys: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Plain(Box<str>),
    Named(Box<str>),
}

impl Target {
    pub(super) fn parse(text: &str, known: &Pattern) -> Result<Self, String> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        if !path.starts_with('/') {
            return Err(format!("target {text:?} does not begin with a slash"));
        }
        let keys = query.split('&').filter(|pair| !pair.is_empty());
        let keys = keys.map(|pair| decode(pair.split_once('=').map_or(pair, |(key, _)| key))).collect();
        Ok(Target { path: parts(path, text, known)?, query: parts(query, text, known)?, keys })
    }

    /// Path and query for these, with the query that the request had.
    pub(super) fn fill(&self, captures: &Captures<'_, '_>, query: &Query, came: Option<&str>) -> String {
        let value = |name: &str| captures.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| *value);
        let mut out = String::new();
        for part in &self.path {
            match part {
                Part::Plain(text) => out.push_str(text),
                Part::Named(name) => out.push_str(value(name)),
            }
        }
        let mut sign = '?';
        if !self.query.is_empty() {
            out.push(sign);
            sign = '&';
        }
        for part in &self.query {
            match part {
                Part::Plain(text) => out.push_str(text),
                Part::Named(name) => {
                    for letter in value(name).chars() {
                        match letter {
                            // in a path they are letters, in a query they divide
                            '&' => out.push_str("%26"),
                            '=' => out.push_str("%3D"),
                            '+' => out.push_str("%2B"),
                            ';' => out.push_str("%3B"),
                            letter => out.push(letter),
                        }
                    }
                }
            }
        }
        for pair in came.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').map_or((pair, None), |(key, value)| (key, Some(value)));
            let plain = decode(key);
            let Some(renamed) = query.renamed(&plain) else { continue };
            if self.keys.iter().any(|own| own == renamed.unwrap_or(&plain)) {
                continue; // it would be a second value of what the template says
            }
            out.push(sign);
            sign = '&';
            match renamed {
                Some(name) => encode(&mut out, name),
                None => out.push_str(key),
            }
            if let Some(value) = value {
                out.push('=');
                out.push_str(value);
            }
        }
        out
    }
}

fn parts(text: &str, whole: &str, known: &Pattern) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) =
            after.split_once('}').ok_or_else(|| format!("target {whole:?} has a brace without an end"))?;
        if !known.names().any(|own| own == name) {
            return Err(format!("target {whole:?} has a name that the path has not: {name:?}"));
        }
        if !before.is_empty() {
            parts.push(Part::Plain(before.into()));
        }
        parts.push(Part::Named(name.into()));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Plain(rest.into()));
    }
    match rest.contains('}') || text.contains('#') {
        true => Err(format!("target {whole:?} has a brace or a `#` in it")),
        false => Ok(parts),
    }
}

/// What becomes of the query that a request has.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(pub(super) Vec<(String, Option<String>)>);

impl Query {
    /// None where the key goes; else its new name, where it has one.
    fn renamed(&self, key: &str) -> Option<Option<&str>> {
        match self.0.iter().rev().find(|(from, _)| from == key) {
            Some((_, None)) => None,
            Some((_, Some(to))) => Some(Some(to)),
            None => Some(None),
        }
    }
}

/// As a form's reader decodes it.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let half = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (byte, half(at + 1), half(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            (byte, ..) => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn encode(out: &mut String, text: &str) {
    use std::fmt::Write;
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            byte => drop(write!(out, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(pattern: &str, target: &str, query: &[(&str, Option<&str>)], path: &str) -> Option<String> {
        let pattern = Pattern::parse(pattern).unwrap();
        let target = Target::parse(target, &pattern).unwrap();
        let query = Query(query.iter().map(|(from, to)| ((*from).to_owned(), to.map(String::from))).collect());
        let (path, came) = path.split_once('?').map_or((path, None), |(path, came)| (path, Some(came)));
        Some(target.fill(&pattern.read(path)?, &query, came))
    }

    #[test]
    fn paths_are_matched_and_filled_in() {
        let order = |path| {
            mapped("/v2/orders/{id}", "/order.cgi?no={id}&v=2", &[("q", Some("search text")), ("debug", None)], path)
        };
        for (path, target) in [
            ("/v2/orders/7", Some("/order.cgi?no=7&v=2")),
            ("/v2/orders/7?q=a%20b&debug=1&x", Some("/order.cgi?no=7&v=2&search%20text=a%20b&x")),
            ("/v2/orders/7?no=8&n%6f=9&v=1&&z=%", Some("/order.cgi?no=7&v=2&z=%")),
            ("/v2/orders/a&no=8;b+c", Some("/order.cgi?no=a%26no%3D8%3Bb%2Bc&v=2")),
            ("/v2/orders/a%2Fb", Some("/order.cgi?no=a%2Fb&v=2")),
            ("/v2/orders/", None),
            ("/v2/orders", None),
            ("/v2/orders/7/8", None),
            ("/v2//orders/7", None),
        ] {
            assert_eq!(order(path).as_deref(), target, "{path}");
        }
        assert_eq!(mapped("/f/{*rest}", "/g/{rest}", &[], "/f/a/b?x=1").as_deref(), Some("/g/a/b?x=1"));
        assert_eq!(mapped("/", "/index", &[], "/").as_deref(), Some("/index"));
    }

    #[test]
    fn what_leads_up_is_seen() {
        for path in ["/..", "/a/../b", "/a/%2e%2E/b", "/a/.%2e", "/./a", "/a\\..\\b"] {
            assert!(leads_up(path), "{path}");
        }
        assert!(!leads_up("/a..b/...") && !leads_up("/a.b/%2f"));
    }

    #[test]
    fn mistakes_name_the_template() {
        for (pattern, target, mistake) in [
            ("a", "/", "path \"a\" does not begin with a slash"),
            ("/a{b}", "/", "a name is a whole part"),
            ("/{}", "/", "is no name"),
            ("/{a}/{a}", "/", "has a name twice"),
            ("/{*a}/b", "/", "goes on behind its rest"),
            ("/{a}", "x", "does not begin with a slash"),
            ("/{a}", "/{b}", "has a name that the path has not: \"b\""),
            ("/{a}", "/{a", "a brace without an end"),
            ("/{a}", "/a}", "has a brace or a `#` in it"),
        ] {
            let told = Pattern::parse(pattern).and_then(|pattern| Target::parse(target, &pattern)).unwrap_err();
            assert!(told.contains(mistake), "{told}");
        }
    }
}
