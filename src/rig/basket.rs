//! What happens at one till with one customer: a basket from start to payment, a refund, a drawer opened for change.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::catalogue::{
    ProductIndex, any_product, category_of, companion_of, product_in, product_of, unrestricted_product,
};
use super::customers::Customers;
use super::fact::{Fact, Line, Planned, Tender};
use super::random::Random;

/// How many lines baskets have.
const SIZES: [usize; 20] = [1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 25, 32];
/// No ordinary basket grows past this; the fraud rule's limit is far above.
const ORDINARY_TOTAL_MAX: i64 = 45_000;
const HIGH_VALUE_TOTAL: i64 = 110_000;

/// What the shop pays for an empty bottle.
pub(super) const DEPOSIT: i64 = 25;
/// Where there are no smaller coins, cash is rounded to this.
const SMALLEST_COIN: i64 = 5;
/// What people hand over is a multiple of the smallest note.
const SMALLEST_NOTE: i64 = 500;

/// What makes a basket an anomaly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Twist {
    /// So many lines, so many of them voided.
    Voids(usize, usize),
    VoidAfterPayment,
    ManualDiscount,
    Card(u64),
    Loyalty(u32),
    HighValue,
    /// The basket as such is out of place.
    Started,
}

/// A customer's turn at a till.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub employee: u32,
    pub training: bool,
    /// The customer may ask to suspend the basket; another one is served in between.
    pub may_suspend: bool,
    /// The anomaly's number and what it is.
    pub anomaly: Option<(u64, Twist)>,
}

/// The part of a till that turns write to.
#[derive(Debug)]
pub(super) struct Till {
    pub store: u32,
    pub random: Random,
    /// Deposits, change and tips: a stream of their own, which leaves everything else as it is.
    pub money: Random,
    /// Time up to which everything is planned.
    pub cursor: i64,
    pub planned: VecDeque<Planned>,
    pub baskets: u32,
    pub refunds: u32,
    /// Lines added since this was last looked at.
    pub lines_added: u32,
}

struct Basket {
    number: u32,
    turn: Turn,
    customer: Option<u32>,
    card: Option<u64>,
    favourites: Option<[ProductIndex; 6]>,
    lines: SmallVec<[Line; 32]>,
    lines_total: u32,
    discount: i64,
}

pub(super) fn amount_of(line: &Line) -> i64 {
    (line.thousandths * product_of(line.product).price + 500) / 1000
}

/// The age that the law asks for where the store is: in the Netherlands and France it is 18 for beer and wine as well.
fn minimum_age(store: u32, product: ProductIndex) -> u8 {
    match category_of(product).minimum_age {
        16 if store % 4 >= 2 => 18,
        age => age,
    }
}

impl Till {
    fn push(&mut self, delay: i64, turn: &Turn, basket: u32, fact: Fact, marked: bool) {
        self.cursor += delay;
        let anomaly = turn.anomaly.filter(|_| marked).map(|(number, _)| number);
        let Turn { employee, training, .. } = *turn;
        self.planned.push_back(Planned { at: self.cursor, employee, basket, training, anomaly, fact });
    }

    /// Plans something outside of a basket.
    pub(super) fn act(&mut self, delay: i64, employee: u32, anomaly: Option<u64>, fact: Fact) {
        self.cursor += delay;
        let at = self.cursor;
        self.planned.push_back(Planned { at, employee, basket: 0, training: false, anomaly, fact });
    }

    /// Plans a refund.
    pub(super) fn refund(&mut self, employee: u32, anomaly: Option<u64>, receipt: bool, amount: i64) {
        self.refunds += 1;
        let original = (receipt && self.baskets > 0).then(|| {
            let number = self.random.below(u64::from(self.baskets)) + 1;
            u32::try_from(number).expect("a basket's number")
        });
        let tender = if self.random.percent(50) { Tender::Card(self.random.bits()) } else { Tender::Cash };
        let delay = self.random.between(20_000, 60_000);
        let number = self.refunds;
        self.act(delay, employee, anomaly, Fact::Refund { number, original, tender, amount, receipt });
    }

