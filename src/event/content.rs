//! What an event says, as a number: a hash of its type, its time and its data that does not depend on how they are spelled.
//!
//! A retry may be serialised anew. Order of keys, whitespace, escapes, and the spelling of numbers (`1`, `1.0`, `1e0`) play no
//! part, and a member that is null counts as absent. Numbers with a fraction or an exponent count as the nearest double.
//!
//! Hashes are stored: neither this version of the program, nor the next one, nor a library may change them.

use memchr::memchr2;

use super::Event;

/// Odd constants with as many ones as zeros; each separates one kind of value from the others.
const START: u64 = 0x9e37_79b9_7f4a_7c15;
const BYTES: u64 = 0xd6e8_feb8_6659_fd93;
const WORD: u64 = 0x94d0_49bb_1331_11eb;
const INTEGER: u64 = 0xa076_1d64_78bd_642f;
const DOUBLE: u64 = 0xe703_7ed1_a0b4_28db;
const LIST: u64 = 0x8ebc_6af0_9c88_c6e3;
const OBJECT: u64 = 0x5896_5cfb_9d3e_fa71;
const MEMBER: u64 = 0x1d8e_4e27_c47d_124f;
/// Hash of null and of data that is absent.
const NULL: u64 = 0;
const TRUE: u64 = 0x2127_599b_f432_5c37;
const FALSE: u64 = 0x8803_55f2_1e6d_1965;
/// Doubles up to here hold every integer exactly.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

impl Event {
    /// A hash of type, time and data. Equal for every spelling of the same event.
    #[must_use]
    pub fn content_hash(&self) -> u64 {
        let mut scanner = Scanner { text: &self.raw, at: 0 };
        let data = scanner.data_of_envelope().unwrap_or(NULL);
        let kind = bytes_hash(self.type_name.as_bytes());
        let time = mix(self.time.as_millis().cast_unsigned(), INTEGER);
        mix(mix(kind ^ START, time), data ^ OBJECT)
    }
}

/// Multiplies to 128 bits and folds: every bit of the result depends on every bit of both.
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ START) * u128::from(b ^ BYTES);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are folded")]
    let folded = (product >> 64) as u64 ^ product as u64;
    folded
}

fn bytes_hash(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(bytes.len() as u64, |hash, word| mix(hash ^ u64::from_le_bytes(*word), WORD));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash ^ u64::from_le_bytes(last), START)
}

/// Walks over JSON that is known to be valid; `None` where it is not.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The hash of member `data` of the object that the text is.
    fn data_of_envelope(&mut self) -> Option<u64> {
        self.skip_space();
        self.expect(b'{')?;
        self.skip_space();
        while self.peek()? != b'}' {
            let (key, has_escapes) = self.string()?;
            let is_data = if has_escapes { unescaped(key).as_deref() == Some("data") } else { key == b"data" };
            self.skip_space();
            self.expect(b':')?;
            let value = self.value()?;
            if is_data {
                return Some(value);
            }
            self.skip_comma();
        }
        None
    }

    fn value(&mut self) -> Option<u64> {
        self.skip_space();
        Some(match self.peek()? {
            b'"' => {
                let (text, has_escapes) = self.string()?;
                text_hash(text, has_escapes)
            }
            b'{' => self.object()?,
            b'[' => self.list()?,
            b't' => self.word(4, TRUE),
            b'f' => self.word(5, FALSE),
            b'n' => self.word(4, NULL),
            _ => self.number()?,
        })
    }

    /// The sum over the members, so that their order plays no part.
    fn object(&mut self) -> Option<u64> {
        self.expect(b'{')?;
        let mut sum = OBJECT;
        self.skip_space();
        while self.peek()? != b'}' {
            let (key, has_escapes) = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            let value = self.value()?;
            if value != NULL {
                sum = sum.wrapping_add(mix(text_hash(key, has_escapes), value ^ MEMBER));
            }
            self.skip_comma();
        }
        self.at += 1;
        Some(mix(sum, OBJECT))
    }

    fn list(&mut self) -> Option<u64> {
        self.expect(b'[')?;
        let mut hash = LIST;
        self.skip_space();
        while self.peek()? != b']' {
            hash = mix(hash ^ self.value()?, LIST);
            self.skip_comma();
        }
        self.at += 1;
        Some(hash)
    }

    /// The text between the quotes, and whether it holds escapes.
    fn string(&mut self) -> Option<(&'a [u8], bool)> {
        self.expect(b'"')?;
        let begin = self.at;
        let mut has_escapes = false;
        loop {
            self.at += memchr2(b'"', b'\\', self.text.get(self.at..)?)?;
            if self.text[self.at] == b'"' {
                self.at += 1;
                return Some((&self.text[begin..self.at - 1], has_escapes));
            }
            has_escapes = true;
            self.at += 2;
        }
    }

    fn number(&mut self) -> Option<u64> {
        let begin = self.at;
        let is_part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        self.at += self.text.get(begin..)?.iter().take_while(is_part).count();
        let text = std::str::from_utf8(&self.text[begin..self.at]).ok()?;
        if let Ok(integer) = text.parse::<i64>() {
            return Some(mix(integer.cast_unsigned(), INTEGER));
        }
        let double: f64 = text.parse().ok()?;
        if double.fract() == 0.0 && double.abs() <= EXACT_MAX {
            #[expect(clippy::cast_possible_truncation, reason = "an integer that fits")]
            let integer = double as i64;
            return Some(mix(integer.cast_unsigned(), INTEGER));
        }
        Some(mix(double.to_bits(), DOUBLE))
    }

    fn word(&mut self, length: usize, hash: u64) -> u64 {
        self.at += length;
        hash
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn skip_comma(&mut self) {
        self.skip_space();
        if self.peek() == Some(b',') {
            self.at += 1;
            self.skip_space();
        }
    }
}

