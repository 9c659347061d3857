//! An order as a till sends it, checked once at the edge; its canonical form, and the JSON that others see of it.

use std::fmt::Write;

use bytes::Bytes;
use compact_str::CompactString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::currencies;
use crate::event::{
    Amount, Currency, Direction, Event, EventType, Id, NewEvent, QUANTITY_PARTS, Quantity, SignedAmount, Source,
    holds_card_number, is_card_number, stable_id,
};
use crate::plugins::validate::read;
use crate::store::{OrderStatus, StoredOrder};
use crate::stores::FieldError;
use crate::time::Timestamp;

/// Most lines of an order.
pub const ITEMS_MAX: usize = 1000;
/// Longest description of a line, in characters.
pub const DESCRIPTION_CHARS_MAX: usize = 200;

/// Parts of a minor unit that totals are checked in.
const PARTS: i128 = QUANTITY_PARTS as i128;

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrderLine {
    /// What is ordered.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    pub product_id: Id,
    /// How much: above 0, at most 1000000, with up to 4 decimal places.
    #[schema(value_type = f64, exclusive_minimum = 0, maximum = 1_000_000, example = 1)]
    pub quantity: Quantity,
    /// Price of one, in minor units.
    #[schema(value_type = i64, minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub unit_price: Amount,
    /// Where present, wins over quantity times unit price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub amount: Option<Amount>,
    /// Words for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    #[schema(value_type = Option<String>, max_length = 200)]
    pub description: Option<CompactString>,
    /// True if the customer gives it back: a deposit, an exchange, a return. It is taken off the total.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(default = false)]
    pub returned: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// An order as a till sends it. Money is in minor units of `currency`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrderRequest {
    /// The store.
    #[schema(value_type = String, min_length = 1, max_length = 200)]
    pub store_id: Id,
    /// The terminal.
    #[schema(value_type = String, min_length = 1, max_length = 200)]
    pub terminal_id: Id,
    /// Who took the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 255)]
    pub employee_id: Option<Id>,
    /// Who ordered: an id, nothing else about a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 255)]
    pub customer_id: Option<Id>,
    /// ISO 4217.
    #[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "EUR")]
    pub currency: Currency,
    /// What is ordered.
    #[schema(min_items = 1, max_items = 1000)]
    pub items: Vec<OrderLine>,
    /// Added to the lines, unless `taxIncluded` says that it is in their prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub tax: Option<Amount>,
    /// Taken off the lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub discount: Option<Amount>,
    /// The lines (returned ones taken off) and `tax` less `discount`, and `rounding`.
    #[schema(value_type = i64, minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub total: Amount,
    /// True if the prices of the lines include `tax`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_included: Option<bool>,
    /// What rounding to the smallest coin has added to the total, or taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = -1_000_000_000_000_i64, maximum = 1_000_000_000_000_i64)]
    pub rounding: Option<SignedAmount>,
    /// `refund` if the total is owed to the customer: more comes back than goes out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
}

/// Why a body is no order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderError {
    /// No JSON at all; what the reader says.
    NotJson(String),
    /// JSON, but wrong: every field at fault.
    Invalid(Vec<FieldError>),
}

impl OrderRequest {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, OrderError> {
        let order: Self = match serde_json::from_slice(body) {
            Ok(order) => order,
            Err(error) => return Err(faults(body, &error)),
        };
        let errors = order.check();
        if errors.is_empty() { Ok(order) } else { Err(OrderError::Invalid(errors)) }
    }

    /// What no single field's type can tell.
    fn check(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (field, id) in [("storeId", &self.store_id), ("terminalId", &self.terminal_id)] {
            if id.contains('/') {
                errors.push(FieldError::new(field, "must not contain a slash"));
            } else if id.len() > 200 {
                errors.push(FieldError::new(field, "is longer than 200 bytes"));
            }
        }
        if errors.is_empty() && Source::terminal_of(&self.store_id, &self.terminal_id).is_err() {
            errors.push(FieldError::new("terminalId", "and storeId are too long together; 230 bytes is the most"));
        }
        if !currencies::is_active(self.currency.as_str()) {
            errors.push(FieldError::new("currency", currencies::refusal(self.currency.as_str())));
        }
        let lines = self.items.len();
        if lines == 0 || lines > ITEMS_MAX {
            errors.push(FieldError::new("items", format!("has {lines} lines; must have 1 to {ITEMS_MAX}")));
        }
        for (index, line) in self.items.iter().enumerate() {
            line.check(index, &mut errors);
        }
        let people = [("employeeId", &self.employee_id), ("customerId", &self.customer_id)];
        for (field, id) in people {
            if id.as_ref().is_some_and(|id| is_card_number(id)) {
                errors.push(card_number(field));
            }
        }
        if errors.is_empty() {
            errors.extend(self.check_total());
        }
        errors
    }

