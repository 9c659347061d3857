//! Masks what must never be stored, in bytes that are kept because they could not be understood.

use super::card::card_numbers;
use super::parse::{FORBIDDEN_KEYS, is_forbidden_key};

/// The bytes with card numbers and the values of forbidden keys masked by `*`; everything else stays as it is.
#[must_use]
pub fn redact(bytes: &[u8]) -> Vec<u8> {
    let mut masked = bytes.to_vec();
    mask_card_numbers(&mut masked);
    mask_forbidden_values(&mut masked);
    masked
}

/// The value of a record's header, masked like bytes; all of it where the header stands for a forbidden key.
#[must_use]
pub fn redact_header(name: &str, value: &[u8]) -> Vec<u8> {
    let name = name.to_ascii_lowercase();
    let attribute = name.strip_prefix("ce_").or_else(|| name.strip_prefix("ce-")).unwrap_or(&name);
    if FORBIDDEN_KEYS.iter().any(|key| key.eq_ignore_ascii_case(attribute)) {
        vec![b'*'; value.len()]
    } else {
        redact(value)
    }
}

fn mask_card_numbers(bytes: &mut [u8]) {
    let mut start = 0;
    let mut found = Vec::new();
    for chunk in bytes.utf8_chunks() {
        found.extend(card_numbers(chunk.valid()).into_iter().map(|range| start + range.start..start + range.end));
        start += chunk.valid().len() + chunk.invalid().len();
    }
    for range in found {
        // Of digits beyond ASCII every byte goes.
        bytes[range].iter_mut().filter(|byte| byte.is_ascii_digit() || !byte.is_ascii()).for_each(|byte| *byte = b'*');
    }
}

fn mask_forbidden_values(bytes: &mut [u8]) {
    let quotes: Vec<usize> = memchr::memchr_iter(b'"', bytes).collect();
    for pair in quotes.windows(2) {
        let (open, close) = (pair[0], pair[1]);
        if !std::str::from_utf8(&bytes[open + 1..close]).is_ok_and(is_forbidden_key) {
            continue;
        }
        let mut position = close + 1;
        while position < bytes.len() && (bytes[position].is_ascii_whitespace() || bytes[position] == b':') {
            position += 1;
        }
        let quoted = bytes.get(position) == Some(&b'"');
        position += usize::from(quoted);
        while let Some(byte) = bytes.get_mut(position) {
            if (quoted && *byte == b'"') || (!quoted && matches!(*byte, b',' | b'}' | b']')) {
                break;
            }
            *byte = b'*';
            position += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_forbidden_is_masked() {
        let kept = redact(br#"{"cardToken":"4111111111111111","dateOfBirth": "1990-01-02","n":12345,"pan":42}"#);
        let text = String::from_utf8(kept).unwrap();
        assert_eq!(text, r#"{"cardToken":"****************","dateOfBirth": "**********","n":12345,"pan":**}"#);
    }

    #[test]
    fn barcodes_stay_legible_and_card_numbers_do_not_whatever_stands_around_them() {
        let kept = |text: &str| String::from_utf8(redact(text.as_bytes())).unwrap();
        let barcode = r#"{"productId":"5449000000996","customerId":"9000000000000001","line":1"#;
        assert_eq!(kept(barcode), barcode);
        assert_eq!(kept(r#"{"reason":"card 4111-1111 1111 1111 ok""#), r#"{"reason":"card ****-**** **** **** ok""#);
        assert_eq!(redact(b"\xff4111111111111111\xff"), b"\xff****************\xff");
    }

    #[test]
    fn a_header_that_stands_for_a_forbidden_key_is_masked_as_a_whole() {
        let kept = |name, value: &str| String::from_utf8(redact_header(name, value.as_bytes())).unwrap();
        assert_eq!(kept("CE_dateofbirth", "1990-01-02"), "**********");
        assert_eq!(kept("ce_subject", "4111111111111111"), "****************");
        assert_eq!(kept("ce_time", "2026-01-05T08:00:00Z"), "2026-01-05T08:00:00Z");
    }
}
