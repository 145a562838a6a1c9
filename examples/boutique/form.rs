//! The `application/x-www-form-urlencoded` of browsers: what a page without JavaScript sends.

use std::collections::BTreeMap;

/// The fields of a form or of a query. Where a field comes twice, the last one counts; text that is no UTF-8 is mended.
pub(crate) fn parse(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

/// The fields as a form's body.
pub(crate) fn print(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = fields.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
    pairs.join("&")
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let ahead = rest.clone();
                match (rest.next().and_then(digit), rest.next().and_then(digit)) {
                    (Some(high), Some(low)) => bytes.push(high << 4 | low),
                    _ => {
                        bytes.push(b'%'); // no escape after all: the sign stands for itself
                        rest = ahead;
                    }
                }
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().fold(String::new(), |coded, byte| match byte {
        b' ' => coded + "+",
        byte if plain(byte) => coded + char::from(byte).encode_utf8(&mut [0; 4]),
        byte => coded + &format!("%{byte:02X}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_comes_back_as_it_was() {
        let fields = [("address", "12 Rue de l'Été & co"), ("quantity", "2"), ("empty", "")];
        let parsed = parse(&print(&fields));
        assert_eq!(parsed.len(), 3);
        assert!(fields.iter().all(|(key, value)| parsed[*key] == *value), "{parsed:?}");
    }

    #[test]
    fn broken_escapes_stand_for_themselves() {
        assert_eq!(parse("a=100%&b=%zz&c=%4")["a"], "100%");
        assert_eq!(parse("b=%zz")["b"], "%zz");
        assert_eq!(parse("c=%41%")["c"], "A%");
    }
}
