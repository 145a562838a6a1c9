//! The JSON merge patch of RFC 7396, and its inverse.

use super::{Json, Members};

impl<'a> Json<'a> {
    /// Applies a JSON merge patch: members are merged, `null` removes one, everything else replaces.
    #[must_use]
    pub fn merge(self, patch: Json<'a>) -> Json<'a> {
        let Json::Object(changes) = patch else { return patch };
        let members = if let Json::Object(members) = self { members } else { Members::new() };
        let mut merged = Vec::with_capacity(members.len() + changes.len());
        let mut before = members.into_iter().peekable(); // both in the order of their keys
        for (key, change) in changes {
            merged.extend(std::iter::from_fn(|| before.next_if(|(at, _)| *at < key)));
            let old = before.next_if(|(at, _)| *at == key).map(|(_, value)| value);
            if change != Json::Null {
                // merging into nothing strips the nulls of the patch
                merged.push((key, old.unwrap_or_default().merge(change)));
            }
        }
        merged.extend(before);
        Json::Object(Members(merged))
    }

    /// The merge patch that makes `next` of this tree, or `None` where they are equal.
    ///
    /// A list that differs is given whole. A member that is `null` in `next` cannot be told from an absent one.
    pub fn diff(&self, next: &Json<'a>) -> Option<Json<'a>> {
        let (Json::Object(old), Json::Object(new)) = (self, next) else {
            return (self != next).then(|| next.clone());
        };
        let gone = old.iter().filter(|(key, _)| new.get(key).is_none()).map(|(key, _)| (key.to_string(), Json::Null));
        let changed = new.iter().filter_map(|(key, value)| {
            let change = match old.get(key) {
                Some(before) => before.diff(value),
                None => Some(value.clone()),
            };
            change.map(|change| (key.to_string(), change))
        });
        let changes: Members<'a> = gone.chain(changed).collect();
        (!changes.is_empty()).then_some(Json::Object(changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_follows_the_rfc() {
        for (target, patch, merged) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
            (r#"[1,2]"#, r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let result = Json::read(target).unwrap().merge(Json::read(patch).unwrap());
            assert_eq!(result.canonical(), merged);
        }
    }

    #[test]
    fn diff_undoes_merge() {
        for (old, new, patch) in [
            (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#, Some(r#"{"b":3}"#)),
            (r#"{"a":1,"b":{"c":1,"d":1}}"#, r#"{"b":{"d":1,"e":{}}}"#, Some(r#"{"a":null,"b":{"c":null,"e":{}}}"#)),
            (r#"{"a":[1,2]}"#, r#"{"a":[1]}"#, Some(r#"{"a":[1]}"#)),
            (r#"{"a":1}"#, r#"{"a":1}"#, None),
        ] {
            let (old, new) = (Json::read(old).unwrap(), Json::read(new).unwrap());
            let found = old.diff(&new);
            assert_eq!(found.as_ref().map(Json::canonical).as_deref(), patch);
            assert_eq!(old.merge(found.unwrap_or_else(|| Json::object([("", ""); 0]))), new);
        }
    }
}
