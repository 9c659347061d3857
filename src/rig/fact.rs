//! What happens at a till, before it is written as an event.

use super::catalogue::ProductIndex;
use crate::event::EventType;

/// One thing that will happen at a till.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    /// Milliseconds since the epoch.
    pub at: i64,
    pub employee: u32,
    /// Number of the basket at this till, from 1.
    pub basket: u32,
    pub training: bool,
    /// The anomaly that this is part of.
    pub anomaly: Option<u64>,
    pub fact: Fact,
}

/// One line of a basket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub number: u32,
    pub product: ProductIndex,
    /// Quantity in thousandths.
    pub thousandths: i64,
}

/// How somebody pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tender {
    Cash,
    Card(u64),
}

/// The facts; amounts are in minor units.
#[derive(Debug, Clone)]
pub(super) enum Fact {
    LoggedIn,
    LoggedOut {
        reason: &'static str,
    },
    BasketStarted,
    CustomerIdentified {
        customer: u32,
        method: &'static str,
    },
    ItemAdded {
        line: Line,
        entry: &'static str,
    },
    ItemVoided {
        line: Line,
        reason: &'static str,
    },
    /// Empties that the customer brings back, so many pieces.
    DepositReturned {
        line: u32,
        pieces: i64,
    },
    /// A total below 0 is owed to the customer; `rounding` is a part of it.
    Subtotal {
        items: u32,
        total: i64,
        tax: i64,
        rounding: i64,
    },
    /// An amount below 0 goes to the customer.
    Payment {
        tender: Tender,
        amount: i64,
        tip: i64,
        change: i64,
        customer: Option<u32>,
    },
    Cancelled {
        reason: &'static str,
    },
    Suspended,
    Resumed,
    Discount {
        line: Option<u32>,
        amount: i64,
        percent: i64,
        manual: bool,
        reason: &'static str,
    },
    Refund {
        number: u32,
        original: Option<u32>,
        tender: Tender,
        amount: i64,
        receipt: bool,
    },
    DrawerOpened {
        reason: &'static str,
    },
    AgeChecked {
        outcome: &'static str,
        minimum_age: u8,
        supervisor: Option<u32>,
    },
}

impl Fact {
    pub(super) const fn event_type(&self) -> EventType {
        match self {
            Self::LoggedIn => EventType::LoggedIn,
            Self::LoggedOut { .. } => EventType::LoggedOut,
            Self::BasketStarted => EventType::BasketStarted,
            Self::CustomerIdentified { .. } => EventType::CustomerIdentified,
            Self::ItemAdded { .. } => EventType::ItemAdded,
            Self::ItemVoided { .. } => EventType::ItemVoided,
            Self::DepositReturned { .. } => EventType::ItemReturned,
            Self::Subtotal { .. } => EventType::SubtotalFinalized,
            Self::Payment { .. } => EventType::PaymentCompleted,
            Self::Cancelled { .. } => EventType::BasketCancelled,
            Self::Suspended => EventType::BasketSuspended,
            Self::Resumed => EventType::BasketResumed,
            Self::Discount { .. } => EventType::DiscountApplied,
            Self::Refund { .. } => EventType::RefundCompleted,
            Self::DrawerOpened { .. } => EventType::DrawerOpened,
            Self::AgeChecked { .. } => EventType::AgeChecked,
        }
    }
}
