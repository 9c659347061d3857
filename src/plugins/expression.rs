//! CEL expressions over `event`, for eligibility and fraud rules.
//!
//! A manager writes them, so nothing that they can write may hang, exhaust or crash the process: length, brackets,
//! depth, macros and additions are bounded when an expression is compiled, the size of the event when it is evaluated.
//! Which parts of `event` an expression reads is known from its syntax; only those are computed.

mod check;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::objects::{Key, Map};
use cel::{Context, Env, Program, Value};
use jiff::civil::Weekday;
use serde::Deserialize;
use serde_json::value::RawValue;

use self::check::{check_brackets, fields_read};
use crate::event::{Event, Id, Scope};
use crate::stores::Stores;

/// Longest expression in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 1000;
/// Largest event in bytes that is shown to an expression.
const EVENT_BYTES_MAX: usize = 16 * 1024;
/// Stack of the thread that compiles; the parser recurses before the depth is known.
const COMPILE_STACK_BYTES: usize = 64 * 1024 * 1024;

/// The fields of `event`, in the order of the bits in [`Expression::fields`].
const FIELDS: [&str; 20] = [
    "type",
    "source",
    "id",
    "time",
    "storeId",
    "terminalId",
    "employeeId",
    "customerId",
    "cardToken",
    "basketId",
    "category",
    "amount",
    "training",
    "businessDay",
    "localHour",
    "localMinute",
    "weekday",
    "storeOpen",
    "data",
    "sequence",
];

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A checked expression.
#[derive(Debug)]
pub struct Expression {
    program: Program,
    fields: u32,
}

impl Expression {
    /// Checks an expression.
    ///
    /// # Errors
    /// What is wrong, with `line:column` where that is known.
    pub fn compile(text: &str) -> Result<Self, String> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(format!("is {} bytes long, at most {EXPRESSION_BYTES_MAX} are allowed", text.len()));
        }
        if text.trim().is_empty() {
            return Err("is empty; leave the key out if every event shall qualify".to_owned());
        }
        check_brackets(text)?;
        let text = text.to_owned();
        std::thread::Builder::new()
            .stack_size(COMPILE_STACK_BYTES)
            .spawn(move || compile(&text))
            .map_err(|error| format!("could not be checked: {error}"))?
            .join()
            .unwrap_or_else(|_| Err("is not an expression that can be understood".to_owned()))
    }

    /// Evaluates the expression.
    ///
    /// # Errors
    /// Why it gives neither true nor false for this event.
    pub fn matches(&self, event: &Event, stores: &Stores) -> Result<bool, String> {
        if event.raw.len() > EVENT_BYTES_MAX {
            return Err(format!("the event has {} bytes; expressions see at most {EVENT_BYTES_MAX}", event.raw.len()));
        }
        let value = self.event_value(event, stores)?;
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut context = Context::with_env(ENVIRONMENT.clone());
            context.add_variable_from_value("event", value);
            self.program.execute(&context)
        }));
        match result {
            Ok(Ok(Value::Bool(matches))) => Ok(matches),
            Ok(Ok(other)) => Err(format!("gave a {}, not true or false", other.type_of())),
            Ok(Err(error)) => Err(shorten(&error.to_string())),
            Err(_) => Err("could not be evaluated".to_owned()),
        }
    }

    /// Only the fields that the expression reads.
    fn event_value(&self, event: &Event, stores: &Stores) -> Result<Value, String> {
        let mut fields = HashMap::new();
        let store_id = event.store_id().unwrap_or_default();
        let local = LazyLock::new(|| stores.local(store_id, event.time));
        for (bit, name) in FIELDS.iter().enumerate() {
            if self.fields & 1 << bit == 0 {
                continue;
            }
            let value = match *name {
                "type" => text(Some(&event.type_name)),
                "source" => text(Some(event.source.as_str())),
                "id" => text(Some(&event.id)),
                "time" => text(Some(&event.time.to_string())),
                "storeId" => text(event.store_id()),
                "terminalId" => text(event.terminal_id()),
                "employeeId" => text(event.entity(Scope::Employee)),
                "customerId" => text(event.entity(Scope::Customer)),
                "cardToken" => text(event.entity(Scope::Card)),
                "basketId" => text(event.data.basket_id().map(Id::as_str)),
                "category" => text(event.data.category()),
                "amount" => event.data.amount().map_or(Value::Null, Value::Int),
                "training" => Value::Bool(event.training),
                "businessDay" => {
                    let day = event.business_day.unwrap_or_else(|| stores.business_day(store_id, event.time));
                    text(Some(&day.to_string()))
                }
                "localHour" => Value::Int(local.hour().into()),
                "localMinute" => Value::Int(local.minute().into()),
                "weekday" => text(Some(weekday(local.weekday()))),
                "storeOpen" => stores.is_open(store_id, event.time).map_or(Value::Null, Value::Bool),
                "data" => data(event)?,
                _ => event.sequence.and_then(|number| i64::try_from(number).ok()).map_or(Value::Null, Value::Int),
            };
            fields.insert(Key::from(*name), value);
        }
        Ok(Value::Map(Map { map: Arc::new(fields) }))
    }
}

