//! What looks like a payment card's number: an issuer's prefix, a length that this issuer uses, and a check digit.
//!
//! A check digit alone says nothing: one number in ten has a right one, barcodes and loyalty cards among them. Prefixes and
//! lengths are those of ISO/IEC 7812 ranges that are in use. No event, order or kept field may hold such a number.

use std::ops::Range;

/// Fewest digits of a card number.
const DIGITS_MIN: usize = 13;
/// Most digits of a card number.
const DIGITS_MAX: usize = 19;
/// Most separators between two digits of the same number.
const SEPARATORS_MAX: usize = 3;
/// Most digits without a separator in a number that is written with separators. More are a number of their own, such as a
/// barcode with a price behind it.
const GROUP_DIGITS_MAX: usize = 10;

/// Numbers from `first` to `last`, by their first digits, with the lengths that their issuer uses.
struct Issuer {
    first: u32,
    last: u32,
    lengths: &'static [usize],
}

const fn issuer(first: u32, last: u32, lengths: &'static [usize]) -> Issuer {
    Issuer { first, last, lengths }
}

/// First six digits; what an issuer names by fewer is filled up with 0 and 9.
const ISSUERS: [Issuer; 33] = [
    // Visa; thirteen digits on cards of the past.
    issuer(400_000, 499_999, &[13, 16, 19]),
    // Mastercard.
    issuer(222_100, 272_099, &[16]),
    issuer(510_000, 559_999, &[16]),
    // Mir.
    issuer(220_000, 220_499, &[16, 17, 18, 19]),
    // American Express.
    issuer(340_000, 349_999, &[15]),
    issuer(370_000, 379_999, &[15]),
    // Diners Club.
    issuer(300_000, 305_999, &[14, 16, 17, 18, 19]),
    issuer(309_500, 309_599, &[14, 16, 17, 18, 19]),
    issuer(360_000, 369_999, &[14, 15, 16, 17, 18, 19]),
    issuer(380_000, 399_999, &[14, 16, 17, 18, 19]),
    // JCB.
    issuer(352_800, 358_999, &[16, 17, 18, 19]),
    // RuPay.
    issuer(353_000, 353_999, &[16]),
    issuer(356_000, 356_999, &[16]),
    issuer(508_000, 508_999, &[16, 17, 18, 19]),
    issuer(607_000, 608_999, &[16]),
    issuer(652_100, 653_199, &[16]),
    issuer(817_200, 820_199, &[16]),
    // Discover.
    issuer(601_100, 601_199, &[16, 17, 18, 19]),
    issuer(644_000, 659_999, &[16, 17, 18, 19]),
    // UnionPay.
    issuer(620_000, 629_999, &[16, 17, 18, 19]),
    issuer(810_000, 817_199, &[16, 17, 18, 19]),
    // Maestro, and the national debit cards within its ranges.
    issuer(500_000, 507_999, &[13, 14, 15, 16, 17, 18, 19]),
    issuer(509_000, 509_999, &[13, 14, 15, 16, 17, 18, 19]),
    issuer(560_000, 589_999, &[13, 14, 15, 16, 17, 18, 19]),
    issuer(630_400, 630_499, &[13, 14, 15, 16, 17, 18, 19]),
    issuer(633_100, 633_399, &[16, 18, 19]),
    issuer(636_200, 636_399, &[16, 18, 19]),
    issuer(639_000, 639_099, &[13, 14, 15, 16, 17, 18, 19]),
    issuer(670_000, 679_999, &[13, 14, 15, 16, 17, 18, 19]),
    // InstaPayment.
    issuer(637_000, 639_999, &[16]),
    // Hipercard.
    issuer(606_282, 606_282, &[13, 16, 19]),
    // Humo and Uzcard.
    issuer(860_000, 860_099, &[16]),
    // Troy.
    issuer(979_200, 979_299, &[16]),
];

/// True if the whole text is a card number, with or without spaces and dashes between its digits.
#[must_use]
pub fn is_card_number(text: &str) -> bool {
    let mut digits = Digits::default();
    for character in text.trim().chars() {
        match (digit_of(character), is_separator(character)) {
            (Some(digit), _) if digits.count < DIGITS_MAX => digits.push(digit),
            (None, true) => {}
            _ => return false,
        }
    }
    digits.are_a_card()
}

/// True if there is a card number anywhere in the text.
#[must_use]
pub fn holds_card_number(text: &str) -> bool {
    find(text, |_| true)
}