    /// A line that is no whole number of minor units may have been rounded up or down, on its own or with the others.
    fn check_total(&self) -> Option<FieldError> {
        let (mut parts, mut rounded) = (0_i128, 0_i128);
        for line in &self.items {
            let exact = line.parts_of_minor();
            parts += if line.returned { -exact } else { exact };
            rounded += i128::from(exact % PARTS != 0);
        }
        if self.direction == Some(Direction::Refund) {
            parts = -parts;
        }
        let minor = |amount: Option<Amount>| i128::from(amount.map_or(0, Amount::minor));
        let tax = if self.tax_included == Some(true) { 0 } else { minor(self.tax) };
        let (discount, rounding) = (minor(self.discount), self.rounding.map_or(0, |rounding| rounding.minor().into()));
        let expected = parts + (tax - discount + rounding) * PARTS;
        let total = i128::from(self.total.minor());
        if (expected - total * PARTS).abs() * 2 <= rounded * PARTS {
            return None;
        }
        Some(FieldError::new("total", self.total_message(rounded_half_up(parts), rounded_half_up(expected))))
    }

    /// What the lines come to and what follows from it, in minor units.
    fn total_message(&self, lines: i128, sum: i128) -> String {
        let minor = |amount: Option<Amount>| amount.map_or(0, Amount::minor);
        let (total, tax, discount) = (self.total.minor(), minor(self.tax), minor(self.discount));
        let included = if self.tax_included == Some(true) { " (included)" } else { "" };
        let rounding = self.rounding.map_or_else(String::new, |by| format!(", rounding of {}", by.minor()));
        let advice = if sum < 0 && self.direction != Some(Direction::Refund) {
            format!("; with direction: refund the total is {}", -sum)
        } else {
            String::new()
        };
        format!(
            "is {total}, but lines of {lines}, tax of {tax}{included} and discount of {discount}{rounding} come to {sum}{advice}"
        )
    }

    /// The order as JSON in one fixed form: the same for every way in which a client may write the same order.
    #[must_use]
    pub fn document(&self) -> String {
        serde_json::to_string(self).expect("an order is made of strings, numbers and lists")
    }
}

impl OrderLine {
    /// What it costs, in ten-thousandths of a minor unit.
    fn parts_of_minor(&self) -> i128 {
        match self.amount {
            Some(amount) => i128::from(amount.minor()) * PARTS,
            None => i128::from(self.quantity.parts()) * i128::from(self.unit_price.minor()),
        }
    }

    fn check(&self, index: usize, errors: &mut Vec<FieldError>) {
        let field = |name: &str| format!("items[{index}].{name}");
        let Some(description) = &self.description else {
            return;
        };
        if description.chars().count() > DESCRIPTION_CHARS_MAX {
            let message = format!("is longer than {DESCRIPTION_CHARS_MAX} characters");
            errors.push(FieldError::new(field("description"), message));
        } else if description.chars().any(char::is_control) {
            errors.push(FieldError::new(field("description"), "holds a control character"));
        } else if holds_card_number(description) {
            errors.push(card_number(field("description")));
        }
    }
}

fn card_number(field: impl Into<String>) -> FieldError {
    FieldError::new(field, "looks like a card number, which no order may hold")
}

const fn rounded_half_up(parts: i128) -> i128 {
    (parts + PARTS / 2).div_euclid(PARTS)
}

/// Names every field that keeps a body from being an order. Slow, and only for bodies that are none.
fn faults(body: &[u8], error: &serde_json::Error) -> OrderError {
    let value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(error) => return OrderError::NotJson(error.to_string()),
    };
    match read::<OrderRequest>(&value, "") {
        Err(errors) => OrderError::Invalid(errors),
        // A key that is there twice is one once the value has been read.
        Ok(_) => OrderError::Invalid(vec![FieldError::new("", error.to_string())]),
    }
}