const fn weekday(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "mon",
        Weekday::Tuesday => "tue",
        Weekday::Wednesday => "wed",
        Weekday::Thursday => "thu",
        Weekday::Friday => "fri",
        Weekday::Saturday => "sat",
        Weekday::Sunday => "sun",
    }
}

/// Values can be long; errors are shown to people.
fn shorten(message: &str) -> String {
    message.char_indices().nth(200).map_or_else(|| message.to_owned(), |(end, _)| format!("{}…", &message[..end]))
}

fn text(value: Option<&str>) -> Value {
    value.map_or(Value::Null, Value::from)
}

/// The `data` of an event as it came, unknown keys included.
///
/// # Errors
/// Never for an event that was parsed.
pub(super) fn raw_data(event: &Event) -> Result<serde_json::Value, String> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    let envelope: Envelope<'_> = serde_json::from_slice(&event.raw).map_err(|error| error.to_string())?;
    envelope
        .data
        .map_or(Ok(serde_json::Value::Null), |data| serde_json::from_str(data.get()).map_err(|error| error.to_string()))
}

fn data(event: &Event) -> Result<Value, String> {
    raw_data(event).map(from_json)
}

fn from_json(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::Int)
        }
        serde_json::Value::String(text) => Value::String(Arc::new(text)),
        serde_json::Value::Array(items) => Value::List(Arc::new(items.into_iter().map(from_json).collect())),
        serde_json::Value::Object(object) => {
            let map = object.into_iter().map(|(key, value)| (Key::from(key), from_json(value))).collect();
            Value::Map(Map { map: Arc::new(map) })
        }
    }
}

