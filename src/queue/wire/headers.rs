//! The headers of a message: as they are where every wire carries them so, else together in one.

use super::{HEADERS, malformed};
use crate::base::Result;
use crate::queue::Headers;
use std::{borrow::Cow, collections::BTreeMap};

/// The longest name that goes as it is: AMQP has room for 255 bytes.
const NAME_MAX: usize = 200;

/// Whether a broker, or this form, gives such a name a meaning of its own.
pub(super) fn is_reserved(name: &str) -> bool {
    let begins = |with: &str| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    begins("seedpod-")
        || begins("nats-")
        || begins("x-")
        || ["cc", "bcc"].iter().any(|it| name.eq_ignore_ascii_case(it))
}

fn goes_as_it_is(name: &str, value: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(token)
        && !is_reserved(name)
        && value.bytes().all(plain)
        && value.trim() == value
        && !value.is_empty()
}

/// Puts these headers behind those that stand there.
pub(super) fn write(headers: &Headers, to: &mut Vec<(Cow<'static, str>, String)>) -> Result {
    let mut others = BTreeMap::new();
    for (name, value) in headers.iter() {
        if goes_as_it_is(name, value) {
            to.push((name.to_string().into(), value.to_string()));
        } else {
            others.insert(name, value);
        }
    }
    if !others.is_empty() {
        to.push((HEADERS.into(), serde_json::to_string(&others)?));
    }
    Ok(())
}

/// Adds those that travelled together.
pub(super) fn read(together: &str, to: &mut Headers) -> Result {
    let others: BTreeMap<String, String> = serde_json::from_str(together)
        .map_err(|error| malformed(format!("header {HEADERS} is no JSON object of strings")).because(error))?;
    others.into_iter().for_each(|(name, value)| to.insert(name, value));
    Ok(())
}
