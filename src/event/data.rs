//! The `data` of every event type, and the one table that ties type names to it.
//!
//! Unknown keys are not represented here: an event keeps its original bytes, so they are passed on untouched.

use compact_str::CompactString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::value::{Amount, Currency, Id, Quantity, SignedAmount};

macro_rules! data {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase")]
        pub struct $name { $($(#[$fmeta])* #[allow(missing_docs, reason = "the field's name is its meaning")] pub $field: $type,)* }
    )*};
}

data! {
    /// An employee logs in or out at a terminal.
    EmployeeSession {
        employee_id: Id,
        #[serde(default, skip_serializing_if = "Option::is_none")] #[schemars(with = "Option<String>")]
        reason: Option<CompactString>,
    }
    /// A basket begins.
    BasketStarted { basket_id: Id, employee_id: Id }
    /// The customer of a basket becomes known, for instance by a loyalty card.
    CustomerIdentified {
        basket_id: Id, employee_id: Id, customer_id: Id,
        #[serde(default, skip_serializing_if = "Option::is_none")] #[schemars(with = "Option<String>")]
        method: Option<CompactString>,
    }
    /// An item is scanned or keyed in; or, as `pos.basket.item_returned`, the customer gives it back within the sale.
    ItemAdded {
        basket_id: Id, employee_id: Id,
        /// The number of this line in the basket. A void names it.
        line: u32,
        product_id: Id,
        #[serde(default, skip_serializing_if = "Option::is_none")] #[schemars(with = "Option<String>")]
        description: Option<CompactString>,
        #[schemars(with = "String")]
        category: CompactString,
        quantity: Quantity, unit_price: Amount,
        /// Where present, wins over quantity times unit price.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount: Option<Amount>,
        currency: Currency,
        #[serde(default, skip_serializing_if = "Option::is_none")] #[schemars(with = "Option<String>")]
        entry_method: Option<CompactString>,
    }
    /// A line of the basket is taken back.
    ItemVoided {
        basket_id: Id, employee_id: Id,
        /// The number of the line that is voided, not one of the void's own. Where no line of the basket has this number and
        /// product, the product's last lines are voided.
        line: u32,
        product_id: Id, quantity: Quantity, unit_price: Amount,
        /// Where present, wins over quantity times unit price.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount: Option<Amount>,
        currency: Currency,
        #[serde(default, skip_serializing_if = "Option::is_none")] #[schemars(with = "Option<String>")]
        reason: Option<CompactString>,
    }
    /// The basket's sums are final.
    SubtotalFinalized {
        basket_id: Id, employee_id: Id, item_count: u32, subtotal: Amount, tax: Amount,
        /// What is to be paid, `rounding` included; with `direction: refund` what the customer is to get.
        total: Amount,
        currency: Currency,
        /// `refund` if the total is owed to the customer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        direction: Option<Direction>,
        /// True if the prices and `subtotal` include `tax`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tax_included: Option<bool>,
        /// What rounding to the smallest coin has added to the total, or taken off.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rounding: Option<SignedAmount>,
    }
    /// The customer has paid, all of the total or a part of it.
    PaymentCompleted {
        basket_id: Id, employee_id: Id, payment_id: Id,
        #[schemars(with = "String")]
        method: CompactString,
        /// How much of the basket's total this settles, without `tip` and `change`.
        amount: Amount,
        currency: Currency,
        /// A token that stands for the card; never the card's number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        card_token: Option<Id>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        customer_id: Option<Id>,
        /// `refund` if the customer gets the amount.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        direction: Option<Direction>,
        /// What the customer gave on top for those who work there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tip: Option<Amount>,
        /// What the customer got back of what was handed over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        change: Option<Amount>,
    }
    /// A basket is cancelled, suspended or resumed.
    BasketChanged {
        basket_id: Id, employee_id: Id,
        #[serde(default, skip_serializing_if = "Option::is_none")] #[schemars(with = "Option<String>")]
        reason: Option<CompactString>,
    }
    /// A discount on a line or on the whole basket.
    DiscountApplied {
        basket_id: Id, employee_id: Id,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        line: Option<u32>,
        amount: Amount,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        percent: Option<f64>,
        currency: Currency,
        /// True if a person gave it; false for a promotion.
        manual: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")] #[schemars(with = "Option<String>")]
        reason: Option<CompactString>,
    }
    /// Money goes back to a customer.
    RefundCompleted {
        refund_id: Id, employee_id: Id,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        basket_id: Option<Id>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        original_basket_id: Option<Id>,
        amount: Amount, currency: Currency,
        #[schemars(with = "String")]
        method: CompactString,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        card_token: Option<Id>,
        /// True if the customer showed the receipt.
        receipt: bool,
    }
    /// The cash drawer is opened without a sale.
    DrawerOpened {
        employee_id: Id,
        #[serde(default, skip_serializing_if = "Option::is_none")] #[schemars(with = "Option<String>")]
        reason: Option<CompactString>,
    }
    /// One line of an order.
    OrderItem {
        product_id: Id, quantity: Quantity, unit_price: Amount,
        /// Where present, wins over quantity times unit price.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount: Option<Amount>,
        #[serde(default, skip_serializing_if = "Option::is_none")] #[schemars(with = "Option<String>")]
        description: Option<CompactString>,
        /// True if the customer gives it back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        returned: Option<bool>,
    }
    /// An order as the API shows it.
    Order {
        id: Id,
        /// `PENDING`, `SUCCESS` or `FAILED`.
        #[schemars(with = "String")]
        status: CompactString,
        store_id: Id, terminal_id: Id,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        employee_id: Option<Id>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        customer_id: Option<Id>,
        currency: Currency,
        items: Vec<OrderItem>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tax: Option<Amount>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        discount: Option<Amount>,
        total: Amount,
        /// True if the prices include `tax`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tax_included: Option<bool>,
        /// What rounding to the smallest coin has added to the total, or taken off.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rounding: Option<SignedAmount>,
        /// `refund` if the total is owed to the customer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        direction: Option<Direction>,
    }
    /// The outcome of an age check; no date of birth is ever recorded.
    AgeChecked {
        basket_id: Id, employee_id: Id, outcome: AgeOutcome, minimum_age: u8,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        supervisor_id: Option<Id>,
        #[serde(default, skip_serializing_if = "Option::is_none")] #[schemars(with = "Option<String>")]
        reason: Option<CompactString>,
    }
    /// Tillstream closed a session that the employee left open.
    AutoLoggedOut { employee_id: Id, terminal_id: Id, session_seconds: i64, cause: LogoutCause }
    /// Products that go with one that was just added.
    RecommendationMade { basket_id: Id, product_id: Id, recommended: Vec<Recommendation> }
    /// One recommended product.
    Recommendation {
        product_id: Id,
        #[schemars(with = "String")]
        reason: CompactString,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        score: Option<f64>,
    }
    /// What the remote customer system knows about a customer, cut down to the fields that the settings keep.
    CustomerEnriched { basket_id: Id, customer_id: Id, customer: serde_json::Map<String, serde_json::Value> }
    /// The remote customer system did not answer usefully.
    CustomerLookupFailed {
        basket_id: Id, customer_id: Id,
        #[schemars(with = "String")]
        error: CompactString,
    }
    /// A fraud rule fired.
    AlertRaised {
        alert_id: Id, rule_id: Id, rule_revision: u64, severity: Severity, scope: Scope, entity: Id,
        observed: f64, limit: f64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window_seconds: Option<i64>,
        /// The contributing events, each named `source#id`.
        event_ids: Vec<String>,
        message: String,
    }
    /// The cashier must check the customer's age.
    AgeVerificationRequired {
        basket_id: Id, employee_id: Id, minimum_age: u8,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        challenge_age: Option<u8>,
        product_id: Id,
        #[schemars(with = "String")]
        category: CompactString,
        #[serde(default, skip_serializing_if = "Option::is_none")] #[schemars(with = "Option<String>")]
        jurisdiction: Option<CompactString>,
    }
    /// Internal: moves the clock of a partition on. Its `time` is the new clock.
    Tick {}
    /// Internal: the answer to an HTTP effect on its way back to the plugin that asked.
    Reply {
        #[schemars(with = "String")]
        plugin: CompactString,
        scope: Scope, entity: Id,
        /// What the plugin named the request, see [`HttpRequest::token`](crate::effect::HttpRequest::token).
        token: String,
        outcome: ReplyOutcome,
    }
    /// Internal: a person asked for a dead letter to be applied again, by the plugin that failed only.
    DeadLetterReplay {
        dead_letter_id: Id,
        #[serde(default, skip_serializing_if = "Option::is_none")] #[schemars(with = "Option<String>")]
        plugin: Option<CompactString>,
        /// The entity whose plugin failed, `scope:id`.
        #[serde(default, skip_serializing_if = "Option::is_none")] #[schemars(with = "Option<String>")]
        entity: Option<CompactString>,
        /// Where the original was read.
        partition: u32, offset: i64,
        /// The original message.
        bytes_base64: String,
    }
}

/// Which way money goes. Amounts are positive, so a total or a payment says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the customer to the shop, as where nothing is said.
    Sale,
    /// From the shop to the customer.
    Refund,
}

