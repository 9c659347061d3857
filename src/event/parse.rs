//! From bytes to [`Event`]: one pass over the envelope, one over `data`, and a slow second look only to name a fault.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use compact_str::CompactString;
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::one_pass;
use super::unique_keys::UniqueKeys;
use super::{
    EVENT_BYTES_MAX, Event, EventClass, EventData, EventError, EventType, Id, NESTING_MAX, Reason, Source,
    is_card_number,
};
use crate::time::Timestamp;

#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Largest `sequence`: every JSON reader knows whole numbers up to here exactly.
pub(super) const SEQUENCE_MAX: u64 = 1 << 53;

/// `sequence` is an integer; the CloudEvents extension of that name says string, so a decimal string is taken as well.
pub(super) struct Sequence(u64);

impl<'de> Deserialize<'de> for Sequence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl de::Visitor<'_> for Number {
            type Value = Sequence;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer of at least 1")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Sequence, E> {
                if value == 0 || value > SEQUENCE_MAX {
                    return Err(E::custom("is not an integer between 1 and 2^53"));
                }
                Ok(Sequence(value))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Sequence, E> {
                self.visit_u64(u64::try_from(value).unwrap_or(0))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Sequence, E> {
                // Digits only: a number's text may also begin with a plus sign.
                let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
                self.visit_u64(text.parse().ok().filter(|_| is_decimal).unwrap_or(0))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(borrow)]
    pub(super) specversion: Text<'a>,
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) source: Text<'a>,
    #[serde(borrow, rename = "type")]
    pub(super) type_name: Text<'a>,
    #[serde(borrow)]
    pub(super) time: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) subject: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) datacontenttype: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
    pub(super) sequence: Option<Sequence>,
    #[serde(borrow)]
    pub(super) partitionkey: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) businessday: Option<Text<'a>>,
    pub(super) training: Option<bool>,
    #[serde(borrow)]
    pub(super) causationid: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) correlationid: Option<Text<'a>>,
}

