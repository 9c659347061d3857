//! One message: is it a valid event, and what does it say? Written from the tables of the event reference alone.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

const EVENT_BYTES_MAX: usize = 256 * 1024;
const NESTING_MAX: usize = 64;
const ID_BYTES_MAX: usize = 255;
const AMOUNT_MAX: i64 = 1_000_000_000_000;

/// A valid event of a terminal and where it stands on the log.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) source: String,
    pub(crate) store: String,
    pub(crate) terminal: String,
    pub(crate) kind: String,
    /// Event time, in milliseconds.
    pub(crate) time: i64,
    pub(crate) sequence: Option<u64>,
    pub(crate) training: bool,
    pub(crate) data: Value,
    pub(crate) partition: u32,
    pub(crate) offset: i64,
    /// The clock of its partition just after it, in milliseconds: its effective time.
    pub(crate) clock: i64,
    /// True if the clock of its partition had already passed its time.
    pub(crate) late: bool,
    /// True if the one who acted before it at its terminal was the same employee.
    pub(crate) same_actor: bool,
}

/// Further behind its effective time than this, in milliseconds, a till's own clock is not believed.
const BEHIND_MILLIS: i64 = 7 * 24 * 3600 * 1000;

impl Event {
    /// Its time, but not after its effective time, and its effective time if it is more than seven days before that.
    pub(crate) fn at(&self) -> i64 {
        if self.clock - self.time > BEHIND_MILLIS { self.clock } else { self.time.min(self.clock) }
    }

    /// True if its type is one that terminals send.
    pub(crate) fn is_known(&self) -> bool {
        table(&self.kind).is_some()
    }

    /// The text at a key of `data`.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.data.get(key).and_then(Value::as_str)
    }

    /// The text at a key of `data` that every event of this type has.
    pub(crate) fn required(&self, key: &str) -> &str {
        self.text(key).unwrap_or_else(|| panic!("{} {} has no {key}", self.kind, self.id))
    }

    /// True if the event is of this type.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }

    /// How alerts and labels name the event.
    pub(crate) fn name(&self) -> String {
        format!("{}#{}", self.source, self.id)
    }

    /// Which way its money goes.
    pub(crate) fn direction(&self) -> Option<&str> {
        match self.kind.as_str() {
            "pos.basket.item_added" => Some("sale"),
            "pos.basket.item_returned" | "pos.refund.completed" => Some("refund"),
            "pos.basket.subtotal_finalized" | "pos.payment.completed" => Some(self.text("direction").unwrap_or("sale")),
            _ => None,
        }
    }

    /// The money that the event is about, in minor units.
    pub(crate) fn amount(&self) -> Option<i64> {
        match self.kind.as_str() {
            "pos.basket.item_added" | "pos.basket.item_voided" | "pos.basket.item_returned" => {
                Some(self.data.get("amount").and_then(Value::as_i64).unwrap_or_else(|| self.line_amount()))
            }
            "pos.basket.subtotal_finalized" => self.data.get("total").and_then(Value::as_i64),
            _ => self.data.get("amount").and_then(Value::as_i64),
        }
    }

    /// The quantity of a line in ten-thousandths.
    pub(crate) fn parts(&self) -> i64 {
        self.data["quantity"].as_f64().and_then(parts).expect("a valid quantity")
    }

    /// Quantity times unit price, rounded half up.
    fn line_amount(&self) -> i64 {
        let exact = i128::from(self.parts()) * i128::from(self.data["unitPrice"].as_i64().expect("a valid price"));
        i64::try_from((exact + 5_000) / 10_000).expect("bounded")
    }
}

/// Why a message is a dead letter, as it stands there.
pub(crate) type Reason = &'static str;

/// What a key of `data` holds.
#[derive(Clone, Copy)]
enum Holds {
    Id,
    Text,
    Amount,
    Quantity,
    Currency,
    Count,
    Age,
    Flag,
    Number,
    AgeOutcome,
    SignedAmount,
    Direction,
}