/// An amount with a sign: money that goes to the shop counts as positive.
#[must_use]
pub const fn signed(minor: i64, direction: Option<Direction>) -> i64 {
    if matches!(direction, Some(Direction::Refund)) { -minor } else { minor }
}

/// True if what was paid settles what is due, whichever way the money goes; both as [`signed`] gives them.
#[must_use]
pub const fn covers(due: i64, paid: i64) -> bool {
    if due < 0 { paid <= due } else { paid >= due }
}

/// How an age check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are their meaning")]
pub enum AgeOutcome {
    ApprovedVisual,
    ApprovedId,
    Refused,
    Overridden,
}

/// Why a session ended without the employee logging out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are their meaning")]
pub enum LogoutCause {
    LoginElsewhere,
    Idle,
    MaximumShift,
}

/// How serious an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are their meaning")]
pub enum Severity {
    Low,
    Medium,
    High,
}

/// The kind of entity that a plugin, or a fraud rule, keys its state by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are their meaning")]
pub enum Scope {
    Terminal,
    Employee,
    Customer,
    Card,
}

impl Scope {
    /// All scopes, in the order used for ties.
    pub const ALL: [Self; 4] = [Self::Terminal, Self::Employee, Self::Customer, Self::Card];

    /// The scope's name as it stands in events, keys and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Employee => "employee",
            Self::Customer => "customer",
            Self::Card => "card",
        }
    }

    /// The scope of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