/// Keys of `data` that would hold what no event may hold.
pub(super) const FORBIDDEN_KEYS: [&str; 11] = [
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

pub(crate) fn is_forbidden_key(key: &str) -> bool {
    FORBIDDEN_KEYS.contains(&key)
}

fn fault(reason: Reason, field: &str, message: impl Into<String>) -> EventError {
    EventError { reason, field: (!field.is_empty()).then(|| field.to_owned()), message: message.into() }
}

impl Event {
    /// Reads an event in structured JSON mode.
    ///
    /// # Errors
    /// If the bytes are not a valid CloudEvents 1.0 event of a known type with valid data, or of an unknown type. The
    /// error names the field at fault.
    pub fn parse(raw: &Bytes) -> Result<Self, EventError> {
        if raw.len() > EVENT_BYTES_MAX {
            return Err(fault(Reason::TooLarge, "", format!("{} bytes, more than {EVENT_BYTES_MAX}", raw.len())));
        }
        let text = std::str::from_utf8(raw)
            .map_err(|error| fault(Reason::NotUtf8, "", format!("not UTF-8 at byte {}", error.valid_up_to())))?;
        check_nesting(text)?;
        if let Some((envelope, data)) = one_pass::read(text) {
            return from_envelope(&envelope, Some(data), raw.clone());
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let envelope = Envelope::deserialize(UniqueKeys { inner: &mut deserializer, check: &mut |_| None })
            .and_then(|envelope| deserializer.end().map(|()| envelope))
            .map_err(|error| locate::<Envelope<'_>>(text, "", &error))?;
        from_envelope(&envelope, None, raw.clone())
    }

    /// Reads an event in binary mode: attributes in `ce_*` headers (`content-type` is `datacontenttype`), `data` in the body.
    ///
    /// # Errors
    /// As [`Event::parse`]; fields are named as in structured mode.
    pub fn parse_binary<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        body: &[u8],
    ) -> Result<Self, EventError> {
        if body.len() > EVENT_BYTES_MAX {
            return Err(fault(Reason::TooLarge, "", format!("{} bytes, more than {EVENT_BYTES_MAX}", body.len())));
        }
        let mut object = serde_json::Map::new();
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            let attribute = match name.strip_prefix("ce_").or_else(|| name.strip_prefix("ce-")) {
                Some(attribute) => attribute,
                None if name == "content-type" => "datacontenttype",
                None => continue,
            };
            let value =
                std::str::from_utf8(value).map_err(|_| fault(Reason::NotUtf8, attribute, "the header is not UTF-8"))?;
            let value = match (attribute, value) {
                ("training", "true") => true.into(),
                ("training", "false") => false.into(),
                _ => value.into(),
            };
            if object.insert(attribute.to_owned(), value).is_some() {
                return Err(fault(Reason::DuplicateKey, attribute, "the header comes twice"));
            }
        }
        let text = std::str::from_utf8(body)
            .map_err(|error| fault(Reason::NotUtf8, "data", format!("not UTF-8 at byte {}", error.valid_up_to())))?;
        check_nesting(text)?;
        let mut structured =
            serde_json::to_string(&object).map_err(|error| fault(Reason::InvalidField, "", error.to_string()))?;
        if !text.trim().is_empty() {
            let data: &RawValue =
                serde_json::from_str(text).map_err(|error| fault(Reason::NotJson, "data", error.to_string()))?;
            structured.pop();
            if !object.is_empty() {
                structured.push(',');
            }
            structured.push_str("\"data\":");
            structured.push_str(data.get());
            structured.push('}');
        }
        Self::parse(&Bytes::from(structured))
    }
}

/// `data` is absent where it has not been read yet.
fn from_envelope(envelope: &Envelope<'_>, data: Option<EventData>, raw: Bytes) -> Result<Event, EventError> {
    if envelope.specversion.0 != "1.0" {
        return Err(fault(
            Reason::InvalidField,
            "specversion",
            format!("is {:?}; only 1.0 is understood", envelope.specversion.0),
        ));
    }
    let id = Id::read(&envelope.id.0).map_err(|error| fault(Reason::InvalidField, "id", error.to_string()))?;
    let source =
        Source::read(&envelope.source.0).map_err(|error| fault(Reason::InvalidField, "source", error.to_string()))?;
    let type_name = &envelope.type_name.0;
    Id::check(type_name).map_err(|error| fault(Reason::InvalidField, "type", error.to_string()))?;
    let mut kind = EventType::from_name(type_name);
    let type_name = match kind {
        EventType::Unknown => CompactString::new(type_name),
        known => CompactString::const_new(known.as_str()),
    };
    let time = match &envelope.time {
        Some(time) => {
            Timestamp::parse(&time.0).map_err(|error| fault(Reason::InvalidField, "time", error.to_string()))?
        }
        None if kind == EventType::Unknown => Timestamp::MIN,
        None => return Err(fault(Reason::MissingField, "time", "is missing")),
    };
    match kind.class() {
        // A terminal's fact must name its terminal, else nobody could say which partition and entity it belongs to.
        EventClass::Terminal if kind != EventType::Unknown && source.terminal_id().is_none() => {
            return Err(fault(Reason::InvalidField, "source", "is not /stores/STORE/terminals/TERMINAL"));
        }
        // What plugins publish is taken from plugins only; from anybody else it would be a forgery, and is no known fact.
        EventClass::Plugin | EventClass::Internal if source.plugin().is_none() => {
            if kind.class() == EventClass::Internal {
                return Err(fault(Reason::InvalidField, "type", "is reserved for Tillstream itself"));
            }
            kind = EventType::Unknown;
        }
        _ => {}
    }
    let business_day = match &envelope.businessday {
        Some(day) => Some(
            parse_date(&day.0)
                .ok_or_else(|| fault(Reason::InvalidField, "businessday", "is not a date such as 2026-01-05"))?,
        ),
        None => None,
    };
    if let Some(content_type) = &envelope.datacontenttype
        && kind != EventType::Unknown
        && !content_type.0.to_ascii_lowercase().contains("json")
    {
        return Err(fault(
            Reason::InvalidField,
            "datacontenttype",
            format!("is {:?}; only JSON is understood", content_type.0),
        ));
    }
    let data = match data {
        Some(data) => checked_token(data)?,
        None => parse_data(kind, envelope.data)?,
    };
    let owned = |text: &Option<Text<'_>>| text.as_ref().map(|text| CompactString::new(&text.0));
    Ok(Event {
        id,
        source,
        data,
        type_name,
        time,
        sequence: envelope.sequence.as_ref().map(|sequence| sequence.0),
        training: envelope.training.unwrap_or(false),
        business_day,
        subject: owned(&envelope.subject),
        partition_key: owned(&envelope.partitionkey),
        causation_id: owned(&envelope.causationid),
        correlation_id: owned(&envelope.correlationid),
        raw,
    })
}

/// A date as RFC 3339 has it; jiff reads more forms of ISO 8601, and date-times.
fn parse_date(text: &str) -> Option<jiff::civil::Date> {
    let is_plain = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(index, byte)| if matches!(index, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
    if is_plain { text.parse().ok() } else { None }
}

fn parse_data(kind: EventType, raw: Option<&RawValue>) -> Result<EventData, EventError> {
    if kind == EventType::Unknown {
        return Ok(EventData::Unknown);
    }
    let Some(raw) = raw else {
        return Err(fault(Reason::MissingField, "data", "is missing"));
    };
    let text = raw.get();
    if !text.starts_with('{') {
        return Err(fault(Reason::InvalidField, "data", "is not an object"));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let data = EventData::read(kind, UniqueKeys { inner: &mut deserializer, check: &mut forbidden })
        .map_err(|error| locate_data(kind, text, &error))?;
    checked_token(data)
}

/// The check of keys in `data` that are not an event's own.
pub(super) fn forbidden(key: &str) -> Option<String> {
    is_forbidden_key(key).then(|| format!("forbidden field `{key}`"))
}

fn checked_token(data: EventData) -> Result<EventData, EventError> {
    match data.card_token() {
        Some(token) if is_card_number(token) => Err(fault(
            Reason::ForbiddenData,
            "data.cardToken",
            "looks like a card number; send a token that stands for the card",
        )),
        _ => Ok(data),
    }
}

/// Nesting is bounded before anything else looks at the text; most events are done after counting their brackets.
fn check_nesting(text: &str) -> Result<(), EventError> {
    if memchr::memchr2_iter(b'{', b'[', text.as_bytes()).take(NESTING_MAX + 1).count() <= NESTING_MAX {
        return Ok(());
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > NESTING_MAX {
                    return Err(fault(Reason::TooDeep, "", format!("nested deeper than {NESTING_MAX}")));
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Reads the text a second time, slowly, to learn which field was at fault. What is no JSON at all has no fields, even
/// if the first pass came across a wrong one before the text broke off.
fn locate<'a, T: Deserialize<'a>>(text: &'a str, prefix: &str, error: &serde_json::Error) -> EventError {
    if let Err(error) = serde_json::from_str::<de::IgnoredAny>(text) {
        return fault(Reason::NotJson, prefix, format!("not JSON: {error}"));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let path = serde_path_to_error::deserialize::<_, T>(&mut deserializer).err().map(|error| error.path().to_string());
    name_fault(prefix, path.as_deref(), error)
}

fn locate_data(kind: EventType, text: &str, error: &serde_json::Error) -> EventError {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let mut track = serde_path_to_error::Track::new();
    let result = EventData::read(kind, serde_path_to_error::Deserializer::new(&mut deserializer, &mut track));
    let path = result.is_err().then(|| track.path().to_string());
    name_fault("data", path.as_deref(), error)
}

fn name_fault(prefix: &str, path: Option<&str>, error: &serde_json::Error) -> EventError {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    let quoted = || message.split('`').nth(1).unwrap_or_default();
    let join = |field: &str| match (prefix, field) {
        ("", field) => field.to_owned(),
        (prefix, "" | ".") => prefix.to_owned(),
        (prefix, field) => format!("{prefix}.{field}"),
    };
    if error.is_syntax() || error.is_eof() {
        return fault(Reason::NotJson, prefix, format!("not JSON: {error}"));
    }
    if message.starts_with("missing field") {
        return fault(Reason::MissingField, &join(quoted()), "is missing");
    }
    if message.starts_with("duplicate field") {
        return fault(Reason::DuplicateKey, &join(quoted()), "comes twice");
    }
    if message.starts_with("forbidden field") {
        return fault(Reason::ForbiddenData, &join(quoted()), "no event may hold card numbers or dates of birth");
    }
    let field = path.filter(|path| *path != ".").unwrap_or_default();
    fault(Reason::InvalidField, &join(field), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(data: &str) -> String {
        format!(
            r#"{{"specversion":"1.0","id":"e1","source":"/stores/S001/terminals/T0007","type":"pos.basket.item_added","time":"2026-01-05T08:00:00Z","sequence":"7","training":true,"x-till":1,"data":{data}}}"#
        )
    }

    const GOOD: &str = r#"{"basketId":"b1","employeeId":"E7","line":1,"productId":"P1","category":"dairy","quantity":0.5,"unitPrice":199,"currency":"EUR","shelf":"A3"}"#;

    fn parse(text: &str) -> Result<Event, EventError> {
        Event::parse(&Bytes::copy_from_slice(text.as_bytes()))
    }

    fn refusal(text: &str) -> (Reason, String) {
        let error = parse(text).expect_err("must be refused");
        (error.reason, error.field.unwrap_or_default())
    }

    #[test]
    fn a_good_event_is_typed_and_keeps_what_it_does_not_know() {
        let event = parse(&item(GOOD)).unwrap();
        assert_eq!(event.event_type(), EventType::ItemAdded);
        assert_eq!((event.store_id(), event.terminal_id()), (Some("S001"), Some("T0007")));
        assert_eq!((event.sequence, event.training, event.data.amount()), (Some(7), true, Some(100)));
        assert!(std::str::from_utf8(&event.raw).unwrap().contains("\"shelf\":\"A3\""));
    }

    #[test]
    fn each_fault_names_its_field() {
        let cases = [
            (r#"{"id":"x""#.to_owned(), Reason::NotJson, ""),
            (item(GOOD).replace(r#""time":""#, r#""time":[""#), Reason::NotJson, ""),
            (item(GOOD).replace(r#""type":"pos.basket.item_added","#, ""), Reason::MissingField, "type"),
            (item(&GOOD.replace(r#""line":1,"#, "")), Reason::MissingField, "data.line"),
            (item(&GOOD.replace("199", "\"199\"")), Reason::InvalidField, "data.unitPrice"),
            (item(&GOOD.replace("199", "-1")), Reason::InvalidField, "data.unitPrice"),
            (item(&GOOD.replace("199", "99999999999999999999")), Reason::InvalidField, "data.unitPrice"),
            (item(&GOOD.replace("0.5", "0.12345")), Reason::InvalidField, "data.quantity"),
            (item(&GOOD.replace("\"P1\"", "\" \\u200f \"")), Reason::InvalidField, "data.productId"),
            (item(GOOD).replace("/T0007", "/ T0007"), Reason::InvalidField, "source"),
            (item(&GOOD.replace(r#""shelf":"A3""#, r#""line":2"#)), Reason::DuplicateKey, "data.line"),
            (item(&GOOD.replace(r#""shelf":"A3""#, r#""a":2,"a":3"#)), Reason::DuplicateKey, "data.a"),
            (item(GOOD).replace("\"id\":\"e1\"", "\"id\":\"e1\",\"id\":\"e2\""), Reason::DuplicateKey, "id"),
            (item(&GOOD.replace("shelf", "dateOfBirth")), Reason::ForbiddenData, "data.dateOfBirth"),
            (item(GOOD).replace("\"7\"", "0"), Reason::InvalidField, "sequence"),
            (item(GOOD).replace("2026-01-05T08:00:00Z", "yesterday"), Reason::InvalidField, "time"),
            (item(GOOD).replace("terminals/T0007", "T0007"), Reason::InvalidField, "source"),
            (item("[1]"), Reason::InvalidField, "data"),
            ("[]".to_owned(), Reason::InvalidField, ""),
            ("null".to_owned(), Reason::InvalidField, ""),
        ];
        for (text, reason, field) in cases {
            assert_eq!(refusal(&text), (reason, field.to_owned()), "{text}");
        }
    }

    #[test]
    fn hostile_sizes_are_refused_without_a_deep_look() {
        let deep = item(&format!("{{\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000)));
        assert_eq!(refusal(&deep).0, Reason::TooDeep);
        assert_eq!(refusal(&" ".repeat(2_000_000)).0, Reason::TooLarge);
        let bytes = Bytes::from_static(b"{\"id\":\"\xff\"}");
        assert_eq!(Event::parse(&bytes).unwrap_err().reason, Reason::NotUtf8);
    }

    #[test]
    fn binary_mode_gives_the_same_event() {
        let headers: [(&str, &[u8]); 7] = [
            ("ce_specversion", b"1.0"),
            ("ce_id", b"e1"),
            ("ce_source", b"/stores/S001/terminals/T0007"),
            ("ce_sequence", b"7"),
            ("ce_type", b"pos.basket.item_added"),
            ("ce_time", b"2026-01-05T08:00:00Z"),
            ("content-type", b"application/json"),
        ];
        let event = Event::parse_binary(headers, GOOD.as_bytes()).unwrap();
        assert_eq!(event.data, parse(&item(GOOD)).unwrap().data);
        assert_eq!(event.raw, Event::parse(&event.raw).unwrap().raw);
    }

    #[test]
    fn unknown_types_pass_and_forged_plugin_events_count_as_unknown() {
        let unknown = r#"{"specversion":"1.0","id":"1","source":"/x","type":"com.example.other","data":[1]}"#;
        assert_eq!(parse(unknown).unwrap().event_type(), EventType::Unknown);
        let forged = item(GOOD).replace("pos.basket.item_added", "pos.fraud.alert_raised");
        assert_eq!(parse(&forged).unwrap().event_type(), EventType::Unknown);
        let internal = item("{}").replace("pos.basket.item_added", "tillstream.tick");
        assert_eq!(refusal(&internal).0, Reason::InvalidField);
    }

    #[test]
    fn a_card_number_in_place_of_a_token_is_refused() {
        let payment = item(r#"{"basketId":"b","employeeId":"E","paymentId":"p","method":"card","amount":1,"currency":"EUR","cardToken":"4111111111111111"}"#)
            .replace("pos.basket.item_added", "pos.payment.completed");
        assert_eq!(refusal(&payment), (Reason::ForbiddenData, "data.cardToken".to_owned()));
    }
}