use Holds::{Age, AgeOutcome, Amount, Count, Currency, Direction, Flag, Id, Quantity, SignedAmount, Text};

/// Keys of `data` by event type; a key that ends in `?` may be absent.
fn table(kind: &str) -> Option<&'static [(&'static str, Holds)]> {
    Some(match kind {
        "pos.employee.logged_in" | "pos.employee.logged_out" | "pos.drawer.opened" => {
            &[("employeeId", Id), ("reason?", Text)]
        }
        "pos.basket.started" => &[("basketId", Id), ("employeeId", Id)],
        "pos.customer.identified" => &[("basketId", Id), ("employeeId", Id), ("customerId", Id), ("method?", Text)],
        "pos.basket.item_added" | "pos.basket.item_returned" => &[
            ("basketId", Id),
            ("employeeId", Id),
            ("line", Count),
            ("productId", Id),
            ("description?", Text),
            ("category", Text),
            ("quantity", Quantity),
            ("unitPrice", Amount),
            ("amount?", Amount),
            ("currency", Currency),
            ("entryMethod?", Text),
        ],
        "pos.basket.item_voided" => &[
            ("basketId", Id),
            ("employeeId", Id),
            ("line", Count),
            ("productId", Id),
            ("quantity", Quantity),
            ("unitPrice", Amount),
            ("amount?", Amount),
            ("currency", Currency),
            ("reason?", Text),
        ],
        "pos.basket.subtotal_finalized" => &[
            ("basketId", Id),
            ("employeeId", Id),
            ("itemCount", Count),
            ("subtotal", Amount),
            ("tax", Amount),
            ("total", Amount),
            ("currency", Currency),
            ("direction?", Direction),
            ("taxIncluded?", Flag),
            ("rounding?", SignedAmount),
        ],
        "pos.payment.completed" => &[
            ("basketId", Id),
            ("employeeId", Id),
            ("paymentId", Id),
            ("method", Text),
            ("amount", Amount),
            ("currency", Currency),
            ("cardToken?", Id),
            ("customerId?", Id),
            ("direction?", Direction),
            ("tip?", Amount),
            ("change?", Amount),
        ],
        "pos.basket.cancelled" | "pos.basket.suspended" | "pos.basket.resumed" => {
            &[("basketId", Id), ("employeeId", Id), ("reason?", Text)]
        }
        "pos.discount.applied" => &[
            ("basketId", Id),
            ("employeeId", Id),
            ("line?", Count),
            ("amount", Amount),
            ("percent?", Holds::Number),
            ("currency", Currency),
            ("manual", Flag),
            ("reason?", Text),
        ],
        "pos.refund.completed" => &[
            ("refundId", Id),
            ("employeeId", Id),
            ("basketId?", Id),
            ("originalBasketId?", Id),
            ("amount", Amount),
            ("currency", Currency),
            ("method", Text),
            ("cardToken?", Id),
            ("receipt", Flag),
        ],
        "pos.age.checked" => &[
            ("basketId", Id),
            ("employeeId", Id),
            ("outcome", AgeOutcome),
            ("minimumAge", Age),
            ("supervisorId?", Id),
            ("reason?", Text),
        ],
        _ => return None,
    })
}

/// Types that are Tillstream's own; a terminal that sends one forges it.
const RESERVED_PREFIX: &str = "tillstream.";

const FORBIDDEN_KEYS: [&str; 11] = [
    "cardNumber",
    "card_number",
    "pan",
    "cvv",
    "cvc",
    "trackData",
    "dateOfBirth",
    "date_of_birth",
    "birthDate",
    "birthday",
    "dob",
];

