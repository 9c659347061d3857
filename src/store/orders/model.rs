//! What goes into the orders' tables and comes out of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the names are their meaning")]
pub enum OrderStatus {
    Pending,
    Success,
    Failed,
}

impl OrderStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Success, Self::Failed];

    /// The status as it stands in the store and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// An order that is to be accepted, with the key that it comes under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    /// The order's id.
    pub id: String,
    /// Hash of caller and key.
    pub key_id: String,
    /// Who sent it.
    pub caller: String,
    /// Under which key.
    pub idempotency_key: String,
    /// Tells this order from others.
    pub fingerprint: String,
    /// The store that it comes from.
    pub store_id: String,
    /// The terminal that it comes from.
    pub terminal_id: String,
    /// What was sent, in canonical JSON.
    pub document: String,
    /// What the caller is answered, now and again.
    pub answer: String,
    /// When.
    pub created_at: Timestamp,
}

/// What became of a [`NewOrder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// It is there now.
    New,
    /// The key has been used for the same order before; this was the answer.
    Replayed {
        /// The order that was accepted then.
        order_id: String,
        /// The HTTP status of the answer.
        status: u16,
        /// Its body.
        answer: String,
    },
    /// The key has been used for another order.
    OtherOrder,
}

/// An order as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOrder {
    /// The order's id.
    pub id: String,
    /// The store that it comes from.
    pub store_id: String,
    /// The terminal that it comes from.
    pub terminal_id: String,
    /// Where it stands.
    pub status: OrderStatus,
    /// What was sent, in canonical JSON.
    pub document: String,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was put on the bus.
    pub published_at: Option<Timestamp>,
    /// When the third party had it.
    pub processed_at: Option<Timestamp>,
    /// How often it was sent to the third party.
    pub attempts: u32,
}

/// Where an order's delivery stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDelivery {
    /// When the next attempt may be made, or when the one under way is given up.
    pub next_attempt_at: Timestamp,
    /// An attempt is under way.
    pub claimed: bool,
    /// The plugin's eligibility does not let it through.
    pub held: bool,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// One entry of an order's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineEntry {
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub kind: TimelineKind,
    /// Which attempt, from 1.
    pub attempt: Option<u32>,
    /// HTTP status of the answer.
    pub status: Option<u16>,
    /// How long the attempt took.
    pub duration_ms: Option<u64>,
    /// What went wrong, or who asked.
    pub message: Option<String>,
}

/// What an entry of an order's history is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are their meaning")]
pub enum TimelineKind {
    Accepted,
    Published,
    Attempt,
    Delivered,
    Failed,
    Resent,
    Waiting,
}

impl TimelineKind {
    const ALL: [Self; 7] =
        [Self::Accepted, Self::Published, Self::Attempt, Self::Delivered, Self::Failed, Self::Resent, Self::Waiting];

    /// The kind as it stands in the store and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Published => "published",
            Self::Attempt => "attempt",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Resent => "resent",
            Self::Waiting => "waiting",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// An order with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderDetail {
    /// The order.
    pub order: StoredOrder,
    /// Its delivery, while it is under way.
    pub delivery: Option<StoredDelivery>,
    /// Why it is not on the bus, if the bus refused it.
    pub parked: Option<String>,
    /// What happened to it, as far as it is written down: attempts, failures and resends.
    pub history: Vec<TimelineEntry>,
}

/// Which orders; absent fields match all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderFilter {
    /// Where they stand.
    pub status: Option<OrderStatus>,
    /// The store that they come from.
    pub store_id: Option<String>,
    /// The terminal that they come from.
    pub terminal_id: Option<String>,
    /// Accepted at or after this time.
    pub from: Option<Timestamp>,
    /// Accepted before this time.
    pub to: Option<Timestamp>,
}

/// How many orders there are, and what waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OrderStats {
    /// Accepted and neither delivered nor failed.
    pub pending: i64,
    /// Delivered.
    pub success: i64,
    /// Failed, until a person sends them again.
    pub failed: i64,
    /// When the oldest of those that are pending was accepted.
    pub oldest_pending_at: Option<Timestamp>,
    /// Not on the bus yet.
    pub unpublished: i64,
    /// Of these, how many the bus has refused.
    pub parked: i64,
}

/// A batch of orders that has its number and waits to be on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishBatch {
    /// Its number: the position of the lane once it is on the bus.
    pub number: i64,
    /// The orders, in the order in which they go.
    pub orders: Vec<Publishing>,
    /// Ids of those in it that cannot be read, each with the reason.
    pub unreadable: Vec<(String, String)>,
}