    /// Plans a whole basket.
    pub(super) fn serve(&mut self, customers: &mut Customers, turn: Turn) {
        let mut basket = self.begin(customers, turn);
        let twist = turn.anomaly.map(|(_, twist)| twist);
        self.push(0, &turn, basket.number, Fact::BasketStarted, twist == Some(Twist::Started));
        let identify_early = self.random.percent(70);
        if identify_early {
            self.identify(&basket);
        }
        self.add_lines(customers, &mut basket);
        if let Some(Twist::Voids(_, voids)) = twist {
            for _ in 0..voids {
                self.void_last(&mut basket, "customer_changed_mind", true);
            }
        }
        self.check_age(&mut basket);
        if basket.lines.is_empty() || (twist.is_none() && self.random.percent(1)) {
            self.push(4000, &turn, basket.number, Fact::Cancelled { reason: "customer_left" }, false);
            return;
        }
        if !identify_early {
            self.identify(&basket);
        }
        self.discount(&mut basket);
        self.pay(&mut basket);
    }

    fn begin(&mut self, customers: &mut Customers, turn: Turn) -> Basket {
        self.baskets += 1;
        let customer = match turn.anomaly {
            Some((_, Twist::Loyalty(customer))) => Some(customer),
            None if !turn.training && self.random.percent(45) => {
                customers.visit(self.store, self.cursor, &mut self.random)
            }
            _ => None,
        };
        let habits = customer.map(|customer| customers.habits(customer));
        let card = match (turn.anomaly, &habits) {
            (Some((_, Twist::Card(card))), _) => Some(card),
            (None, Some(habits)) => habits.card,
            _ => self.random.percent(60).then(|| self.random.bits()),
        };
        Basket {
            number: self.baskets,
            turn,
            customer,
            card,
            favourites: habits.map(|habits| habits.favourites),
            lines: SmallVec::new(),
            lines_total: 0,
            discount: 0,
        }
    }

    fn identify(&mut self, basket: &Basket) {
        if let Some(customer) = basket.customer {
            let method = if self.random.percent(60) { "loyalty_card" } else { "app" };
            let delay = self.random.between(1500, 5000);
            let marked = matches!(basket.turn.anomaly, Some((_, Twist::Loyalty(_))));
            self.push(delay, &basket.turn, basket.number, Fact::CustomerIdentified { customer, method }, marked);
        }
    }

    fn add_lines(&mut self, customers: &mut Customers, basket: &mut Basket) {
        let twist = basket.turn.anomaly.map(|(_, twist)| twist);
        let size = match twist {
            Some(Twist::Voids(lines, _)) => lines,
            Some(Twist::HighValue) => usize::MAX,
            _ => self.random.pick(&SIZES),
        };
        let suspend_after = (basket.turn.may_suspend && size > 2 && self.random.percent(1)).then_some(size / 2);
        let mut total = 0;
        let mut last = None;
        for count in 0..size {
            let limit = if twist == Some(Twist::HighValue) { HIGH_VALUE_TOTAL } else { ORDINARY_TOTAL_MAX };
            if total > limit {
                break;
            }
            let product = self.choose(basket, last);
            last = Some(product);
            total += self.add(basket, product);
            if twist.is_none() && self.random.in_million(12_000) {
                self.void_last(basket, "scanned_twice", false);
            }
            if suspend_after == Some(count) {
                self.suspend(customers, basket);
            }
        }
    }