/// Reads a message.
///
/// # Errors
/// The reason for which it is a dead letter.
pub(crate) fn read(bytes: &[u8]) -> Result<Event, Reason> {
    if bytes.len() > EVENT_BYTES_MAX {
        return Err("too_large");
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "not_utf8")?;
    if nesting(text) > NESTING_MAX {
        return Err("too_deep");
    }
    let Strict(message) = serde_json::from_str(text)
        .map_err(|error| if error.to_string().starts_with(TWICE) { "duplicate_key" } else { "not_json" })?;
    let message = message.as_object().ok_or("invalid_field")?;
    for key in ["specversion", "id", "source", "type"] {
        match message.get(key) {
            None => return Err("missing_field"),
            Some(value) if !value.is_string() => return Err("invalid_field"),
            Some(_) => {}
        }
    }
    let attribute = |key: &str| message.get(key).and_then(Value::as_str).unwrap_or_default();
    let kind = attribute("type");
    if attribute("specversion") != "1.0" || [attribute("id"), attribute("source"), kind].iter().any(|id| !is_id(id)) {
        return Err("invalid_field");
    }
    let sequence = message.get("sequence").filter(|value| !value.is_null()).map(sequence).transpose()?;
    let training = match message.get("training") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(flag)) => *flag,
        Some(_) => return Err("invalid_field"),
    };
    if kind.starts_with(RESERVED_PREFIX) {
        return Err("invalid_field");
    }
    let time = match message.get("time") {
        Some(Value::String(time)) => time.parse::<jiff::Timestamp>().map_err(|_| "invalid_field")?.as_millisecond(),
        None | Some(Value::Null) if table(kind).is_none() => 0,
        None | Some(Value::Null) => return Err("missing_field"),
        Some(_) => return Err("invalid_field"),
    };
    let source = attribute("source");
    let (store, terminal) = match (terminal_of(source), table(kind)) {
        (Some(place), _) => place,
        (None, Some(_)) => return Err("invalid_field"),
        (None, None) => ("", ""),
    };
    let data = message.get("data").cloned().unwrap_or(Value::Null);
    if let Some(table) = table(kind) {
        check_data(message.get("data"), table)?;
    }
    Ok(Event {
        id: attribute("id").to_owned(),
        source: source.to_owned(),
        store: store.to_owned(),
        terminal: terminal.to_owned(),
        kind: kind.to_owned(),
        time,
        sequence,
        training,
        data,
        partition: 0,
        offset: 0,
        clock: 0,
        late: false,
        same_actor: false,
    })
}