/// An order on its way to the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publishing {
    /// The order.
    pub order: StoredOrder,
    /// The key that it came under; unknown of orders that an older version accepted.
    pub key: Option<OrderKey>,
}

/// An order's `Idempotency-Key` as its record on the bus carries it: nobody can tell the key itself from this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderKey {
    /// Hash of caller and key.
    pub id: String,
    /// Who sent it.
    pub caller: String,
}

/// An order as its record on the bus tells it, for a store that may have lost it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedOrder {
    /// The order, pending.
    pub order: StoredOrder,
    /// The key that it came under, if the record carries one.
    pub key: Option<OrderKey>,
    /// Where the record stands.
    pub delivery: OrderDelivery,
}

/// The end of an order as its event on the bus tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEnd {
    /// The order.
    pub order_id: String,
    /// `SUCCESS` or `FAILED`.
    pub status: OrderStatus,
    /// When it ended.
    pub at: Timestamp,
    /// How often it had been sent by then.
    pub attempts: u32,
}

/// What a restore brought back from the bus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestoredOrders {
    /// Orders that the store had lost.
    pub rebuilt: usize,
    /// Of these, how many came back without their key: a repeated request makes a new order.
    pub without_key: usize,
    /// Orders that the third party had taken before.
    pub delivered: usize,
    /// Orders that had failed before.
    pub failed: usize,
}

impl RestoredOrders {
    /// True if nothing was lost.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rebuilt + self.delivered + self.failed == 0
    }
}

impl std::ops::AddAssign for RestoredOrders {
    fn add_assign(&mut self, more: Self) {
        self.rebuilt += more.rebuilt;
        self.without_key += more.without_key;
        self.delivered += more.delivered;
        self.failed += more.failed;
    }
}

/// An order that was read from the bus and now waits for the third party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderDelivery {
    /// The order.
    pub order_id: String,
    /// Partition of `order.created`.
    pub partition: u32,
    /// Offset there.
    pub offset: i64,
    /// When the bus received it.
    pub published_at: Timestamp,
}

/// What a dispatcher asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Orders that it can send at once, at most.
    pub limit: usize,
    /// Marks what it gets as its own.
    pub claim: i64,
    /// How long it may take with an order, unless it renews the claim, before another may have it, in milliseconds.
    pub lease_ms: i64,
    /// Attempts per second of all dispatchers together; 0 = no limit.
    pub rate_per_second: u32,
    /// The settings under which held orders were looked at; those that were held under others are looked at again.
    pub settings_epoch: i64,
}

/// An order that a dispatcher has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedOrder {
    /// The order.
    pub order: StoredOrder,
    /// Where it was read from.
    pub delivery: OrderDelivery,
    /// Attempts that count against the limit of the settings.
    pub counted: u32,
    /// An earlier attempt may have reached the third party although nobody knows its answer.
    pub may_have_arrived: bool,
}

/// What became of a claimed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// Nothing was sent: it waits, and no attempt is spent.
    Released {
        /// How long until it may be claimed again.
        wait: Duration,
    },
    /// The plugin's eligibility does not let it through under these settings.
    Held {
        /// The settings.
        settings_epoch: i64,
    },
    /// The third party has it.
    Delivered,
    /// The attempt failed and another one follows.
    Retry {
        /// How long until then.
        wait: Duration,
        /// Whether the attempt counts against the limit.
        counted: bool,
        /// What went wrong.
        error: String,
    },
    /// It came to nothing; a person decides.
    Failed {
        /// Machine-readable reason.
        reason: &'static str,
        /// What went wrong, with the last answer.
        error: String,
    },
}

/// An attempt as it is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptRecord {
    /// When it began.
    pub at: Timestamp,
    /// HTTP status of the answer, if there was one.
    pub status: Option<u16>,
    /// How long it took.
    pub duration_ms: u64,
}

/// A claimed order with what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The order.
    pub claimed: ClaimedOrder,
    /// The mark under which it was claimed.
    pub claim: i64,
    /// The attempt, if one was made.
    pub attempt: Option<AttemptRecord>,
    /// What became of it.
    pub settlement: Settlement,
}

/// What a turn of a dispatcher came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turn {
    /// Orders that are claimed now.
    pub claimed: Vec<ClaimedOrder>,
    /// Ids of orders that this turn ended, delivered or failed.
    pub ended: Vec<String>,
    /// How long until the shared rate allows the next attempt, if it is used up.
    pub rate_free_in: Option<Duration>,
    /// How long until the next order is due, if none is due now.
    pub next_due_in: Option<Duration>,
    /// Ids of orders that were due and cannot be read, each with the reason. They rest for a minute.
    pub unreadable: Vec<(String, String)>,
}