    fn choose(&mut self, basket: &Basket, last: Option<ProductIndex>) -> ProductIndex {
        match basket.turn.anomaly {
            Some((_, Twist::HighValue)) => return product_in("spirits", &mut self.random),
            Some(_) => return unrestricted_product(&mut self.random),
            None => {}
        }
        if let Some(companion) = last.and_then(companion_of)
            && self.random.percent(35)
        {
            return companion;
        }
        match &basket.favourites {
            Some(favourites) if self.random.percent(45) => self.random.pick(favourites),
            _ => any_product(&mut self.random),
        }
    }

    fn add(&mut self, basket: &mut Basket, product: ProductIndex) -> i64 {
        let weighed = product_of(product).weighed;
        let thousandths = if weighed {
            self.random.between(110, 1900)
        } else if matches!(basket.turn.anomaly, Some((_, Twist::HighValue))) {
            self.random.between(4, 8) * 1000
        } else if self.random.percent(85) {
            1000
        } else {
            self.random.between(2, 4) * 1000
        };
        basket.lines_total += 1;
        if !basket.turn.training {
            self.lines_added += 1;
        }
        let line = Line { number: basket.lines_total, product, thousandths };
        let entry = match (weighed, self.random.percent(96)) {
            (true, _) => "scale",
            (false, true) => "scan",
            (false, false) => "keyed",
        };
        let delay = self.random.between(1500, 4800);
        self.push(delay, &basket.turn, basket.number, Fact::ItemAdded { line, entry }, false);
        basket.lines.push(line);
        amount_of(&line)
    }

    fn void_last(&mut self, basket: &mut Basket, reason: &'static str, marked: bool) {
        if let Some(line) = basket.lines.pop() {
            let delay = self.random.between(1500, 5000);
            self.push(delay, &basket.turn, basket.number, Fact::ItemVoided { line, reason }, marked);
        }
    }

    /// The customer has forgotten something; the next one is served meanwhile.
    fn suspend(&mut self, customers: &mut Customers, basket: &Basket) {
        self.push(3000, &basket.turn, basket.number, Fact::Suspended, false);
        self.cursor += self.random.between(8_000, 20_000);
        self.serve(customers, Turn { may_suspend: false, ..basket.turn });
        let delay = self.random.between(8_000, 20_000);
        self.push(delay, &basket.turn, basket.number, Fact::Resumed, false);
    }

    /// The highest age in the basket is asked for once. A refused customer leaves the restricted goods behind.
    fn check_age(&mut self, basket: &mut Basket) {
        let store = self.store;
        let minimum_age = basket.lines.iter().map(|line| minimum_age(store, line.product)).max().unwrap_or(0);
        if minimum_age == 0 {
            return;
        }
        let (outcome, supervisor) = match self.random.below(100) {
            0..2 if basket.turn.anomaly.is_none() => ("refused", None),
            2 => ("overridden", Some(self.store)),
            3..25 => ("approved_id", None),
            _ => ("approved_visual", None),
        };
        let fact = Fact::AgeChecked { outcome, minimum_age, supervisor };
        let delay = self.random.between(2_000, 9_000);
        self.push(delay, &basket.turn, basket.number, fact, false);
        if outcome == "refused" {
            let (refused, kept): (SmallVec<[Line; 32]>, SmallVec<[Line; 32]>) =
                basket.lines.iter().copied().partition(|line| category_of(line.product).minimum_age > 0);
            basket.lines = kept;
            for line in refused {
                let delay = self.random.between(1500, 4000);
                let fact = Fact::ItemVoided { line, reason: "age_refused" };
                self.push(delay, &basket.turn, basket.number, fact, false);
            }
        }
    }

    fn discount(&mut self, basket: &mut Basket) {
        let twisted = matches!(basket.turn.anomaly, Some((_, Twist::ManualDiscount)));
        let manual = twisted || (basket.turn.anomaly.is_none() && self.random.in_million(6_000));
        if !manual && !self.random.percent(8) {
            return;
        }
        let line = self.random.pick(&basket.lines);
        let percent = if manual { self.random.pick(&[15, 20, 25, 30]) } else { self.random.pick(&[10, 20, 25]) };
        let amount = (amount_of(&line) * percent / 100).max(1);
        basket.discount += amount;
        let reason = match (twisted, manual) {
            (true, _) => "price override",
            (false, true) => "damaged",
            (false, false) => "promotion",
        };
        let fact = Fact::Discount { line: Some(line.number), amount, percent, manual, reason };
        let delay = self.random.between(1000, 4000);
        self.push(delay, &basket.turn, basket.number, fact, twisted);
    }