/// How an HTTP effect ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum ReplyOutcome {
    /// The remote side answered; only the fields that the request asked to keep are here.
    Answered {
        /// HTTP status.
        status: u16,
        /// The kept fields of the answer's JSON object.
        body: serde_json::Map<String, serde_json::Value>,
    },
    /// No useful answer after all attempts.
    Failed {
        /// A short machine-readable cause: `timeout`, `unreachable`, `status_500`, `invalid_answer`, `circuit_open`, `not_configured`.
        error: String,
    },
}

macro_rules! event_types {
    ($($variant:ident($data:ty) = $name:literal, $class:ident;)*) => {
        /// The types of events that Tillstream knows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "the names are their meaning")]
        pub enum EventType { $($variant,)* /// A type that Tillstream does not know: passed on, no plugin sees it.
            Unknown }

        impl EventType {
            /// Every known type.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The `type` attribute; empty for [`EventType::Unknown`], whose name the event keeps.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* Self::Unknown => "" }
            }

            /// The known type of that name.
            #[must_use]
            pub fn from_name(name: &str) -> Self {
                match name { $($name => Self::$variant,)* _ => Self::Unknown }
            }

            /// Who publishes events of this type.
            #[must_use]
            pub const fn class(self) -> EventClass {
                match self { $(Self::$variant => EventClass::$class,)* Self::Unknown => EventClass::Terminal }
            }

            /// The JSON Schema of this type's `data`.
            pub fn data_schema(self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                match self { $(Self::$variant => <$data as JsonSchema>::json_schema(generator),)* Self::Unknown => schemars::Schema::default() }
            }
        }

        /// The typed `data` of an event.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "the names are their meaning")]
        pub enum EventData { $($variant($data),)* /// Of a type that Tillstream does not know.
            Unknown }

        impl EventData {
            pub(super) fn read<'de, D: serde::Deserializer<'de>>(kind: EventType, deserializer: D) -> Result<Self, D::Error> {
                match kind {
                    $(EventType::$variant => <$data>::deserialize(deserializer).map(Self::$variant),)*
                    EventType::Unknown => serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self::Unknown),
                }
            }

            /// The event type that this data belongs to.
            #[must_use]
            pub const fn event_type(&self) -> EventType {
                match self { $(Self::$variant(_) => EventType::$variant,)* Self::Unknown => EventType::Unknown }
            }

            /// The data as a JSON value (without unknown keys).
            ///
            /// # Errors
            /// Never for data that was parsed.
            pub fn to_value(&self) -> serde_json::Result<serde_json::Value> {
                match self { $(Self::$variant(data) => serde_json::to_value(data),)* Self::Unknown => Ok(serde_json::Value::Null) }
            }
        }
    };
}

