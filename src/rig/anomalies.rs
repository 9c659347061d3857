//! The anomalies: one kind for each default fraud rule, made so that exactly this rule fires, exactly once.
//!
//! The figures follow the limits of `plugins.yaml`; who changes those rules will find the rig's labels to be wrong.

use super::basket::{Till, Turn, Twist};
use super::customers::Customers;
use super::fact::Fact;
use super::scenario::{HOUR, MINUTE};

/// What somebody does that a default fraud rule looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Far too many voided lines.
    VoidRate,
    /// A line voided after the customer has paid.
    VoidAfterPayment,
    /// Many refunds in a day.
    RefundsPerDay,
    /// A large refund without receipt.
    RefundWithoutReceipt,
    /// The drawer opened without a sale, again and again.
    NoSaleDrawer,
    /// Many manual discounts.
    ManualDiscounts,
    /// One card in many sales.
    CardInManySales,
    /// One loyalty account in many sales.
    LoyaltyInManySales,
    /// A sale after closing time.
    SalesOutOfHours,
    /// One employee at two tills within a minute.
    TwoTillsAtOnce,
    /// A basket of very high value.
    HighValueBasket,
}

/// Number of kinds.
pub(super) const KINDS: usize = 11;

impl Kind {
    /// All kinds.
    pub const ALL: [Self; KINDS] = [
        Self::VoidRate,
        Self::VoidAfterPayment,
        Self::RefundsPerDay,
        Self::RefundWithoutReceipt,
        Self::NoSaleDrawer,
        Self::ManualDiscounts,
        Self::CardInManySales,
        Self::LoyaltyInManySales,
        Self::SalesOutOfHours,
        Self::TwoTillsAtOnce,
        Self::HighValueBasket,
    ];

    /// The id of the rule in `plugins.yaml` that should fire.
    #[must_use]
    pub const fn rule_id(self) -> &'static str {
        match self {
            Self::VoidRate => "void-rate",
            Self::VoidAfterPayment => "void-after-payment",
            Self::RefundsPerDay => "refunds-per-day",
            Self::RefundWithoutReceipt => "refund-without-receipt",
            Self::NoSaleDrawer => "no-sale-drawer",
            Self::ManualDiscounts => "manual-discounts",
            Self::CardInManySales => "card-in-many-sales",
            Self::LoyaltyInManySales => "loyalty-in-many-sales",
            Self::SalesOutOfHours => "sales-out-of-hours",
            Self::TwoTillsAtOnce => "two-tills-at-once",
            Self::HighValueBasket => "high-value-basket",
        }
    }

    /// Time that must lie between two of this kind by one entity, so that each fires its rule anew: its cooldown and more.
    pub(super) const fn pause(self) -> i64 {
        match self {
            Self::RefundsPerDay | Self::NoSaleDrawer | Self::SalesOutOfHours => 20 * HOUR,
            Self::ManualDiscounts => 12 * HOUR,
            Self::VoidRate | Self::RefundWithoutReceipt => 3 * HOUR,
            Self::VoidAfterPayment | Self::TwoTillsAtOnce => 40 * MINUTE,
            Self::CardInManySales | Self::LoyaltyInManySales => 0,
            Self::HighValueBasket => 10 * MINUTE,
        }
    }

    /// True if the rule counts by employee, so that its pause holds for the employee; else for the terminal.
    pub(super) const fn is_by_employee(self) -> bool {
        matches!(
            self,
            Self::VoidRate
                | Self::RefundsPerDay
                | Self::RefundWithoutReceipt
                | Self::NoSaleDrawer
                | Self::ManualDiscounts
                | Self::TwoTillsAtOnce
        )
    }

    /// Time that the till must still be manned by the same employee.
    pub(super) const fn duration(self) -> i64 {
        match self {
            Self::SalesOutOfHours => 0,
            Self::VoidAfterPayment | Self::RefundWithoutReceipt | Self::TwoTillsAtOnce => 8 * MINUTE,
            Self::HighValueBasket => 10 * MINUTE,
            Self::VoidRate | Self::CardInManySales | Self::LoyaltyInManySales => 30 * MINUTE,
            Self::RefundsPerDay | Self::NoSaleDrawer => 45 * MINUTE,
            Self::ManualDiscounts => 60 * MINUTE,
        }
    }
}

/// More lines than this in the last hour of an employee need more voids than anybody would believe.
pub(super) const VOID_RATE_LINES_MAX: u32 = 80;

/// Somebody at a till, about to do something unusual.
pub(super) struct Culprit<'a> {
    pub till: &'a mut Till,
    pub customers: &'a mut Customers,
    pub employee: u32,
    /// The anomaly's number.
    pub number: u64,
    /// Lines that the employee has added in the last hour, at most.
    pub recent_lines: u32,
}

impl Culprit<'_> {
    /// Plans the events of an anomaly at this till. Those about a card or a customer have methods of their own.
    pub(super) fn commit(&mut self, kind: Kind) {
        match kind {
            Kind::VoidRate => {
                // 42 lines, and a quarter of all lines of the hour voided where the limit is a fifth.
                let voids = usize::try_from((self.recent_lines + 42) / 4 + 2).expect("a small number");
                for basket in 0..3 {
                    self.basket(Twist::Voids(14, (voids + basket) / 3));
                }
            }
            Kind::VoidAfterPayment => self.basket(Twist::VoidAfterPayment),
            Kind::HighValueBasket => self.basket(Twist::HighValue),
            Kind::SalesOutOfHours | Kind::TwoTillsAtOnce => self.basket(Twist::Started),
            Kind::ManualDiscounts => self.repeat(9, |culprit| culprit.basket(Twist::ManualDiscount)),
            Kind::CardInManySales | Kind::LoyaltyInManySales => {}
            Kind::RefundWithoutReceipt => {
                let amount = self.till.random.between(3_500, 18_000);
                self.till.refund(self.employee, Some(self.number), false, amount);
            }
            Kind::RefundsPerDay => self.repeat(7, |culprit| {
                let amount = culprit.till.random.between(400, 4_500);
                culprit.till.refund(culprit.employee, Some(culprit.number), true, amount);
            }),
            Kind::NoSaleDrawer => self.repeat(6, |culprit| {
                let delay = culprit.till.random.between(10_000, 40_000);
                let fact = Fact::DrawerOpened { reason: "no_sale" };
                culprit.till.act(delay, culprit.employee, Some(culprit.number), fact);
            }),
        }
    }

    /// The loyalty account of this customer in one sale after the other.
    pub(super) fn loyalty(&mut self, customer: u32) {
        self.repeat(4, |culprit| culprit.basket(Twist::Loyalty(customer)));
    }

    /// This card pays for one basket after the other.
    pub(super) fn card(&mut self, card: u64) {
        self.repeat(4, |culprit| culprit.basket(Twist::Card(card)));
    }

    fn basket(&mut self, twist: Twist) {
        self.till.cursor += self.till.random.between(5_000, 30_000);
        let anomaly = Some((self.number, twist));
        let turn = Turn { employee: self.employee, training: false, may_suspend: false, anomaly };
        self.till.serve(self.customers, turn);
    }

    /// Does it so often, now and then with an honest customer in between.
    fn repeat(&mut self, times: u32, mut act: impl FnMut(&mut Self)) {
        for _ in 0..times {
            act(self);
            if self.till.random.percent(40) {
                self.till.cursor += self.till.random.between(5_000, 30_000);
                let turn = Turn { employee: self.employee, training: false, may_suspend: false, anomaly: None };
                self.till.serve(self.customers, turn);
            }
        }
    }
}
