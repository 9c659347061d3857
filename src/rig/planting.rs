//! Where and when anomalies are planted: only where nothing else would make the same rule fire, or keep it from firing.

use smallvec::SmallVec;

use super::anomalies::{Culprit, KINDS, Kind, VOID_RATE_LINES_MAX};
use super::fact::Fact;
use super::generator::{Generator, index};
use super::scenario::{LAST_BASKET, MINUTE, Pace};
use super::writer::{card_token, customer_id, employee_id};

/// Somebody else who is about to sell at another till of the same store.
#[derive(Debug, Clone, Copy)]
struct Elsewhere {
    terminal: u32,
    /// Index in what is planned there.
    planned: usize,
    employee: u32,
    at: i64,
}

impl Generator {
    /// Plants an anomaly of some kind at a till; false if none is possible just now.
    pub(super) fn plant(&mut self, number: u32) -> bool {
        let elsewhere = self.elsewhere(number);
        let possible: SmallVec<[Kind; KINDS]> =
            Kind::ALL.into_iter().filter(|kind| self.is_possible(*kind, number, elsewhere)).collect();
        let terminal = &mut self.terminals[index(number)];
        let Some(stint) = &terminal.stint else { return false };
        if possible.is_empty() {
            return false;
        }
        let kind = terminal.till.random.pick(&possible);
        let employee = stint.employee;
        match kind {
            Kind::SalesOutOfHours => {
                terminal.after_hours = true;
                return false;
            }
            Kind::TwoTillsAtOnce => {
                let Some(elsewhere) = elsewhere else { return false };
                self.sell_as_somebody_else(number, elsewhere);
            }
            Kind::LoyaltyInManySales => {
                let till = &mut terminal.till;
                let Some(customer) = self.customers.visit(till.store, till.cursor, &mut till.random) else {
                    return false;
                };
                self.commit(kind, number, employee, format!("customer:{}", customer_id(customer)), |culprit| {
                    culprit.loyalty(customer);
                });
            }
            Kind::CardInManySales => {
                let card = terminal.till.random.bits();
                let entity = format!("card:{}", card_token(card));
                self.commit(kind, number, employee, entity, |culprit| culprit.card(card));
            }
            Kind::VoidAfterPayment | Kind::HighValueBasket => {
                let entity = format!("terminal:{}", terminal.names.id);
                self.commit(kind, number, employee, entity, |culprit| culprit.commit(kind));
            }
            Kind::VoidRate
            | Kind::RefundsPerDay
            | Kind::RefundWithoutReceipt
            | Kind::NoSaleDrawer
            | Kind::ManualDiscounts => {
                let entity = format!("employee:{}", employee_id(employee));
                self.commit(kind, number, employee, entity, |culprit| culprit.commit(kind));
            }
        }
        true
    }

    fn is_possible(&self, kind: Kind, number: u32, elsewhere: Option<Elsewhere>) -> bool {
        let terminal = &self.terminals[index(number)];
        let Some(stint) = &terminal.stint else { return false };
        let now = terminal.till.cursor;
        if now + kind.duration() + LAST_BASKET > stint.to {
            return false;
        }
        let culprit = match kind {
            Kind::TwoTillsAtOnce => elsewhere.map(|elsewhere| elsewhere.employee),
            _ => Some(stint.employee),
        };
        let Some(employee) = culprit.map(|employee| &self.employees[index(employee)]) else { return false };
        let last = if kind.is_by_employee() { employee.anomaly_at } else { terminal.anomaly_at };
        if now - last[kind as usize] < kind.pause().saturating_mul(self.speed) {
            return false;
        }
        match kind {
            Kind::VoidRate => employee.recent_lines <= VOID_RATE_LINES_MAX,
            Kind::SalesOutOfHours => {
                !self.options.always_open && self.options.pace == Pace::Simulated && !terminal.after_hours
            }
            _ => true,
        }
    }

    /// A sale that somebody is about to begin or to end at another till of the same store.
    fn elsewhere(&self, number: u32) -> Option<Elsewhere> {
        let here = &self.terminals[index(number)];
        let now = here.till.cursor;
        let first = number - number % self.options.terminals;
        (first..first + self.options.terminals).filter(|other| *other != number).find_map(|terminal| {
            let other = &self.terminals[index(terminal)];
            let employee = other.stint.as_ref()?.employee;
            let planned = other.till.planned.iter().position(|planned| {
                matches!(planned.fact, Fact::BasketStarted | Fact::Payment { .. })
                    && (now + MINUTE / 4..now + 3 * MINUTE).contains(&planned.at)
                    && planned.employee == employee
                    && planned.anomaly.is_none()
                    && !planned.training
            })?;
            Some(Elsewhere { terminal, planned, employee, at: other.till.planned[planned].at })
        })
    }

    fn sell_as_somebody_else(&mut self, number: u32, elsewhere: Elsewhere) {
        let Elsewhere { terminal, planned, employee, at } = elsewhere;
        let anomaly = self.labels.next_number();
        self.terminals[index(terminal)].till.planned[planned].anomaly = Some(anomaly);
        // The culprit begins within half a minute after the sale at the other till.
        self.terminals[index(number)].till.cursor = at - 4_000;
        let entity = format!("employee:{}", employee_id(employee));
        self.commit(Kind::TwoTillsAtOnce, number, employee, entity, |culprit| culprit.commit(Kind::TwoTillsAtOnce));
    }

    /// The last employee of the day comes back to a till once the store is closed.
    pub(super) fn sell_after_hours(&mut self, number: u32, employee: u32) {
        let terminal = &mut self.terminals[index(number)];
        let till = &mut terminal.till;
        let closing = self.calendar.closing(terminal.day);
        till.cursor = closing.max(till.cursor) + till.random.between(20 * MINUTE, 100 * MINUTE);
        till.act(0, employee, None, Fact::LoggedIn);
        let entity = format!("terminal:{}", terminal.names.id);
        self.commit(Kind::SalesOutOfHours, number, employee, entity, |culprit| {
            culprit.commit(Kind::SalesOutOfHours);
        });
        let till = &mut self.terminals[index(number)].till;
        till.act(20_000, employee, None, Fact::LoggedOut { reason: "shift_end" });
        self.employees[index(employee)].logged_out = till.cursor;
    }

    fn commit(&mut self, kind: Kind, number: u32, employee: u32, entity: String, deed: impl FnOnce(&mut Culprit<'_>)) {
        let terminal = &mut self.terminals[index(number)];
        let person = &mut self.employees[index(employee)];
        let anomaly = self.labels.next_number();
        let last = if kind.is_by_employee() { &mut person.anomaly_at } else { &mut terminal.anomaly_at };
        last[kind as usize] = terminal.till.cursor;
        let recent_lines = person.recent_lines;
        let customers = &mut self.customers;
        deed(&mut Culprit { till: &mut terminal.till, customers, employee, number: anomaly, recent_lines });
        person.recent_lines = person.recent_lines.saturating_add(std::mem::take(&mut terminal.till.lines_added));
        let here = terminal.till.planned.iter().filter(|planned| planned.anomaly == Some(anomaly)).count();
        let events = here + usize::from(kind == Kind::TwoTillsAtOnce);
        self.labels.open(kind, entity, events);
    }
}