/// Who publishes events of a type, and so whether they move clocks and are routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventClass {
    /// A terminal.
    Terminal,
    /// A plugin, as a derived event.
    Plugin,
    /// Tillstream itself; never shown in the feed.
    Internal,
}

event_types! {
    LoggedIn(EmployeeSession) = "pos.employee.logged_in", Terminal;
    LoggedOut(EmployeeSession) = "pos.employee.logged_out", Terminal;
    BasketStarted(BasketStarted) = "pos.basket.started", Terminal;
    CustomerIdentified(CustomerIdentified) = "pos.customer.identified", Terminal;
    ItemAdded(ItemAdded) = "pos.basket.item_added", Terminal;
    ItemVoided(ItemVoided) = "pos.basket.item_voided", Terminal;
    ItemReturned(ItemAdded) = "pos.basket.item_returned", Terminal;
    SubtotalFinalized(SubtotalFinalized) = "pos.basket.subtotal_finalized", Terminal;
    PaymentCompleted(PaymentCompleted) = "pos.payment.completed", Terminal;
    BasketCancelled(BasketChanged) = "pos.basket.cancelled", Terminal;
    BasketSuspended(BasketChanged) = "pos.basket.suspended", Terminal;
    BasketResumed(BasketChanged) = "pos.basket.resumed", Terminal;
    DiscountApplied(DiscountApplied) = "pos.discount.applied", Terminal;
    RefundCompleted(RefundCompleted) = "pos.refund.completed", Terminal;
    DrawerOpened(DrawerOpened) = "pos.drawer.opened", Terminal;
    AgeChecked(AgeChecked) = "pos.age.checked", Terminal;
    AutoLoggedOut(AutoLoggedOut) = "pos.employee.auto_logged_out", Plugin;
    RecommendationMade(RecommendationMade) = "pos.recommendation.made", Plugin;
    CustomerEnriched(CustomerEnriched) = "pos.customer.enriched", Plugin;
    CustomerLookupFailed(CustomerLookupFailed) = "pos.customer.lookup_failed", Plugin;
    AlertRaised(AlertRaised) = "pos.fraud.alert_raised", Plugin;
    AgeVerificationRequired(AgeVerificationRequired) = "pos.age.verification_required", Plugin;
    OrderCreated(Order) = "order.created", Plugin;
    OrderDelivered(Order) = "order.delivered", Plugin;
    OrderFailed(Order) = "order.failed", Plugin;
    Tick(Tick) = "tillstream.tick", Internal;
    Reply(Reply) = "tillstream.reply", Internal;
    DeadLetterReplay(DeadLetterReplay) = "tillstream.dead_letter_replay", Internal;
}

impl EventData {
    /// The employee that the event is about, where it names one.
    #[must_use]
    pub const fn employee_id(&self) -> Option<&Id> {
        Some(match self {
            Self::LoggedIn(data) | Self::LoggedOut(data) => &data.employee_id,
            Self::BasketStarted(data) => &data.employee_id,
            Self::CustomerIdentified(data) => &data.employee_id,
            Self::ItemAdded(data) | Self::ItemReturned(data) => &data.employee_id,
            Self::ItemVoided(data) => &data.employee_id,
            Self::SubtotalFinalized(data) => &data.employee_id,
            Self::PaymentCompleted(data) => &data.employee_id,
            Self::BasketCancelled(data) | Self::BasketSuspended(data) | Self::BasketResumed(data) => &data.employee_id,
            Self::DiscountApplied(data) => &data.employee_id,
            Self::RefundCompleted(data) => &data.employee_id,
            Self::DrawerOpened(data) => &data.employee_id,
            Self::AgeChecked(data) => &data.employee_id,
            Self::AutoLoggedOut(data) => &data.employee_id,
            Self::AgeVerificationRequired(data) => &data.employee_id,
            Self::OrderCreated(data) | Self::OrderDelivered(data) | Self::OrderFailed(data) => {
                return data.employee_id.as_ref();
            }
            _ => return None,
        })
    }

