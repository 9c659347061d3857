//! The `Idempotency-Key` header field (draft-ietf-httpapi-idempotency-key-header): a string item of structured fields
//! (RFC 9651), `"…"`. A bare value without the quotes is taken as well, since many clients send that.

/// Longest key in characters.
pub const KEY_CHARS_MAX: usize = 255;

/// Why a header's value is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is none.
    #[error("is missing; send a value that is new for each order, such as a UUID, and the same again with every retry")]
    Missing,
    /// It was sent more than once.
    #[error("was sent more than once; send one")]
    Repeated,
    /// Nothing is in it.
    #[error("is empty; send a value that is new for each order, such as a UUID")]
    Empty,
    /// It is longer than [`KEY_CHARS_MAX`].
    #[error("is longer than 255 characters; send a shorter one, such as a UUID")]
    TooLong,
    /// It is no string of structured fields, and no bare value either.
    #[error(
        "is not a string of printable ASCII characters in double quotes, such as \"8e03978e-40d5-43dd-bc93-6894a57f9324\""
    )]
    Malformed,
}

/// Reads the field's values.
///
/// # Errors
/// What is wrong with them.
pub fn parse<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<String, KeyError> {
    let value = values.next().ok_or(KeyError::Missing)?;
    if values.next().is_some() {
        return Err(KeyError::Repeated);
    }
    let text = std::str::from_utf8(value).map_err(|_| KeyError::Malformed)?.trim_matches([' ', '\t']);
    let key = match text.strip_prefix('"') {
        Some(rest) => quoted(rest)?,
        None => bare(text)?,
    };
    match key.len() {
        0 => Err(KeyError::Empty),
        length if length > KEY_CHARS_MAX => Err(KeyError::TooLong),
        _ => Ok(key),
    }
}

/// What follows the opening quote: the string, then parameters, which the draft does not define and which are ignored.
fn quoted(text: &str) -> Result<String, KeyError> {
    let mut key = String::with_capacity(text.len());
    let mut characters = text.chars();
    loop {
        match characters.next().ok_or(KeyError::Malformed)? {
            '"' => break,
            '\\' => match characters.next() {
                Some(escaped @ ('"' | '\\')) => key.push(escaped),
                _ => return Err(KeyError::Malformed),
            },
            plain @ ' '..='~' => key.push(plain),
            _ => return Err(KeyError::Malformed),
        }
    }
    let rest = characters.as_str().trim_start_matches(' ');
    if rest.is_empty() || rest.starts_with(';') { Ok(key) } else { Err(KeyError::Malformed) }
}

fn bare(text: &str) -> Result<String, KeyError> {
    if text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b',' | b';')) {
        Ok(text.to_owned())
    } else {
        Err(KeyError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<String, KeyError> {
        parse(std::iter::once(text.as_bytes()))
    }

    #[test]
    fn quotes_make_no_difference_and_escapes_are_taken_out() {
        assert_eq!(read("\"8e03978e-40d5\""), Ok("8e03978e-40d5".to_owned()));
        assert_eq!(read("8e03978e-40d5"), read(" \"8e03978e-40d5\" ; v=1"));
        assert_eq!(read(r#""a\"b\\c d""#), Ok(r#"a"b\c d"#.to_owned()));
    }

    #[test]
    fn what_is_no_key_says_why() {
        assert_eq!(parse(std::iter::empty()), Err(KeyError::Missing));
        assert_eq!(parse(["a", "b"].into_iter().map(str::as_bytes)), Err(KeyError::Repeated));
        assert_eq!(read(""), Err(KeyError::Empty));
        assert_eq!(read("\"\""), Err(KeyError::Empty));
        assert_eq!(read(&"k".repeat(256)), Err(KeyError::TooLong));
        assert_eq!(read(&format!("\"{}\"", "k".repeat(255))).map(|key| key.len()), Ok(255));
        for wrong in ["\"a", "a b", "a\"b", r#""a\x""#, "\"a\" b", "a,b", "ключ", "\"ключ\"", "\"a\u{7f}\""] {
            assert_eq!(read(wrong), Err(KeyError::Malformed), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_client_quotes_is_the_key_it_meant(key in "[ -~]{1,255}") {
            let escaped = key.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(read(&format!("\"{escaped}\"")), Ok(key));
        }

        #[test]
        fn no_value_makes_the_reader_fall_over(value in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(key) = parse(std::iter::once(value.as_slice())) {
                prop_assert!((1..=KEY_CHARS_MAX).contains(&key.len()));
            }
        }
    }
}