fn text_hash(text: &[u8], has_escapes: bool) -> u64 {
    match has_escapes.then(|| unescaped(text)).flatten() {
        Some(text) => bytes_hash(text.as_bytes()),
        None => bytes_hash(text),
    }
}

/// The text without escapes; `None` if an escape stands for no character, such as half of a surrogate pair.
fn unescaped(text: &[u8]) -> Option<String> {
    let quoted = [b"\"", text, b"\""].concat();
    serde_json::from_slice(&quoted).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::Value;

    fn hash(data: &str) -> u64 {
        let text = format!(
            r#"{{"specversion":"1.0","id":"a","source":"/x","type":"com.example","time":"2026-01-05T08:00:00Z","data":{data}}}"#
        );
        Event::parse(&Bytes::from(text)).unwrap().content_hash()
    }

    #[test]
    fn every_spelling_of_the_same_data_has_the_same_hash() {
        let plain = r#"{"a":1,"b":{"c":[1,2.5,true],"d":"Bäckerei"},"e":"x/y"}"#;
        for other in [
            r#" { "e" : "x\/y", "b" : { "d" : "B\u00e4ckerei", "c" : [ 1.0 , 25e-1 , true ] } , "a" : 1e0 } "#,
            r#"{"a":1,"b":{"c":[1,2.5,true],"d":"Bäckerei","f":null},"\u0065":"x/y","g":null}"#,
        ] {
            assert_eq!(hash(plain), hash(other), "{other}");
        }
    }

    #[test]
    fn other_data_has_another_hash() {
        let all = [
            "null",
            "{}",
            "[]",
            "0",
            "-1",
            "1",
            "1.5",
            "true",
            "false",
            r#""""#,
            r#""1""#,
            r#""true""#,
            r#"{"a":1}"#,
            r#"{"a":2}"#,
            r#"{"b":1}"#,
            r#"{"a":[1]}"#,
            r#"{"a":[1,2]}"#,
            r#"{"a":[2,1]}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":"b"}"#,
            r#"{"b":"a"}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":2,"b":1}"#,
            "[[]]",
            "[[],[]]",
            "[{}]",
            "[null]",
            "9007199254740993",
            "9007199254740992",
            "18446744073709551615",
            r#""12345678""#,
            r#""12345678\u0000""#,
            r#"{"a":{"x":1},"b":{"y":2}}"#,
            r#"{"a":{"y":2},"b":{"x":1}}"#,
        ];
        let hashes: std::collections::BTreeSet<_> = all.iter().map(|data| hash(data)).collect();
        assert_eq!(hashes.len(), all.len());
    }

    /// Stored windows hold these hashes.
    #[test]
    fn hashes_stay_the_same_for_ever() {
        assert_eq!(hash(r#"{"amount":100,"method":"cash","weights":[0.25,1]}"#), 18_209_440_332_908_174_101);
    }

    #[test]
    fn type_and_time_count_and_the_rest_of_the_envelope_does_not() {
        let event = |change: (&str, &str)| {
            let text = r#"{"specversion":"1.0","id":"a","source":"/x","sequence":7,"type":"t","time":"2026-01-05T08:00:00Z","data":1}"#;
            Event::parse(&Bytes::from(text.replace(change.0, change.1))).unwrap().content_hash()
        };
        let same = event(("", ""));
        for spelled in [
            ("08:00:00Z", "08:00:00.000Z"),
            ("08:00:00Z", "09:00:00+01:00"),
            ("7", "\"7\""),
            ("\"data\"", "\"d\\u0061ta\""),
        ] {
            assert_eq!(event(spelled), same, "{spelled:?}");
        }
        for other in [("\"t\"", "\"u\""), ("08:00:00Z", "08:00:01Z"), (":1}", ":2}")] {
            assert_ne!(event(other), same, "{other:?}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9_f64).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-zä\"]{1,5}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The same value with its members the other way round.
    fn reversed(value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                Value::Object(members.iter().rev().map(|(key, value)| (key.clone(), reversed(value))).collect())
            }
            Value::Array(values) => values.iter().map(reversed).collect::<Vec<_>>().into(),
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn order_and_whitespace_play_no_part(value in json()) {
            prop_assert_eq!(hash(&value.to_string()), hash(&serde_json::to_string_pretty(&reversed(&value)).unwrap()));
        }
    }
}
