//! Orders out of simulated baskets.

use std::collections::VecDeque;
use std::fmt::Write;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::rig::Options;
use crate::rig::basket::{DEPOSIT, Till, Turn};
use crate::rig::catalogue::product_of;
use crate::rig::customers::Customers;
use crate::rig::fact::{Fact, Line, Planned};
use crate::rig::random::{Purpose, Random};
use crate::rig::writer::{customer_id, employee_id, store_id, terminal_id};

const CURRENCY: &str = "EUR";
/// Between two orders in simulated time: long enough that customers come back now and then.
const ORDER_GAP_MS: i64 = 60_000;

/// One order, ready to be posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What goes into `Idempotency-Key`, without quotes: it follows from the seed, the order's number and its content.
    pub key: String,
    /// The body of `POST /api/orders`.
    pub body: Bytes,
}

/// Orders without end; the same options give the same ones.
#[derive(Debug)]
pub struct Orders {
    options: Options,
    customers: Customers,
    till: Till,
    number: u64,
}

impl Orders {
    /// The orders of the stores, terminals, employees and customers of a scenario.
    ///
    /// # Panics
    /// If there is no store or no terminal.
    #[must_use]
    pub fn new(options: Options) -> Self {
        assert!(options.stores > 0 && options.terminals > 0, "a scenario has at least one store with one terminal");
        let till = Till {
            store: 0,
            random: Random::new(options.seed, Purpose::Orders, 0),
            money: Random::new(options.seed, Purpose::Money, u64::MAX),
            cursor: options.start.as_millis(),
            planned: VecDeque::new(),
            baskets: 0,
            refunds: 0,
            lines_added: 0,
        };
        Self { customers: Customers::new(options.seed, options.stores, options.customers), till, number: 0, options }
    }

    /// A basket that was paid: its lines, what was taken off and who bought.
    fn basket(&mut self, employee: u32) -> Bought {
        loop {
            self.till.planned.clear();
            let turn = Turn { employee, training: false, may_suspend: false, anomaly: None };
            self.till.serve(&mut self.customers, turn);
            if let Some(bought) = Bought::from(&self.till.planned) {
                return bought;
            }
        }
    }
}

impl Iterator for Orders {
    type Item = Order;

    fn next(&mut self) -> Option<Order> {
        let Options { stores, terminals, employees, seed, .. } = self.options;
        let terminal = u32::try_from(self.till.random.below(u64::from(stores) * u64::from(terminals))).ok()?;
        let store = terminal / terminals;
        self.till.store = store;
        self.till.cursor += ORDER_GAP_MS;
        // As in the roster: employees are counted through the stores.
        let staff = employees.max(stores).saturating_sub(store).div_ceil(stores);
        let employee = store + stores * u32::try_from(self.till.random.below(u64::from(staff))).ok()?;
        let bought = self.basket(employee);
        let body = Bytes::from(bought.to_body(store, terminal, employee).to_string());
        self.number += 1;
        Some(Order { key: key_of(seed, self.number, &body), body })
    }
}

/// A UUID of version 8. With the content in it, another scenario under the same seed never meets its keys.
fn key_of(seed: u64, number: u64, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(number.to_le_bytes());
    hash.update(body);
    let mut bytes: [u8; 16] = hash.finalize()[..16].try_into().expect("a digest has 32 bytes");
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes.iter().enumerate().fold(String::with_capacity(36), |mut key, (index, byte)| {
        if matches!(index, 4 | 6 | 8 | 10) {
            key.push('-');
        }
        write!(key, "{byte:02x}").expect("writing to memory does not fail");
        key
    })
}

#[derive(Debug, Default)]
struct Bought {
    lines: Vec<Line>,
    /// Empties that were brought back, in pieces.
    empties: i64,
    discount: i64,
    rounding: i64,
    total: i64,
    customer: Option<u32>,
}

impl Bought {
    /// `None` if the basket was left behind.
    fn from(planned: &VecDeque<Planned>) -> Option<Self> {
        let mut bought = Self::default();
        let mut paid = false;
        for Planned { fact, .. } in planned {
            match fact {
                Fact::ItemAdded { line, .. } => bought.lines.push(*line),
                Fact::ItemVoided { line, .. } => bought.lines.retain(|kept| kept.number != line.number),
                Fact::Discount { amount, .. } => bought.discount += amount,
                Fact::DepositReturned { pieces, .. } => bought.empties += pieces,
                Fact::Subtotal { total, rounding, .. } => (bought.total, bought.rounding) = (*total, *rounding),
                Fact::Payment { customer, .. } => {
                    bought.customer = *customer;
                    paid = true;
                }
                _ => {}
            }
        }
        (paid && !bought.lines.is_empty()).then_some(bought)
    }

    fn to_body(&self, store: u32, terminal: u32, employee: u32) -> Value {
        let mut items: Vec<_> = self.lines.iter().map(line_as_json).collect();
        if self.empties > 0 {
            items.push(json!({"productId": "DEPOSIT", "quantity": self.empties, "unitPrice": DEPOSIT,
                "description": "Empties", "returned": true}));
        }
        let mut body = json!({
            "storeId": store_id(store),
            "terminalId": terminal_id(terminal),
            "employeeId": employee_id(employee),
            "currency": CURRENCY,
            "items": items,
            "total": self.total.abs(),
        });
        if self.total < 0 {
            body["direction"] = "refund".into();
        }
        if self.rounding != 0 {
            body["rounding"] = (self.rounding * if self.total < 0 { -1 } else { 1 }).into();
        }
        if let Some(customer) = self.customer {
            body["customerId"] = customer_id(customer).into();
        }
        if self.discount > 0 {
            body["discount"] = self.discount.into();
        }
        body
    }
}

fn line_as_json(line: &Line) -> Value {
    let product = product_of(line.product);
    let mut json = json!({
        "productId": format!("P{:04}", line.product + 1),
        "quantity": quantity(line.thousandths),
        "unitPrice": product.price,
        "description": product.name,
    });
    if product.weighed {
        // What the scale printed: a total must not depend on how somebody rounds.
        json["amount"] = crate::rig::basket::amount_of(line).into();
    }
    json
}

#[expect(clippy::cast_precision_loss, reason = "a quantity is small and has three decimal places")]
fn quantity(thousandths: i64) -> Value {
    if thousandths % 1000 == 0 { (thousandths / 1000).into() } else { (thousandths as f64 / 1000.0).into() }
}
