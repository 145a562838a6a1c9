//! The reader: strict JSON, every string borrowed unless it is escaped.

use super::{Json, Members, refused};
use crate::base::Result;
use std::borrow::Cow;

/// How deep a text may nest, which also bounds the reader's stack.
pub(super) const DEEPEST: usize = 128;

impl<'a> Json<'a> {
    /// Reads one JSON value.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid), naming line and column: the text is no JSON, is nested more than 128 deep, or
    /// an object has two members of one name.
    pub fn read(text: &'a str) -> Result<Json<'a>> {
        let mut reader = Reader { text, bytes: text.as_bytes(), at: 0 };
        let read = match reader.value(DEEPEST) {
            Ok(_) if reader.peek().is_some() => Err(Cow::Borrowed("there is more text after the value")),
            read => read,
        };
        read.map_err(|what| {
            let before = text.get(..reader.at).unwrap_or(text);
            let line = 1 + before.matches('\n').count();
            let column = 1 + before.chars().rev().take_while(|letter| *letter != '\n').count();
            refused(format!("line {line}, column {column}: {what}"))
        })
    }
}

type Refusal = Cow<'static, str>;

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next byte that is no blank; it is not taken.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                byte => return byte.copied(),
            }
        }
    }

    fn eat(&mut self, byte: u8, refusal: &'static str) -> Result<(), Refusal> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(refusal.into())
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json<'a>, Refusal> {
        if depth == 0 {
            return Err(format!("nested more than {DEEPEST} deep").into());
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Json::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            _ => Err("expected a value".into()),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json<'a>, Refusal> {
        self.at += 1;
        let mut members = Vec::new();
        let mut sorted = true;
        while self.peek() != Some(b'}') {
            if !members.is_empty() {
                self.eat(b',', "expected ',' or '}'")?;
                self.peek();
            }
            let key = self.string()?;
            self.eat(b':', "expected ':'")?;
            let value = self.value(depth - 1)?;
            sorted &= members.last().is_none_or(|(last, _)| *last < key);
            members.push((key, value));
        }
        self.at += 1;
        if !sorted {
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            let twice = members.iter().zip(members.iter().skip(1)).find(|(one, next)| one.0 == next.0);
            if let Some(((key, _), _)) = twice {
                return Err(format!("the object that ends here has two members {key:?}").into());
            }
        }
        Ok(Json::Object(Members(members)))
    }

    fn array(&mut self, depth: usize) -> Result<Json<'a>, Refusal> {
        self.at += 1;
        let mut items = Vec::new();
        while self.peek() != Some(b']') {
            if !items.is_empty() {
                self.eat(b',', "expected ',' or ']'")?;
            }
            items.push(self.value(depth - 1)?);
        }
        self.at += 1;
        Ok(Json::Array(items))
    }

    fn word(&mut self, word: &'static str, value: Json<'a>) -> Result<Json<'a>, Refusal> {
        if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            Ok(value)
        } else {
            Err("expected a value".into())
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        self.at - start
    }

    fn take(&mut self, set: &[u8]) -> bool {
        let taken = self.bytes.get(self.at).is_some_and(|byte| set.contains(byte));
        self.at += usize::from(taken);
        taken
    }

    fn number(&mut self) -> Result<Json<'a>, Refusal> {
        let start = self.at;
        self.take(b"-");
        let zero = self.bytes.get(self.at) == Some(&b'0');
        let whole = self.digits();
        let fraction = !self.take(b".") || self.digits() > 0;
        let exponent = !self.take(b"eE") || {
            self.take(b"+-");
            self.digits() > 0
        };
        let number = self.text.get(start..self.at).unwrap_or("");
        if whole == 0 || (zero && whole > 1) || !fraction || !exponent {
            self.at = start;
            return Err("this is not a number".into());
        }
        Ok(Json::Number(Cow::Borrowed(number)))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Refusal> {
        if self.bytes.get(self.at) != Some(&b'"') {
            return Err("expected a text in double quotes".into());
        }
        self.at += 1;
        let start = self.plain()?;
        if self.take(b"\"") {
            return Ok(Cow::Borrowed(start));
        }
        let mut text = start.to_string();
        loop {
            if self.take(b"\"") {
                return Ok(Cow::Owned(text));
            }
            self.at += 1; // the backslash
            text.push(self.escape()?);
            text.push_str(self.plain()?);
        }
    }

    /// Up to the next quote or backslash.
    fn plain(&mut self) -> Result<&'a str, Refusal> {
        let start = self.at;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"' | b'\\') => return Ok(self.text.get(start..self.at).unwrap_or("")),
                Some(0x20..) => self.at += 1,
                Some(_) => return Err("a control character must be escaped".into()),
                None => return Err("this text has no end".into()),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Refusal> {
        let letter = self.bytes.get(self.at).copied();
        self.at += 1;
        Ok(match letter {
            Some(plain @ (b'"' | b'\\' | b'/')) => plain.into(),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex()?;
                let code = match first {
                    0xD800..=0xDBFF if self.take(b"\\") && self.take(b"u") => match self.hex()? {
                        second @ 0xDC00..=0xDFFF => 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00),
                        _ => first, // no character has this code, so it is refused below
                    },
                    _ => first,
                };
                char::from_u32(code).ok_or("half of a surrogate pair")?
            }
            _ => return Err("unknown escape".into()),
        })
    }

    fn hex(&mut self) -> Result<u32, Refusal> {
        let digits = self.text.get(self.at..self.at + 4).filter(|digits| !digits.starts_with('+'));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or("expected four hex digits")?;
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written() {
        for (text, canonical) in [
            ("null", "null"),
            (" [ 1.0 , -0 , 1e3, 12345678901234567890123 ] ", "[1.0,-0,1e3,12345678901234567890123]"),
            (r#"{"b":{},"a":[]}"#, r#"{"a":[],"b":{}}"#),
            (r#""\u0041\/\n\u00e9\ud83d\ude00\u0001""#, "\"A/\\né😀\\u0001\""),
            (r#"{"\u0062":1,"a":2}"#, r#"{"a":2,"b":1}"#),
        ] {
            assert_eq!(Json::read(text).unwrap().canonical(), canonical);
            assert_eq!(Json::read(canonical).unwrap().canonical(), canonical);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let deep = "[".repeat(DEEPEST + 1);
        for (text, message) in [
            ("", "line 1, column 1: expected a value"),
            ("{\n \"a\": 01}", "line 2, column 7: this is not a number"),
            ("[1,]", "line 1, column 4: expected a value"),
            ("[1 2]", "line 1, column 4: expected ',' or ']'"),
            ("{\"a\":1,}", "line 1, column 8: expected a text in double quotes"),
            ("{\"a\" 1}", "line 1, column 6: expected ':'"),
            ("{\"b\":1,\"a\":1,\"b\":2}", "line 1, column 20: the object that ends here has two members \"b\""),
            ("1 1", "line 1, column 3: there is more text after the value"),
            ("\"a", "line 1, column 3: this text has no end"),
            ("\"\t\"", "line 1, column 2: a control character must be escaped"),
            ("\"\\ud800\"", "line 1, column 8: half of a surrogate pair"),
            ("\"\\x\"", "line 1, column 4: unknown escape"),
            ("\"\\u00é\"", "line 1, column 4: expected four hex digits"),
            ("nul", "line 1, column 1: expected a value"),
            ("1.", "line 1, column 1: this is not a number"),
            (&deep, "line 1, column 129: nested more than 128 deep"),
        ] {
            assert_eq!(Json::read(text).unwrap_err().message(), message, "{text}");
        }
    }
}
