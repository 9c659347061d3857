//! Small hand-made streams of messages.

use std::collections::HashMap;

use serde_json::{Value, json};

/// Messages in the order in which they reach the bus.
#[derive(Default)]
pub(crate) struct Case {
    messages: Vec<Vec<u8>>,
    sequences: HashMap<String, u64>,
}

impl Case {
    /// Appends the next event of a till in store `S001` at `time`, such as `08:00:00` of Monday 2026-01-05 in UTC.
    /// Its id is `TILL-SEQUENCE`; its type is given without `pos.`
    pub(crate) fn then(mut self, till: &str, time: &str, kind: &str, data: &Value) -> Self {
        let sequence = self.sequences.entry(till.to_owned()).or_default();
        *sequence += 1;
        let sequence = *sequence;
        self.numbered(till, sequence, time, kind, data)
    }

    /// The same with a sequence of choice.
    pub(crate) fn numbered(mut self, till: &str, sequence: u64, time: &str, kind: &str, data: &Value) -> Self {
        let id = format!("{till}-{sequence}");
        self.messages.push(message(till, &id, sequence, time, kind, data));
        self
    }

    /// Appends the last message once more.
    pub(crate) fn again(mut self) -> Self {
        self.messages.extend(self.messages.last().cloned());
        self
    }

    /// All messages.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &[u8]> {
        self.messages.iter().map(Vec::as_slice)
    }
}

/// One message.
pub(crate) fn message(till: &str, id: &str, sequence: u64, time: &str, kind: &str, data: &Value) -> Vec<u8> {
    let time = if time.contains('T') { time.to_owned() } else { format!("2026-01-05T{time}Z") };
    json!({
        "specversion": "1.0", "id": id, "source": format!("/stores/S001/terminals/{till}"),
        "type": format!("pos.{kind}"), "time": time, "sequence": sequence, "data": data,
    })
    .to_string()
    .into_bytes()
}

/// The data of a login, a logout or a drawer opening.
pub(crate) fn employee(id: &str) -> Value {
    json!({"employeeId": id})
}

/// The data of an added or voided line of one piece.
pub(crate) fn line(basket: &str, line: u32, product: &str, category: &str) -> Value {
    json!({"basketId": basket, "employeeId": "E1", "line": line, "productId": product, "category": category,
        "quantity": 1, "unitPrice": 500, "currency": "EUR"})
}

/// The data of a payment.
pub(crate) fn payment(basket: &str) -> Value {
    json!({"basketId": basket, "employeeId": "E1", "paymentId": format!("pay-{basket}"), "method": "cash",
        "amount": 500, "currency": "EUR"})
}

/// Milliseconds of a time of Monday 2026-01-05 in UTC.
pub(crate) fn at(time: &str) -> i64 {
    format!("2026-01-05T{time}Z").parse::<jiff::Timestamp>().expect("a time").as_millisecond()
}