/// A number for what was sent: the same order again has the same one, any other order has another.
#[must_use]
pub fn fingerprint(document: &str) -> String {
    hex(&Sha256::digest(document.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}

/// A new order's id: a UUID of version 7 (RFC 9562), which begins with its time.
#[must_use]
pub fn new_id(now: Timestamp) -> String {
    let millis = u128::from(u64::try_from(now.as_millis()).unwrap_or(0)) & 0xffff_ffff_ffff;
    let random: u128 = rand::random();
    let (low, high) = (random & 0x3fff_ffff_ffff_ffff, (random >> 64) & 0x0fff);
    id_of((millis << 80) | (0x7 << 76) | (high << 64) | (0b10 << 62) | low)
}

/// The lowest id that an order of this time can have.
#[must_use]
pub fn lowest_id(at: Timestamp) -> String {
    let millis = u128::from(u64::try_from(at.as_millis()).unwrap_or(0)) & 0xffff_ffff_ffff;
    id_of(millis << 80)
}

fn id_of(bits: u128) -> String {
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// What others see of an order besides what the till sent.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The order's id.
    pub id: &'a str,
    /// Where it stands.
    pub status: OrderStatus,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was put on the bus.
    pub published_at: Option<Timestamp>,
    /// When the third party had it.
    pub processed_at: Option<Timestamp>,
    /// How often it was sent to the third party.
    pub attempts: u32,
}

/// The fields of a canonical document, without its braces.
fn fields(document: &str) -> &str {
    document.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).expect("a document is an object")
}

/// The order as the API answers it.
#[must_use]
pub fn to_json(document: &str, progress: Progress<'_>) -> String {
    let Progress { id, status, created_at, attempts, .. } = progress;
    let time = |time: Option<Timestamp>| time.map_or_else(|| "null".to_owned(), |time| format!("\"{time}\""));
    format!(
        r#"{{"id":"{id}","status":"{}",{},"createdAt":"{created_at}","publishedAt":{},"processedAt":{},"attempts":{attempts}}}"#,
        status.as_str(),
        fields(document),
        time(progress.published_at),
        time(progress.processed_at),
    )
}

/// The canonical document of an order, from the `data` of its `order.created`. `None` if [`created_event`] does not write it so.
#[must_use]
pub fn document_of_created(data: &str, id: &str, created_at: Timestamp) -> Option<String> {
    // What surrounds the document is known but for its length.
    let around = to_json("{}", accepted(id, created_at));
    let (before, after) = around.split_once(",,")?;
    let fields = data.strip_prefix(before)?.strip_prefix(',')?.strip_suffix(after)?.strip_suffix(',')?;
    Some(format!("{{{fields}}}"))
}

/// True if an event tells of an order's end after so many attempts, and Tillstream wrote it.
#[must_use]
pub fn is_delivery_event(event: &Event, order_id: &str, attempts: u32) -> bool {
    let id = end_id(event.event_type(), order_id, attempts);
    event.source.as_str() == SOURCE_DELIVERY && event.id.as_str() == id
}

/// Id of the event of an order's end. Sent again, an order may fail again: each end has an id of its own.
#[must_use]
pub fn end_id(kind: EventType, order_id: &str, attempts: u32) -> String {
    stable_id(&[kind.as_str(), order_id, &attempts.to_string()])
}

/// What the third party gets: the same bytes with every attempt.
#[must_use]
pub fn delivery_body(document: &str, id: &str, created_at: Timestamp) -> String {
    format!(r#"{{"id":"{id}",{},"createdAt":"{created_at}"}}"#, fields(document))
}

/// An order as it was just accepted.
#[must_use]
pub const fn accepted(id: &str, created_at: Timestamp) -> Progress<'_> {
    let status = OrderStatus::Pending;
    Progress { id, status, created_at, published_at: None, processed_at: None, attempts: 0 }
}

/// An event about an order: `order.created` has the order's own id, the others one that is derived from it.
#[derive(Debug, Clone, Copy)]
pub struct OrderEvent<'a> {
    /// The type.
    pub kind: EventType,
    /// The event's id.
    pub id: &'a str,
    /// When it happened.
    pub at: Timestamp,
    /// The store that the order came from.
    pub store_id: &'a str,
    /// The terminal that the order came from.
    pub terminal_id: &'a str,
}

/// `order.created` in structured JSON: the same bytes whenever it is asked for.
#[must_use]
pub fn created_event(order: &StoredOrder) -> Bytes {
    let event = OrderEvent {
        kind: EventType::OrderCreated,
        id: &order.id,
        at: order.created_at,
        store_id: &order.store_id,
        terminal_id: &order.terminal_id,
    };
    event.to_bytes(&order.document, accepted(&order.id, order.created_at))
}

/// Source of `order.created`.
pub(super) const SOURCE_ACCEPTED: &str = "/plugins/orders";
/// Source of `order.delivered` and `order.failed`.
const SOURCE_DELIVERY: &str = "/plugins/order-delivery";

impl OrderEvent<'_> {
    /// The event in structured JSON.
    #[must_use]
    pub fn to_bytes(self, document: &str, progress: Progress<'_>) -> Bytes {
        let data = RawValue::from_string(to_json(document, progress)).expect("an order is written as JSON");
        let created = matches!(self.kind, EventType::OrderCreated);
        let source = if created { SOURCE_ACCEPTED } else { SOURCE_DELIVERY };
        let terminal = format!("/stores/{}/terminals/{}", self.store_id, self.terminal_id);
        let cause = format!("{SOURCE_ACCEPTED}#{}", progress.id);
        let mut event = NewEvent::new(self.id, source, self.kind, self.at, data);
        event.subject = Some(&terminal);
        event.partitionkey = Some(self.terminal_id);
        event.causationid = (!created).then_some(cause.as_str());
        event.to_bytes()
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