fn check_data(data: Option<&Value>, table: &[(&str, Holds)]) -> Result<(), Reason> {
    let data = data.ok_or("missing_field")?.as_object().ok_or("invalid_field")?;
    if data.keys().any(|key| FORBIDDEN_KEYS.contains(&key.as_str())) {
        return Err("forbidden_data");
    }
    for (key, holds) in table {
        let (key, optional) = key.strip_suffix('?').map_or((*key, false), |key| (key, true));
        match data.get(key) {
            None | Some(Value::Null) if optional => {}
            None => return Err("missing_field"),
            Some(value) if !fits(value, *holds) => return Err("invalid_field"),
            Some(value) if key == "cardToken" && value.as_str().is_some_and(is_card_number) => {
                return Err("forbidden_data");
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn fits(value: &Value, holds: Holds) -> bool {
    match holds {
        Id => value.as_str().is_some_and(is_id),
        Text => value.is_string(),
        Amount => value.as_i64().is_some_and(|amount| (0..=AMOUNT_MAX).contains(&amount)),
        Quantity => value.as_f64().and_then(parts).is_some_and(|quantity| (1..=10_000_000_000).contains(&quantity)),
        SignedAmount => value.as_i64().is_some_and(|amount| (-AMOUNT_MAX..=AMOUNT_MAX).contains(&amount)),
        Direction => matches!(value.as_str(), Some("sale" | "refund")),
        Currency => value.as_str().is_some_and(|code| code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase())),
        Count => value.as_u64().is_some_and(|count| u32::try_from(count).is_ok()),
        Age => value.as_u64().is_some_and(|age| u8::try_from(age).is_ok()),
        Flag => value.is_boolean(),
        Holds::Number => value.is_number(),
        AgeOutcome => {
            matches!(value.as_str(), Some("approved_visual" | "approved_id" | "refused" | "overridden"))
        }
    }
}

/// A quantity in ten-thousandths, unless it has more than four decimal places.
fn parts(quantity: f64) -> Option<i64> {
    let scaled = quantity * 10_000.0;
    let rounded = scaled.round();
    #[expect(clippy::cast_possible_truncation, reason = "out of range saturates and is refused by the bounds")]
    ((scaled - rounded).abs() <= 1e-3).then_some(rounded as i64)
}

/// Blanks around an id do not count; nothing in it may be a control character or a mark that nobody sees.
fn is_id(text: &str) -> bool {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    (1..=ID_BYTES_MAX).contains(&text.trim().len()) && !text.chars().any(hidden)
}

fn sequence(value: &Value) -> Result<u64, Reason> {
    let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok())).unwrap_or(0);
    if (1..=1 << 53).contains(&number) { Ok(number) } else { Err("invalid_field") }
}

/// Store and terminal of `/stores/STORE/terminals/TERMINAL`.
fn terminal_of(source: &str) -> Option<(&str, &str)> {
    let parts: Vec<&str> = source.split('/').collect();
    match parts[..] {
        ["", "stores", store, "terminals", terminal] if !store.is_empty() && !terminal.is_empty() => {
            Some((store, terminal))
        }
        _ => None,
    }
}

/// Prefixes of issuers and the lengths of their numbers.
const ISSUERS: &[(&str, std::ops::RangeInclusive<usize>)] = &[
    ("4", 13..=13),
    ("4", 16..=16),
    ("4", 19..=19),
    ("51", 16..=16),
    ("52", 16..=16),
    ("53", 16..=16),
    ("54", 16..=16),
    ("55", 16..=16),
    ("34", 15..=15),
    ("37", 15..=15),
    ("36", 14..=19),
    ("38", 14..=19),
    ("39", 14..=19),
    ("6011", 16..=19),
    ("65", 16..=19),
    ("62", 16..=19),
    ("81", 16..=19),
    ("50", 13..=19),
    ("56", 13..=19),
    ("57", 13..=19),
    ("58", 13..=19),
    ("67", 13..=19),
];

/// An issuer's prefix and length, the Luhn check, and no barcode. Knows the issuers whose numbers the rig makes.
pub(crate) fn is_card_number(text: &str) -> bool {
    if !text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b' ' | b'-' | b'.')) {
        return false;
    }
    let written: String = text.chars().filter(char::is_ascii_digit).collect();
    let digits: Vec<u32> = written.chars().rev().filter_map(|c| c.to_digit(10)).collect();
    let luhn: u32 = digits
        .iter()
        .enumerate()
        .map(|(place, digit)| if place % 2 == 0 { *digit } else { digit * 2 / 10 + digit * 2 % 10 })
        .sum();
    let gtin: u32 = digits.iter().enumerate().map(|(place, digit)| digit * [1, 3][place % 2]).sum();
    let barcode = gtin.is_multiple_of(10) && (digits.len() == 13 || (digits.len() == 14 && !written.starts_with('3')));
    let issued = ISSUERS.iter().any(|(prefix, lengths)| written.starts_with(prefix) && lengths.contains(&digits.len()));
    issued && luhn.is_multiple_of(10) && !barcode
}

fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

const TWICE: &str = "a key comes twice";

/// JSON in which no object holds a key twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(value.into())
            }
            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(value.into())
            }
            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
            }
            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(value.into())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(Strict(item)) = items.next_element()? {
                    list.push(item);
                }
                Ok(list.into())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
                let mut seen = BTreeMap::new();
                let mut object = Map::new();
                while let Some((key, Strict(value))) = entries.next_entry::<String, Strict>()? {
                    if seen.insert(key.clone(), ()).is_some() {
                        return Err(de::Error::custom(TWICE));
                    }
                    object.insert(key, value);
                }
                Ok(object.into())
            }
        }
        deserializer.deserialize_any(Any).map(Strict)
    }
}
