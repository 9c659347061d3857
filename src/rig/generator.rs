//! All tills of all stores, each a small state machine, merged in the order of time.
//!
//! A till plans a turn at a time (a customer, a login, a logout); a queue by time says whose event is next. So memory grows with
//! the tills, never with the events.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use bytes::Bytes;

use super::anomalies::KINDS;
use super::basket::{Till, Turn};
use super::customers::Customers;
use super::fact::Fact;
use super::labels::{Label, OpenLabels};
use super::random::{Purpose, Random};
use super::roster::{Stint, plan_day};
use super::scenario::{Calendar, HOUR, LAST_BASKET, Limit, MINUTE, Options, Pace};
use super::writer::{TerminalNames, Writer};

const NEVER: i64 = i64::MIN / 2;

#[derive(Debug)]
pub(super) struct Terminal {
    pub(super) names: TerminalNames,
    pub(super) till: Till,
    /// Index among the terminals of its store.
    place: usize,
    sequence: u64,
    pub(super) day: i64,
    /// When the day began.
    midnight: i64,
    stints: VecDeque<Stint>,
    pub(super) stint: Option<Stint>,
    pub(super) anomaly_at: [i64; KINDS],
    /// Somebody will come back after closing time.
    pub(super) after_hours: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Employee {
    /// Lines added since the last pause of an hour or more.
    pub(super) recent_lines: u32,
    pub(super) logged_out: i64,
    pub(super) anomaly_at: [i64; KINDS],
    refund_at: i64,
    drawer_at: i64,
}

/// One store's day; each till takes its part.
#[derive(Debug)]
struct DayPlan {
    tills: Vec<VecDeque<Stint>>,
    taken: usize,
}

/// One event, as it leaves a till.
#[derive(Debug)]
pub(super) struct Sent {
    pub terminal: u32,
    pub sequence: u64,
    pub at: i64,
    pub bytes: Bytes,
    pub is_anomaly: bool,
    /// The label of an anomaly that is complete with this event.
    pub label: Option<Label>,
}

/// The merged stream of all tills.
#[derive(Debug)]
pub(super) struct Generator {
    pub(super) options: Options,
    anomaly_parts: u32,
    pub(super) calendar: Calendar,
    pub(super) customers: Customers,
    pub(super) employees: Vec<Employee>,
    pub(super) terminals: Vec<Terminal>,
    /// What is left of each store's days, by store and day.
    plans: BTreeMap<(u32, i64), DayPlan>,
    queue: BinaryHeap<Reverse<(i64, u32)>>,
    pub(super) labels: OpenLabels,
    writer: Writer,
    events: u64,
    sessions: u64,
    pub(super) speed: i64,
    time_base: i64,
    time_base_event: u64,
}

impl Generator {
    pub(super) fn new(options: Options) -> Self {
        let calendar = Calendar::new(&options);
        let employee = Employee {
            recent_lines: 0,
            logged_out: NEVER,
            anomaly_at: [NEVER; KINDS],
            refund_at: NEVER,
            drawer_at: NEVER,
        };
        let staff = usize::try_from(options.employees.max(options.stores)).expect("a staff count fits");
        let terminals = (0..options.terminals_total()).map(|number| Terminal::new(&options, number)).collect();
        let mut generator = Self {
            anomaly_parts: options.anomaly_parts(),
            customers: Customers::new(options.seed, options.stores, options.customers),
            employees: vec![employee; staff],
            terminals,
            plans: BTreeMap::new(),
            queue: BinaryHeap::new(),
            labels: OpenLabels::default(),
            writer: Writer::new(),
            events: 0,
            sessions: 0,
            speed: options.speed(),
            time_base: options.start.as_millis(),
            time_base_event: 0,
            calendar,
            options,
        };
        for number in 0..generator.options.terminals_total() {
            generator.enqueue(number);
        }
        generator
    }

    /// Sequences go on after the highest that was sent; baskets and refunds are counted on from there as well.
    pub(super) fn resume(&mut self, highest: impl Fn(&str) -> u64) {
        for terminal in &mut self.terminals {
            terminal.sequence = highest(&terminal.names.source);
            let count = u32::try_from(terminal.sequence).unwrap_or(u32::MAX / 2);
            terminal.till.baskets = count;
            terminal.till.refunds = count;
        }
    }

    pub(super) fn names(&self, terminal: u32) -> &TerminalNames {
        &self.terminals[index(terminal)].names
    }

    /// From the next event on, event times go on from `at`: the sender was held up.
    pub(super) const fn restart_time_at(&mut self, at: i64) {
        self.time_base = at;
        self.time_base_event = self.events;
    }

    fn event_time(&self, simulated: i64) -> i64 {
        match self.options.pace {
            Pace::Simulated => simulated,
            Pace::EventsPerSecond(rate) => {
                #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "milliseconds")]
                let offset = ((self.events - self.time_base_event) as f64 * 1000.0 / rate) as i64;
                self.time_base + offset
            }
        }
    }