fn compile(text: &str) -> Result<Expression, String> {
    let program = ENVIRONMENT.compile(text).map_err(|errors| {
        errors.errors.first().map_or_else(
            || "is not a CEL expression".to_owned(),
            |error| {
                let (line, column) = error.pos;
                format!("{line}:{column}: {}", shorten(&error.msg))
            },
        )
    })?;
    let fields = fields_read(&program)?;
    Ok(Expression { program, fields })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventType;
    use crate::event::NewEvent;
    use crate::time::Timestamp;
    use serde_json::json;

    fn refund(extra: &serde_json::Value) -> Event {
        let mut data = json!({"refundId": "R1", "employeeId": "E7", "amount": 5000, "currency": "EUR", "method": "cash",
            "receipt": false});
        data.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let time = Timestamp::parse("2026-01-05T05:30:00Z").unwrap();
        NewEvent::new("1", "/stores/S001/terminals/T1", EventType::RefundCompleted, time, data).to_event()
    }

    fn stores() -> Stores {
        let stores = json!({"S001": {"timeZone": "Europe/Berlin", "businessDayStart": "04:00", "hours": {"mon": "07:00-21:00"}}});
        Stores::new(serde_json::from_value(stores).unwrap()).unwrap()
    }

    fn eval(text: &str) -> Result<bool, String> {
        let event = refund(&json!({"voucher": {"codes": ["A", "B"]}, "factor": 1.5}));
        Expression::compile(text).and_then(|expression| expression.matches(&event, &stores()))
    }

    #[test]
    fn expressions_see_the_envelope_the_data_and_the_stores_clock() {
        for text in [
            "event.type == 'pos.refund.completed' && event.storeId == 'S001' && event.terminalId == 'T1'",
            "event.data.receipt == false && event.amount >= 5000 && event.data.amount == 5000",
            "event.data.voucher.codes.exists(code, code == 'B') && event.data.factor > 1.4",
            "event.localHour == 6 && event.localMinute == 30 && event.weekday == 'mon' && event.storeOpen == false",
            "event.basketId == null && event.employeeId == 'E7' && event.businessDay == '2026-01-05'",
            "timestamp(event.time) < timestamp('2026-01-05T05:30:01Z') && !has(event.data.nothing)",
            "event.data.method in ['cash', 'card'] && !event.training && size(event.data['voucher'].codes) == 2",
        ] {
            assert_eq!(eval(text), Ok(true), "{text}");
        }
    }

    #[test]
    fn faults_are_named_with_their_place() {
        for (text, expected) in [
            ("event.amount >", "1:"),
            ("event.amount > 1 &&\n event.amuont > 2", "2:7: event.amuont does not exist; did you mean event.amount?"),
            ("event.receipt", "event.data.receipt"),
            ("amount > 3", "1:1: amount is not known; the only variable is event"),
            ("event.data.method.matches('a')", "matches() cannot be used here"),
            ("event == event", "write event.FIELD"),
            ("", "is empty"),
        ] {
            let error = eval(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn what_gives_no_boolean_is_an_error_and_no_panic() {
        for text in [
            "event.amount",
            "event.data.nothing == 1",
            "1 / 0 == 1",
            "event.amount % 0 == 1",
            "event.basketId < 3",
            "9223372036854775807 + event.amount > 0",
            "event.data.voucher.codes[7] == ''",
            "-(-9223372036854775808) > 0",
            "duration('1e999h') > duration('1s')",
            "timestamp('nonsense') > timestamp(event.time)",
            "int('x') == 1",
            "int(1e300) == 1",
            "uint(-1) == 1u",
            "timestamp(9223372036854775807) > timestamp(event.time)",
            "timestamp('9999-12-31T23:59:59Z') + duration('9000000000s') > timestamp(event.time)",
            "-9223372036854775808 / -1 == 1",
            "-9223372036854775808 % -1 == 1",
        ] {
            assert!(eval(text).is_err(), "{text}: {:?}", eval(text));
        }
    }

    #[test]
    fn hostile_expressions_are_refused_or_over_quickly() {
        let started = std::time::Instant::now();
        for text in [
            "(".repeat(900),
            format!("{}true", "!".repeat(900)),
            format!("{}1 == 1", "-".repeat(900)),
            format!("{}true", "true ? true : ".repeat(60)),
            format!("1{} > 0", "+1".repeat(400)),
            format!("event.data{} == 1", ".a".repeat(400)),
            format!("event.data.x{} == 1", "[0]".repeat(300)),
            format!("{}true{}", "[".repeat(16), "]".repeat(16)),
            "true && ".repeat(110) + "true",
            "[1,2,3].all(a, [1,2,3].all(b, [1,2,3].all(c, true)))".to_owned(),
            "event.data.a + event.data.a + event.data.a + event.data.a + event.data.a + event.data.a + event.data.a + event.data.a + event.data.a + event.data.a == ''".to_owned(),
            "event".to_owned() + &".map(x, x)".repeat(90),
            "\u{0}\u{feff}💥".repeat(50),
            "'''".to_owned(),
            "event.data['\u{0}']".to_owned(),
        ] {
            let _ = eval(&text);
        }
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    #[test]
    fn a_large_event_costs_an_error_and_no_time() {
        let expression = Expression::compile("event.data.big.all(x, x == 1)").unwrap();
        let large = refund(&json!({"big": vec![1; 20_000]}));
        assert!(expression.matches(&large, &stores()).unwrap_err().contains("bytes"));
        let fits = refund(&json!({"big": vec![1; 7_000]}));
        assert_eq!(expression.matches(&fits, &stores()), Ok(true));
    }
}