    /// The basket that the event belongs to, where it names one.
    #[must_use]
    pub const fn basket_id(&self) -> Option<&Id> {
        Some(match self {
            Self::BasketStarted(data) => &data.basket_id,
            Self::CustomerIdentified(data) => &data.basket_id,
            Self::ItemAdded(data) | Self::ItemReturned(data) => &data.basket_id,
            Self::ItemVoided(data) => &data.basket_id,
            Self::SubtotalFinalized(data) => &data.basket_id,
            Self::PaymentCompleted(data) => &data.basket_id,
            Self::BasketCancelled(data) | Self::BasketSuspended(data) | Self::BasketResumed(data) => &data.basket_id,
            Self::DiscountApplied(data) => &data.basket_id,
            Self::RefundCompleted(data) => return data.basket_id.as_ref(),
            Self::AgeChecked(data) => &data.basket_id,
            Self::RecommendationMade(data) => &data.basket_id,
            Self::CustomerEnriched(data) => &data.basket_id,
            Self::CustomerLookupFailed(data) => &data.basket_id,
            Self::AgeVerificationRequired(data) => &data.basket_id,
            _ => return None,
        })
    }

    /// The customer that the event names.
    #[must_use]
    pub const fn customer_id(&self) -> Option<&Id> {
        match self {
            Self::CustomerIdentified(data) => Some(&data.customer_id),
            Self::PaymentCompleted(data) => data.customer_id.as_ref(),
            Self::CustomerEnriched(data) => Some(&data.customer_id),
            Self::CustomerLookupFailed(data) => Some(&data.customer_id),
            Self::OrderCreated(data) | Self::OrderDelivered(data) | Self::OrderFailed(data) => {
                data.customer_id.as_ref()
            }
            _ => None,
        }
    }

    /// The card token that the event names.
    #[must_use]
    pub const fn card_token(&self) -> Option<&Id> {
        match self {
            Self::PaymentCompleted(data) => data.card_token.as_ref(),
            Self::RefundCompleted(data) => data.card_token.as_ref(),
            _ => None,
        }
    }

    /// The product category of an added or returned item.
    #[must_use]
    pub fn category(&self) -> Option<&str> {
        match self {
            Self::ItemAdded(data) | Self::ItemReturned(data) => Some(&data.category),
            Self::AgeVerificationRequired(data) => Some(&data.category),
            _ => None,
        }
    }

    /// Which way the event's money goes, where it says so itself; the other types say it by what they are.
    #[must_use]
    pub const fn direction(&self) -> Option<Direction> {
        let said = match self {
            Self::SubtotalFinalized(data) => data.direction,
            Self::PaymentCompleted(data) => data.direction,
            Self::OrderCreated(data) | Self::OrderDelivered(data) | Self::OrderFailed(data) => data.direction,
            Self::RefundCompleted(_) | Self::ItemReturned(_) => Some(Direction::Refund),
            Self::ItemAdded(_) => Some(Direction::Sale),
            _ => return None,
        };
        match said {
            None => Some(Direction::Sale),
            said => said,
        }
    }

    /// The currency of the event's money.
    #[must_use]
    pub const fn currency(&self) -> Option<Currency> {
        Some(match self {
            Self::ItemAdded(data) | Self::ItemReturned(data) => data.currency,
            Self::ItemVoided(data) => data.currency,
            Self::SubtotalFinalized(data) => data.currency,
            Self::PaymentCompleted(data) => data.currency,
            Self::DiscountApplied(data) => data.currency,
            Self::RefundCompleted(data) => data.currency,
            Self::OrderCreated(data) | Self::OrderDelivered(data) | Self::OrderFailed(data) => data.currency,
            _ => return None,
        })
    }

    /// The money that the event is about, in minor units: a payment's, refund's or discount's amount, a line's, a basket's or an order's total.
    #[must_use]
    pub fn amount(&self) -> Option<i64> {
        Some(match self {
            Self::ItemAdded(data) | Self::ItemReturned(data) => {
                data.amount.map_or_else(|| data.quantity.times(data.unit_price), Amount::minor)
            }
            Self::ItemVoided(data) => data.amount.map_or_else(|| data.quantity.times(data.unit_price), Amount::minor),
            Self::SubtotalFinalized(data) => data.total.minor(),
            Self::PaymentCompleted(data) => data.amount.minor(),
            Self::DiscountApplied(data) => data.amount.minor(),
            Self::RefundCompleted(data) => data.amount.minor(),
            Self::OrderCreated(data) | Self::OrderDelivered(data) | Self::OrderFailed(data) => data.total.minor(),
            _ => return None,
        })
    }
}
