//! Writes facts as `CloudEvents` in structured JSON, by hand: this is the rig's hot path.

use bytes::{BufMut, Bytes, BytesMut};
use compact_str::{CompactString, format_compact};

use super::basket::DEPOSIT;
use super::catalogue::{category_of, product_of};
use super::fact::{Fact, Line, Planned, Tender};
use super::scenario::Calendar;
use crate::time::Timestamp;

/// Bytes that are allocated at once for many events.
const CHUNK_BYTES: usize = 64 * 1024;
/// No event of the rig is longer.
const EVENT_BYTES: usize = 1024;
const DAY_MS: i64 = 86_400_000;

/// The texts of one terminal that do not change.
#[derive(Debug)]
pub(super) struct TerminalNames {
    /// `T0007`
    pub id: CompactString,
    /// `/stores/S001/terminals/T0007`
    pub source: String,
}

impl TerminalNames {
    /// Names from numbers that count from 0.
    pub(super) fn new(store: u32, terminal: u32) -> Self {
        let id = terminal_id(terminal);
        Self { source: format!("/stores/{}/terminals/{id}", store_id(store)), id }
    }

    /// `source#id` of an event.
    pub(super) fn event_name(&self, sequence: u64) -> String {
        format!("{}#{}-{sequence:06}", self.source, self.id)
    }
}

/// The id of a store whose number counts from 0.
pub(super) fn store_id(number: u32) -> CompactString {
    format_compact!("S{:03}", number + 1)
}

/// The id of a terminal whose number counts from 0 over all stores.
pub(super) fn terminal_id(number: u32) -> CompactString {
    format_compact!("T{:04}", number + 1)
}

/// The id of an employee whose number counts from 0.
pub(super) fn employee_id(number: u32) -> String {
    format!("E{:04}", number + 1)
}

/// The id of a customer whose number counts from 0.
pub(super) fn customer_id(number: u32) -> String {
    format!("C{:06}", number + 1)
}

/// The token of a card.
pub(super) fn card_token(card: u64) -> String {
    format!("tok_{:012x}", card >> 16)
}