/// Where card numbers stand in the text, in bytes; they may overlap.
#[must_use]
pub(super) fn card_numbers(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    find(text, |range| {
        found.push(range);
        false
    });
    found
}

/// Digits without anything between them.
struct Group {
    bytes: Range<usize>,
    digits: Digits,
    /// So close to the group before it that both may be one number.
    continues: bool,
}

/// Tells `each` every card number of the text until it says that this is enough. A number begins and ends where a group
/// of digits does: what stands within a longer group is a part of another number.
fn find(text: &str, mut each: impl FnMut(Range<usize>) -> bool) -> bool {
    // Most texts have no number that is long enough, and cost one look.
    if text.len() < DIGITS_MIN
        || text.bytes().filter(|byte| byte.is_ascii_digit() || *byte >= 0x80).count() < DIGITS_MIN
    {
        return false;
    }
    let groups = groups(text);
    for (first, start) in groups.iter().enumerate() {
        let mut digits = Digits::default();
        for (index, group) in groups[first..].iter().enumerate() {
            if (index > 0 && !group.continues) || digits.count + group.digits.count > DIGITS_MAX {
                break;
            }
            if index > 0
                && (group.digits.count > GROUP_DIGITS_MAX || groups[first + index - 1].digits.count > GROUP_DIGITS_MAX)
            {
                break;
            }
            digits.append(&group.digits);
            if digits.are_a_card() && each(start.bytes.start..group.bytes.end) {
                return true;
            }
        }
    }
    false
}

fn groups(text: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut separators = usize::MAX;
    for (start, character) in text.char_indices() {
        let end = start + character.len_utf8();
        match digit_of(character) {
            Some(digit) if separators == 0 => {
                let group = groups.last_mut().expect("without separators a group has begun");
                group.digits.push(digit);
                group.bytes.end = end;
            }
            Some(digit) => {
                let mut digits = Digits::default();
                digits.push(digit);
                groups.push(Group { bytes: start..end, digits, continues: separators <= SEPARATORS_MAX });
                separators = 0;
            }
            None if is_separator(character) => separators = separators.saturating_add(1),
            None => separators = usize::MAX,
        }
    }
    groups
}

fn digit_of(character: char) -> Option<u8> {
    let zero = match character {
        '0'..='9' => '0',
        // Arabic-Indic, extended Arabic-Indic, Devanagari and full-width digits.
        '\u{660}'..='\u{669}' => '\u{660}',
        '\u{6f0}'..='\u{6f9}' => '\u{6f0}',
        '\u{966}'..='\u{96f}' => '\u{966}',
        '\u{ff10}'..='\u{ff19}' => '\u{ff10}',
        _ => return None,
    };
    u8::try_from(u32::from(character) - u32::from(zero)).ok()
}

/// Spaces and dashes of all kinds, and the dot, which some people put between the groups of a number.
const fn is_separator(character: char) -> bool {
    matches!(
        character,
        ' ' | '-' | '.' | '\t' | '\u{a0}' | '\u{ad}' | '\u{2000}'..='\u{200b}' | '\u{2010}'..='\u{2015}'
            | '\u{202f}' | '\u{205f}' | '\u{2212}' | '\u{3000}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}'
    )
}

/// Up to nineteen digits, and how many there were.
#[derive(Clone, Copy, Default)]
struct Digits {
    digits: [u8; DIGITS_MAX],
    count: usize,
}

impl Digits {
    fn push(&mut self, digit: u8) {
        if let Some(place) = self.digits.get_mut(self.count) {
            *place = digit;
        }
        self.count += 1;
    }

    fn append(&mut self, other: &Self) {
        for digit in &other.digits[..other.count.min(DIGITS_MAX)] {
            self.push(*digit);
        }
    }

    fn are_a_card(&self) -> bool {
        let Some(digits) = self.digits.get(..self.count) else {
            return false;
        };
        digits.len() >= DIGITS_MIN && has_issuer(digits) && passes_luhn(digits) && !is_barcode(digits)
    }
}

fn has_issuer(digits: &[u8]) -> bool {
    let prefix = digits[..6].iter().fold(0, |number, digit| number * 10 + u32::from(*digit));
    let is_of =
        |issuer: &Issuer| (issuer.first..=issuer.last).contains(&prefix) && issuer.lengths.contains(&digits.len());
    ISSUERS.iter().any(is_of)
}

/// ISO/IEC 7812-1, annex B.
fn passes_luhn(digits: &[u8]) -> bool {
    let weighted = |(place, digit): (usize, &u8)| match (place % 2, *digit) {
        (0, digit) => u32::from(digit),
        (_, 9) => 9,
        (_, digit) => u32::from(digit) * 2 % 9,
    };
    digits.iter().rev().enumerate().map(weighted).sum::<u32>().is_multiple_of(10)
}