    fn pay(&mut self, basket: &mut Basket) {
        let twist = basket.turn.anomaly.map(|(_, twist)| twist);
        let gross: i64 = basket.lines.iter().map(amount_of).sum();
        // A sale with a discount does not end in money for the customer: what the discount is off would be unclear.
        let most = if basket.discount > 0 { (gross - basket.discount).max(0) / DEPOSIT } else { i64::MAX };
        let returned = self.return_deposit(basket, most);
        let mut tender = basket.card.map_or(Tender::Cash, Tender::Card);
        let mut total = (gross - basket.discount).max(0) - returned;
        if total < 0 {
            tender = Tender::Cash;
        }
        let rounding = if tender == Tender::Cash && self.has_no_small_coins() { rounding(total) } else { 0 };
        total += rounding;
        let tax_in = |line: &Line| {
            let percent = category_of(line.product).tax_percent;
            amount_of(line) * percent / (100 + percent)
        };
        let tax = basket.lines.iter().map(tax_in).sum::<i64>() * total.abs() / gross.max(total.abs()).max(1);
        let items = u32::try_from(basket.lines.len()).expect("a basket's lines");
        let delay = self.random.between(1000, 4000);
        let number = basket.number;
        let fact = Fact::Subtotal { items, total, tax, rounding };
        self.push(delay, &basket.turn, number, fact, twist == Some(Twist::HighValue));
        let delay = self.random.between(7_000, 22_000);
        let marked = matches!(twist, Some(Twist::Card(_) | Twist::VoidAfterPayment));
        let (tip, change) = self.tip_and_change(tender, total);
        let fact = Fact::Payment { tender, amount: total, tip, change, customer: basket.customer };
        self.push(delay, &basket.turn, number, fact, marked);
        if twist == Some(Twist::VoidAfterPayment) {
            self.cursor += self.random.between(10_000, 60_000);
            self.void_last(basket, "correction", true);
        }
    }

    /// Some people bring their empties back. Answers what they are worth.
    fn return_deposit(&mut self, basket: &mut Basket, most: i64) -> i64 {
        if most == 0 || basket.turn.anomaly.is_some() || basket.turn.training || !self.money.percent(4) {
            return 0;
        }
        let pieces = self.money.between(1, 12).min(most);
        basket.lines_total += 1;
        let fact = Fact::DepositReturned { line: basket.lines_total, pieces };
        let delay = self.money.between(2_000, 6_000);
        self.push(delay, &basket.turn, basket.number, fact, false);
        pieces * DEPOSIT
    }

    /// In the Netherlands the smallest coin is one of five cents.
    const fn has_no_small_coins(&self) -> bool {
        self.store % 4 == 2
    }

    fn tip_and_change(&mut self, tender: Tender, amount: i64) -> (i64, i64) {
        match tender {
            Tender::Cash if amount > 0 && self.money.percent(70) => {
                (0, (SMALLEST_NOTE - amount % SMALLEST_NOTE) % SMALLEST_NOTE)
            }
            Tender::Card(_) if amount > 0 && self.money.percent(1) => (self.money.between(1, 5) * 50, 0),
            _ => (0, 0),
        }
    }
}

/// What leads to the nearest multiple of the smallest coin.
const fn rounding(total: i64) -> i64 {
    let over = total.rem_euclid(SMALLEST_COIN);
    if over * 2 < SMALLEST_COIN { -over } else { SMALLEST_COIN - over }
}