/// Writes events one after the other into shared chunks of memory.
#[derive(Debug)]
pub(super) struct Writer {
    out: BytesMut,
    utc_day: i64,
    utc_date: CompactString,
    business_from: i64,
    business_to: i64,
    business_date: CompactString,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            out: BytesMut::new(),
            utc_day: i64::MIN,
            utc_date: CompactString::default(),
            business_from: 0,
            business_to: 0,
            business_date: CompactString::default(),
        }
    }

    /// Writes one event that carries the time `at`.
    pub(super) fn write(
        &mut self,
        names: &TerminalNames,
        sequence: u64,
        at: i64,
        planned: &Planned,
        calendar: &Calendar,
    ) -> Bytes {
        if self.out.capacity() < EVENT_BYTES {
            self.out = BytesMut::with_capacity(CHUNK_BYTES);
        }
        self.text("{\"specversion\":\"1.0\",\"id\":\"");
        self.text(&names.id);
        self.text("-");
        self.number(sequence, 6);
        self.text("\",\"source\":\"");
        self.text(&names.source);
        self.text("\",\"type\":\"");
        self.text(planned.fact.event_type().as_str());
        self.text("\",\"time\":\"");
        self.time(at);
        self.text("\",\"datacontenttype\":\"application/json\",\"partitionkey\":\"");
        self.text(&names.id);
        self.text("\",\"sequence\":");
        self.number(sequence, 1);
        self.text(",\"businessday\":\"");
        self.business_day(at, calendar);
        self.text(if planned.training { "\",\"training\":true,\"data\":{" } else { "\",\"data\":{" });
        self.data(names, planned);
        self.text("}}");
        self.out.split().freeze()
    }

    fn data(&mut self, names: &TerminalNames, planned: &Planned) {
        match &planned.fact {
            Fact::LoggedIn => self.employee(planned.employee),
            Fact::LoggedOut { reason } | Fact::DrawerOpened { reason } => {
                self.employee(planned.employee);
                self.string("reason", reason);
            }
            Fact::BasketStarted | Fact::Suspended | Fact::Resumed => self.basket(names, planned),
            Fact::Cancelled { reason } => {
                self.basket(names, planned);
                self.string("reason", reason);
            }
            Fact::CustomerIdentified { customer, method } => {
                self.basket(names, planned);
                self.customer(*customer);
                self.string("method", method);
            }
            Fact::ItemAdded { line, entry } => {
                self.basket(names, planned);
                self.line(line, true);
                self.string("entryMethod", entry);
            }
            Fact::ItemVoided { line, reason } => {
                self.basket(names, planned);
                self.line(line, false);
                self.string("reason", reason);
            }
            Fact::DepositReturned { line, pieces } => {
                self.basket(names, planned);
                self.amount("line", i64::from(*line));
                self.text(",\"productId\":\"DEPOSIT\",\"description\":\"Empties\",\"category\":\"deposit\"");
                self.amount("quantity", *pieces);
                self.amount("unitPrice", DEPOSIT);
                self.currency();
            }
            Fact::Subtotal { items, total, tax, rounding } => {
                self.basket(names, planned);
                self.amount("itemCount", i64::from(*items));
                self.amount("subtotal", (total - rounding).abs() - tax);
                self.amount("tax", *tax);
                self.amount("total", total.abs());
                self.currency();
                self.direction(*total);
                if *rounding != 0 {
                    // Signed as the total is: what rounding adds to what changes hands.
                    let by = if *total < 0 { -rounding } else { *rounding };
                    self.text(if by < 0 { ",\"rounding\":-" } else { ",\"rounding\":" });
                    self.number(by.unsigned_abs(), 1);
                }
            }
            Fact::Payment { tender, amount, tip, change, customer } => {
                self.basket(names, planned);
                self.id("paymentId", &names.id, 'P', planned.basket);
                self.tender(*tender, amount.abs());
                self.direction(*amount);
                for (key, value) in [("tip", tip), ("change", change)] {
                    if *value > 0 {
                        self.amount(key, *value);
                    }
                }
                if let Some(customer) = customer {
                    self.customer(*customer);
                }
            }
            Fact::Discount { line, amount, percent, manual, reason } => {
                self.basket(names, planned);
                if let Some(line) = line {
                    self.amount("line", i64::from(*line));
                }
                self.amount("amount", *amount);
                self.amount("percent", *percent);
                self.currency();
                self.text(if *manual { ",\"manual\":true" } else { ",\"manual\":false" });
                self.string("reason", reason);
            }
            Fact::Refund { number, original, tender, amount, receipt } => {
                self.employee(planned.employee);
                self.id("refundId", &names.id, 'R', *number);
                if let Some(original) = original {
                    self.id("originalBasketId", &names.id, 'B', *original);
                }
                self.tender(*tender, *amount);
                self.text(if *receipt { ",\"receipt\":true" } else { ",\"receipt\":false" });
            }
            Fact::AgeChecked { outcome, minimum_age, supervisor } => {
                self.basket(names, planned);
                self.string("outcome", outcome);
                self.amount("minimumAge", i64::from(*minimum_age));
                if let Some(supervisor) = supervisor {
                    self.text(",\"supervisorId\":\"E");
                    self.number(u64::from(*supervisor) + 1, 4);
                    self.text("\",\"reason\":\"known customer\"");
                }
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.out.put_slice(text.as_bytes());
    }

    /// A number with at least `width` digits.
    fn number(&mut self, mut number: u64, width: usize) {
        let mut digits = [b'0'; 20];
        let mut first = digits.len();
        while number > 0 || digits.len() - first < width {
            first -= 1;
            digits[first] += u8::try_from(number % 10).expect("a digit");
            number /= 10;
        }
        self.out.put_slice(&digits[first..]);
    }

    fn employee(&mut self, number: u32) {
        self.text("\"employeeId\":\"E");
        self.number(u64::from(number) + 1, 4);
        self.text("\"");
    }

    fn basket(&mut self, names: &TerminalNames, planned: &Planned) {
        self.employee(planned.employee);
        self.id("basketId", &names.id, 'B', planned.basket);
    }

    fn id(&mut self, key: &str, terminal: &str, letter: char, number: u32) {
        self.key(key);
        self.text("\"");
        self.text(terminal);
        self.text("-");
        self.text(letter.encode_utf8(&mut [0; 4]));
        self.number(u64::from(number), 5);
        self.text("\"");
    }

    fn customer(&mut self, number: u32) {
        self.text(",\"customerId\":\"C");
        self.number(u64::from(number) + 1, 6);
        self.text("\"");
    }

    fn key(&mut self, key: &str) {
        self.text(",\"");
        self.text(key);
        self.text("\":");
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(key);
        self.text("\"");
        self.text(value);
        self.text("\"");
    }

    fn amount(&mut self, key: &str, amount: i64) {
        self.key(key);
        self.number(u64::try_from(amount).unwrap_or(0), 1);
    }

    fn currency(&mut self) {
        self.text(",\"currency\":\"EUR\"");
    }

    fn direction(&mut self, amount: i64) {
        if amount < 0 {
            self.text(",\"direction\":\"refund\"");
        }
    }

    fn tender(&mut self, tender: Tender, amount: i64) {
        self.string("method", if tender == Tender::Cash { "cash" } else { "card" });
        self.amount("amount", amount);
        self.currency();
        if let Tender::Card(card) = tender {
            self.text(",\"cardToken\":\"tok_");
            let card = card >> 16;
            for nibble in (0..12).rev() {
                let digit = usize::try_from(card >> (nibble * 4) & 15).expect("a nibble");
                self.out.put_u8(b"0123456789abcdef"[digit]);
            }
            self.text("\"");
        }
    }

    fn line(&mut self, line: &Line, whole: bool) {
        let product = product_of(line.product);
        self.amount("line", i64::from(line.number));
        self.text(",\"productId\":\"P");
        self.number(u64::from(line.product) + 1, 4);
        self.text("\"");
        if whole {
            self.string("description", product.name);
            self.string("category", category_of(line.product).name);
        }
        self.amount("quantity", line.thousandths / 1000);
        if line.thousandths % 1000 != 0 {
            self.text(".");
            self.number(u64::try_from(line.thousandths % 1000).unwrap_or(0), 3);
        }
        self.amount("unitPrice", product.price);
        self.currency();
    }

    fn time(&mut self, at: i64) {
        let day = at.div_euclid(DAY_MS);
        if day != self.utc_day {
            self.utc_day = day;
            let text = Timestamp::from_millis(at).to_string();
            self.utc_date = CompactString::new(&text[..11]);
        }
        let within = u64::try_from(at.rem_euclid(DAY_MS)).expect("not negative");
        self.out.put_slice(self.utc_date.as_bytes());
        self.number(within / 3_600_000, 2);
        self.text(":");
        self.number(within / 60_000 % 60, 2);
        self.text(":");
        self.number(within / 1000 % 60, 2);
        self.text(".");
        self.number(within % 1000, 3);
        self.text("Z");
    }

    fn business_day(&mut self, at: i64, calendar: &Calendar) {
        if at < self.business_from || at >= self.business_to {
            let (date, from, to) = calendar.date_of(at);
            (self.business_from, self.business_to) = (from, to);
            self.business_date = format_compact!("{date}");
        }
        self.out.put_slice(self.business_date.as_bytes());
    }
}