/// True for thirteen or fourteen digits with the check digit of a GTIN (EAN-13, ISBN, GTIN-14), where hardly any card has
/// as few digits. Diners Club still gives out numbers of fourteen digits: for those the card's reading counts.
fn is_barcode(digits: &[u8]) -> bool {
    let is_short = digits.len() == 13 || (digits.len() == 14 && digits[0] != 3);
    let weighted = |(place, digit): (usize, &u8)| u32::from(*digit) * if place % 2 == 0 { 1 } else { 3 };
    is_short && digits.iter().rev().enumerate().map(weighted).sum::<u32>().is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers that payment companies publish for tests.
    const CARDS: [&str; 24] = [
        "4111111111111111",
        "4012888888881881",
        "4222222222222",
        "4000000000000000006",
        "5500005555555559",
        "5105105105105100",
        "2223003122003222",
        "2720990000000007",
        "378282246310005",
        "341111111111111",
        "30569309025904",
        "38520000023237",
        "36227206271667",
        "3530111333300000",
        "3566002020360505",
        "6011111111111117",
        "6011000990139424",
        "6445644564456445",
        "6200000000000005",
        "6205500000000000004",
        "6759649826438453",
        "6304000000000000",
        "2200000000000004",
        "6521110000000004",
    ];

    /// Barcodes and loyalty numbers, all of which pass the check of card numbers.
    const OTHERS: [&str; 7] = [
        "5449000000996",
        "3175680011480",
        "9000000000000001",
        "9826300000000007",
        "00000000000000",
        "1234567890128",
        "6340040000000000006",
    ];

    #[test]
    fn numbers_of_every_issuer_are_recognised_however_they_are_written() {
        for card in CARDS {
            assert!(is_card_number(card), "{card}");
            for separator in [" ", "-", "\u{a0}", "\u{2013}", " - ", "."] {
                let groups: Vec<_> =
                    card.as_bytes().chunks(4).map(|group| std::str::from_utf8(group).unwrap()).collect();
                let written = groups.join(separator);
                assert!(is_card_number(&written), "{written}");
                assert!(holds_card_number(&format!("Bon 12 {written} 07/29, danke")), "{written}");
            }
        }
        assert!(holds_card_number("VISA4111111111111111!"));
        assert!(holds_card_number("４１１１ １１１１ １１１１ １１１１"));
    }

    #[test]
    fn what_only_passes_the_check_digit_is_not_a_card() {
        for other in OTHERS {
            assert!(!is_card_number(other) && !holds_card_number(&format!("code {other}")), "{other}");
        }
        assert!(!is_card_number("tok_4111111111111111"), "a token's name is its own");
        assert!(!is_card_number("4111111111111112"));
        assert!(!holds_card_number("941111111111111111234"), "part of a longer number");
        assert!(!holds_card_number("4111 1111 and 1111 1111"));
        for cents in 0..100 {
            assert!(!holds_card_number(&format!("4006381333931 1.{cents:02}")), "a barcode and its price");
        }
        assert!(!holds_card_number("+49 30 1234567, 2026-01-05 08:00"));
    }

    #[test]
    fn card_numbers_are_found_where_they_stand() {
        let text = "a 4111 1111 1111 1111, b 378282246310005";
        let found: Vec<_> = card_numbers(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["4111 1111 1111 1111", "378282246310005"]);
    }

    fn with_gtin_check_digit(body: &str) -> String {
        let sum: u32 = body
            .bytes()
            .rev()
            .enumerate()
            .map(|(place, byte)| u32::from(byte - b'0') * if place % 2 == 0 { 3 } else { 1 })
            .sum();
        format!("{body}{}", (10 - sum % 10) % 10)
    }

    proptest! {
        #[test]
        fn no_barcode_of_a_shop_is_a_card(body in "[0-9]{7}|[0-9]{11}|[0-9]{12}|[012456789][0-9]{12}") {
            let code = with_gtin_check_digit(&body);
            prop_assert!(!is_card_number(&code) && !holds_card_number(&code), "{}", code);
        }

        #[test]
        fn no_text_makes_the_search_fall_over(text in ".*", numbers in "[0-9 .-]{0,60}") {
            let _ = card_numbers(&text);
            let found = card_numbers(&numbers);
            prop_assert_eq!(found.is_empty(), !holds_card_number(&numbers));
        }
    }
}