    /// The next event in the order of time.
    pub(super) fn next(&mut self) -> Option<Sent> {
        loop {
            if matches!(self.options.limit, Limit::Events(limit) if self.events >= limit) {
                return None;
            }
            let Reverse((simulated, number)) = self.queue.pop()?;
            let at = self.event_time(simulated);
            if matches!(self.options.limit, Limit::DurationMs(limit) if at >= self.options.start.as_millis() + limit) {
                return None;
            }
            let terminal = &mut self.terminals[index(number)];
            let planned = terminal.till.planned.pop_front().expect("a queued till has something planned");
            if matches!(planned.fact, Fact::LoggedIn) {
                if matches!(self.options.limit, Limit::Sessions(limit) if self.sessions >= limit) {
                    continue;
                }
                self.sessions += 1;
            }
            terminal.sequence += 1;
            self.events += 1;
            let sequence = terminal.sequence;
            let bytes = self.writer.write(&terminal.names, sequence, at, &planned, &self.calendar);
            let label =
                planned.anomaly.and_then(|anomaly| self.labels.sent(anomaly, terminal.names.event_name(sequence)));
            self.enqueue(number);
            let is_anomaly = planned.anomaly.is_some();
            return Some(Sent { terminal: number, sequence, at, bytes, is_anomaly, label });
        }
    }

    fn enqueue(&mut self, number: u32) {
        while self.terminals[index(number)].till.planned.is_empty() {
            self.plan(number);
        }
        let at = self.terminals[index(number)].till.planned[0].at;
        self.queue.push(Reverse((at, number)));
    }

    /// Plans what happens next at a till; nothing, if that was only looking for the next day with work.
    fn plan(&mut self, number: u32) {
        let terminal = &mut self.terminals[index(number)];
        let Some(stint) = &terminal.stint else {
            return self.begin_stint(number);
        };
        let till = &mut terminal.till;
        let gap = till.random.exponential(self.calendar.mean_gap(till.cursor, terminal.midnight)).min(10 * MINUTE);
        if till.cursor + gap + LAST_BASKET > stint.to {
            return self.end_stint(number);
        }
        till.cursor += gap.max(1);
        if till.random.in_million(self.anomaly_parts) && self.plant(number) {
            return;
        }
        self.ordinary_turn(number);
    }

    fn begin_stint(&mut self, number: u32) {
        let start = self.options.start.as_millis();
        let terminal = &mut self.terminals[index(number)];
        let Some(mut stint) = terminal.stints.pop_front() else {
            terminal.day += 1;
            terminal.midnight = self.calendar.midnight(terminal.day);
            let key = (terminal.till.store, terminal.day);
            let plan = self
                .plans
                .entry(key)
                .or_insert_with(|| DayPlan { tills: plan_day(&self.options, &self.calendar, key.0, key.1), taken: 0 });
            terminal.stints = std::mem::take(&mut plan.tills[terminal.place]);
            plan.taken += 1;
            if plan.taken == plan.tills.len() {
                self.plans.remove(&key);
            }
            return;
        };
        if stint.to < start + 10 * MINUTE {
            return;
        }
        let till = &mut terminal.till;
        if stint.from < start {
            stint.from = start + till.random.between(0, 4 * MINUTE);
        }
        till.cursor = stint.from.max(till.cursor + MINUTE / 2);
        let employee = &mut self.employees[index(stint.employee)];
        if till.cursor - employee.logged_out > HOUR {
            employee.recent_lines = 0;
        }
        till.act(0, stint.employee, None, Fact::LoggedIn);
        terminal.stint = Some(stint);
    }

    fn end_stint(&mut self, number: u32) {
        let terminal = &mut self.terminals[index(number)];
        let Some(stint) = terminal.stint.take() else { return };
        let till = &mut terminal.till;
        till.cursor = stint.to.max(till.cursor + 3000);
        self.employees[index(stint.employee)].logged_out = till.cursor;
        till.act(0, stint.employee, None, Fact::LoggedOut { reason: stint.leaving });
        if terminal.stints.is_empty() && std::mem::take(&mut terminal.after_hours) {
            self.sell_after_hours(number, stint.employee);
        }
    }

    fn ordinary_turn(&mut self, number: u32) {
        let terminal = &mut self.terminals[index(number)];
        let Some(stint) = &terminal.stint else { return };
        let till = &mut terminal.till;
        let employee = &mut self.employees[index(stint.employee)];
        let now = till.cursor;
        let rare = u32::try_from(self.speed).unwrap_or(u32::MAX);
        if till.random.in_million(4000 / rare) && now - employee.refund_at > 10 * HOUR {
            employee.refund_at = now;
            let receipt = till.random.percent(85);
            let amount = till.random.between(100, 2_500);
            return till.refund(stint.employee, None, receipt, amount);
        }
        if till.random.in_million(4000 / rare) && now - employee.drawer_at > 6 * HOUR {
            employee.drawer_at = now;
            return till.act(5000, stint.employee, None, Fact::DrawerOpened { reason: "change" });
        }
        let may_suspend = stint.to - now > 3 * LAST_BASKET;
        let training = till.random.in_million(2000);
        till.serve(&mut self.customers, Turn { employee: stint.employee, training, may_suspend, anomaly: None });
        employee.recent_lines = employee.recent_lines.saturating_add(std::mem::take(&mut till.lines_added));
    }
}

impl Terminal {
    fn new(options: &Options, number: u32) -> Self {
        let store = number / options.terminals;
        Self {
            names: TerminalNames::new(store, number),
            till: Till {
                store,
                random: Random::new(options.seed, Purpose::Terminal, u64::from(number)),
                money: Random::new(options.seed, Purpose::Money, u64::from(number)),
                cursor: options.start.as_millis() - HOUR,
                planned: VecDeque::new(),
                baskets: 0,
                refunds: 0,
                lines_added: 0,
            },
            place: index(number % options.terminals),
            sequence: 0,
            day: -1,
            midnight: 0,
            stints: VecDeque::new(),
            stint: None,
            anomaly_at: [NEVER; KINDS],
            after_hours: false,
        }
    }
}

pub(super) fn index(number: u32) -> usize {
    usize::try_from(number).expect("32 bits fit")
}
