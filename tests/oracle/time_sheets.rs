//! What `employee-time-tracker` must write, from `docs/plugins.md`. The numbers of the steps are those of that page.

use std::collections::BTreeMap;

use serde_json::Value;

use super::event::Event;
use super::forgetting::Seen;
use super::log::Log;
use super::stores::Stores;

const OPEN_MAX: usize = 8;
const ENDED_MAX: usize = 8;
const LATE_MILLIS: i64 = 2000;

/// A row of the time sheet, by what it says; times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Session {
    pub(crate) employee: String,
    pub(crate) store: String,
    pub(crate) terminal: String,
    pub(crate) business_day: String,
    pub(crate) login_at: i64,
    pub(crate) logout_at: Option<i64>,
    pub(crate) seconds: i64,
    pub(crate) paid_seconds: i64,
    pub(crate) cause: Option<String>,
    pub(crate) flags: Vec<String>,
}

/// A published `pos.employee.auto_logged_out`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AutoLogout {
    pub(crate) employee: String,
    pub(crate) terminal: String,
    pub(crate) seconds: i64,
    pub(crate) cause: String,
    /// The derived event's own time.
    pub(crate) time: i64,
}

/// What the plugin leaves behind.
#[derive(Debug, Default)]
pub(crate) struct TimeSheets {
    pub(crate) sessions: Vec<Session>,
    pub(crate) auto_logouts: Vec<AutoLogout>,
}

/// The time sheets of everybody, closed by a tick far behind the last event.
pub(crate) fn time_sheets(log: &Log, settings: &Value, stores: &Stores) -> TimeSheets {
    let millis = |key: &str, default: i64| settings.get(key).and_then(Value::as_i64).unwrap_or(default) * 1000;
    let mut employees: BTreeMap<String, Employee<'_>> = BTreeMap::new();
    let mut seen: Seen<String> = Seen::with(settings);
    // Hours in training mode are hours of work.
    for event in log.across_tills() {
        if let Some(id) = event.text("employeeId") {
            let employee = employees.entry(id.to_owned()).or_insert_with(|| Employee {
                id: id.to_owned(),
                idle: millis("idleSeconds", 3600),
                maximum: millis("maximumShiftSeconds", 43_200),
                stores,
                sessions: Vec::new(),
                opened: 0,
                horizon: i64::MIN,
                paid_mark: i64::MIN,
                rows: BTreeMap::new(),
                auto_logouts: Vec::new(),
            });
            if let Some(due) = employee.fire_timers(event.clock) {
                seen.see(id.to_owned(), due);
            }
            let is_working = employee.sessions.iter().any(Kept::is_open);
            if !is_working && seen.is_forgotten(&id.to_owned(), event.clock) {
                employee.sessions.clear();
                (employee.horizon, employee.paid_mark) = (i64::MIN, i64::MIN);
            }
            employee.see(event);
            seen.see(id.to_owned(), event.clock);
        }
    }
    let mut sheets = TimeSheets::default();
    for mut employee in employees.into_values() {
        employee.fire_timers(i64::MAX);
        sheets.sessions.extend(employee.rows.into_values());
        sheets.auto_logouts.extend(employee.auto_logouts);
    }
    sheets
}

/// A session that is kept in memory.
#[derive(Debug, Clone)]
struct Kept {
    /// Counts the employee's sessions in the order in which they were opened.
    number: usize,
    source: String,
    store: String,
    terminal: String,
    login_at: i64,
    last_activity: i64,
    end: Option<(i64, &'static str)>,
    explicit: bool,
    late: bool,
    review: bool,
}

impl Kept {
    const fn is_open(&self) -> bool {
        self.end.is_none()
    }

    fn logout_at(&self) -> Option<i64> {
        self.end.map(|(at, _)| at)
    }

    fn ended_by(&self, causes: &[&str]) -> bool {
        self.end.is_some_and(|(_, cause)| causes.contains(&cause))
    }

    /// True if it ended and has more than an instant in common with a span.
    fn overlaps(&self, from: i64, to: i64) -> bool {
        self.logout_at().is_some_and(|end| end.min(to) > self.login_at.max(from))
    }
}

struct Employee<'a> {
    id: String,
    idle: i64,
    maximum: i64,
    stores: &'a Stores,
    /// In the order of login.
    sessions: Vec<Kept>,
    opened: usize,
    horizon: i64,
    paid_mark: i64,
    /// By the session's number.
    rows: BTreeMap<usize, Session>,
    auto_logouts: Vec<AutoLogout>,
}

impl Employee<'_> {
    fn deadline(&self, session: &Kept) -> i64 {
        (session.last_activity + self.idle).min(session.login_at + self.maximum)
    }

    /// Fires the timer as long as it is due at or before `clock`.
    /// Answers when the last timer that fired was due.
    fn fire_timers(&mut self, clock: i64) -> Option<i64> {
        let mut last = None;
        while let Some(due) = self.sessions.iter().filter(|s| s.is_open()).map(|s| self.deadline(s)).min() {
            if due > clock {
                break;
            }
            last = Some(due);
            self.expire(due, due);
            self.write_and_forget();
        }
        last
    }

    fn see(&mut self, event: &Event) {
        let now = event.clock;
        let t = event.at();
        self.expire(now, t);
        let known_here = self.sessions.iter().any(|s| s.source == event.source && s.login_at <= t);
        if t >= self.horizon || known_here {
            if event.is("pos.employee.logged_out") {
                self.log_out(event, t);
            } else {
                self.log_in_or_act(event, t);
                if event.is("pos.employee.logged_in") {
                    self.end_elsewhere(event, t);
                }
            }
            self.expire(now, t);
            self.bound_open(t);
        }
        self.write_and_forget();
    }

    /// Steps 1 and 7. `time` is that of the event or timer that shows it.
    fn expire(&mut self, now: i64, time: i64) {
        let mut due: Vec<(i64, usize)> = (0..self.sessions.len())
            .filter(|index| self.sessions[*index].is_open())
            .map(|index| (self.deadline(&self.sessions[index]), index))
            .filter(|(deadline, _)| *deadline <= now)
            .collect();
        due.sort_unstable();
        for (_, index) in due {
            let session = &self.sessions[index];
            let longest = session.login_at + self.maximum;
            let (at, cause) = if session.last_activity + self.idle <= longest {
                (session.last_activity, "idle")
            } else {
                (longest, "maximum_shift")
            };
            self.end_open(index, at, cause, time);
        }
    }

    /// Ends an open session without a logout, which is published.
    fn end_open(&mut self, index: usize, at: i64, cause: &'static str, time: i64) {
        let session = &mut self.sessions[index];
        session.end = Some((at, cause));
        self.auto_logouts.push(AutoLogout {
            employee: self.id.clone(),
            terminal: session.terminal.clone(),
            seconds: (at - session.login_at) / 1000,
            cause: cause.to_owned(),
            time,
        });
    }

    /// Step 3: the last session there that began by `t`, and the first that began after it.
    fn around(&self, source: &str, t: i64) -> (Option<usize>, Option<usize>) {
        let here = |index: &usize| self.sessions[*index].source == source;
        let previous = (0..self.sessions.len()).rev().filter(here).find(|index| self.sessions[*index].login_at <= t);
        let next = (0..self.sessions.len()).filter(here).find(|index| self.sessions[*index].login_at > t);
        (previous, next)
    }

    /// True if a login elsewhere shows that the employee had left a session's terminal by `t`.
    fn had_left(&self, index: usize, t: i64) -> bool {
        let left = &self.sessions[index];
        let elsewhere = |s: &&Kept| s.explicit && s.source != left.source;
        self.sessions.iter().filter(elsewhere).any(|s| s.login_at >= left.last_activity && s.login_at <= t)
    }

    /// Step 4.
    fn log_out(&mut self, event: &Event, t: i64) {
        let Some(index) = self.around(&event.source, t).0 else { return };
        let (deadline, had_left) = (self.deadline(&self.sessions[index]), self.had_left(index, t));
        let longest = self.sessions[index].login_at + self.maximum;
        let session = &mut self.sessions[index];
        if session.last_activity > t || session.ended_by(&["logout"]) {
            return;
        }
        let by_itself = session.ended_by(&["idle", "maximum_shift"]);
        let after_the_limit = !session.is_open() && t >= deadline;
        session.review |= by_itself && after_the_limit;
        let counts = !after_the_limit || (by_itself && t < longest && !had_left);
        if counts {
            session.end = Some((t, "logout"));
            session.last_activity = t;
            session.late |= event.clock - event.time > LATE_MILLIS;
        }
    }

    /// Of step 5: nobody else has acted there, so the employee was not away.
    fn reopens(&self, event: &Event, index: usize, next: Option<usize>, t: i64) -> bool {
        let session = &self.sessions[index];
        event.same_actor
            && next.is_none()
            && session.ended_by(&["idle"])
            && t >= self.deadline(session)
            && t < session.login_at + self.maximum
            && !self.had_left(index, t)
    }

    /// Step 5.
    fn log_in_or_act(&mut self, event: &Event, t: i64) {
        let is_login = event.is("pos.employee.logged_in");
        let is_late_enough = event.clock - event.time > LATE_MILLIS;
        let (previous, next) = self.around(&event.source, t);
        if let Some(index) = previous {
            let (deadline, reopens) = (self.deadline(&self.sessions[index]), self.reopens(event, index, next, t));
            let session = &mut self.sessions[index];
            let covered = session.logout_at().is_none_or(|end| t < end || (t == end && !is_login));
            if covered {
                session.last_activity = session.last_activity.max(t);
                return;
            }
            if !is_login && event.late && session.ended_by(&["idle"]) && t < deadline {
                session.last_activity = t;
                session.end = Some((t, "idle"));
                session.late |= is_late_enough;
                return;
            }
            if reopens {
                session.last_activity = t;
                session.end = None;
                session.review = true;
                session.late |= is_late_enough;
                return;
            }
        }
        if let Some(index) = next {
            let (idle, maximum) = (self.idle, self.maximum);
            let session = &self.sessions[index];
            let end = session.logout_at().unwrap_or(session.last_activity);
            if !session.explicit && session.login_at - t < idle && end - t < maximum {
                let mut session = self.sessions.remove(index);
                session.login_at = t;
                session.explicit = is_login;
                session.late |= is_late_enough;
                self.put_in(session);
                return;
            }
        }
        self.open(event, t, next);
    }

    fn open(&mut self, event: &Event, t: i64, next: Option<usize>) {
        let mut session = Kept {
            number: self.opened,
            source: event.source.clone(),
            store: event.store.clone(),
            terminal: event.terminal.clone(),
            login_at: t,
            last_activity: t,
            end: None,
            explicit: event.is("pos.employee.logged_in"),
            late: event.clock - event.time > LATE_MILLIS,
            review: false,
        };
        self.opened += 1;
        if event.late {
            let deadline = self.deadline(&session);
            let elsewhere = |s: &&Kept| s.explicit && s.source != event.source && s.login_at > t;
            let login_elsewhere = self.sessions.iter().filter(elsewhere).map(|s| s.login_at).min();
            let next_login = next.map(|index| self.sessions[index].login_at);
            session.end = match login_elsewhere {
                Some(login) if login < deadline && next_login.is_none_or(|next| login <= next) => {
                    Some((login, "login_elsewhere"))
                }
                _ => (next.is_some() || deadline <= event.clock).then_some((t, "idle")),
            };
        }
        self.put_in(session);
    }

    /// Behind those that began earlier or at the same time.
    fn put_in(&mut self, session: Kept) {
        let place = self.sessions.partition_point(|other| other.login_at <= session.login_at);
        self.sessions.insert(place, session);
    }

    /// Step 6.
    fn end_elsewhere(&mut self, event: &Event, t: i64) {
        for index in 0..self.sessions.len() {
            let session = &self.sessions[index];
            let is_last_there = self.around(&session.source, t).0 == Some(index);
            if session.source == event.source || !is_last_there || session.last_activity > t {
                continue;
            }
            let deadline = self.deadline(session);
            let session = &mut self.sessions[index];
            let is_late_enough = event.clock - event.time > LATE_MILLIS;
            let wrongly_ended = session.ended_by(&["login_elsewhere", "maximum_shift"])
                && session.logout_at().is_some_and(|end| t < end)
                || session.ended_by(&["idle"]) && t < deadline;
            if session.is_open() {
                session.late |= is_late_enough;
                self.end_open(index, t, "login_elsewhere", t);
            } else if event.late && wrongly_ended {
                session.late |= is_late_enough;
                session.end = Some((t, "login_elsewhere"));
            }
        }
    }

    /// Step 8.
    fn bound_open(&mut self, time: i64) {
        loop {
            let open: Vec<usize> = (0..self.sessions.len()).filter(|index| self.sessions[*index].is_open()).collect();
            if open.len() <= OPEN_MAX {
                return;
            }
            let oldest = open.into_iter().min_by_key(|index| (self.sessions[*index].last_activity, *index));
            let oldest = oldest.expect("more than eight are open");
            self.end_open(oldest, self.sessions[oldest].last_activity, "idle", time);
        }
    }

    /// Writes all rows, then step 9, and once more what that changes.
    fn write_and_forget(&mut self) {
        self.write();
        while self.sessions.iter().filter(|session| !session.is_open()).count() > ENDED_MAX {
            let first = self.sessions.iter().position(|session| !session.is_open()).expect("more than eight ended");
            let forgotten = self.sessions.remove(first);
            self.horizon = self.horizon.max(forgotten.login_at);
            self.paid_mark = self.paid_mark.max(forgotten.logout_at().expect("it ended"));
        }
        self.write();
    }

    fn write(&mut self) {
        for (index, session) in self.sessions.iter().enumerate() {
            let end = session.logout_at();
            let mut flags = Vec::new();
            if session.late {
                flags.push("late".to_owned());
            }
            if let Some(end) = end {
                let mut others = self.sessions.iter().filter(|other| other.number != session.number);
                let with_other = others.any(|other| other.overlaps(session.login_at, end));
                if with_other || session.overlaps(i64::MIN, self.paid_mark_for(session)) {
                    flags.push("overlap".to_owned());
                }
            }
            if session.review {
                flags.push("review".to_owned());
            }
            let row = Session {
                employee: self.id.clone(),
                store: session.store.clone(),
                terminal: session.terminal.clone(),
                business_day: self.stores.business_day(&session.store, session.login_at).to_string(),
                login_at: session.login_at,
                logout_at: end,
                seconds: end.map_or(0, |end| (end - session.login_at) / 1000),
                paid_seconds: end.map_or(0, |end| self.unpaid_before(index, end) / 1000),
                cause: session.end.map(|(_, cause)| cause.to_owned()),
                flags,
            };
            self.rows.insert(session.number, row);
        }
    }

    /// The paid mark, which concerns only what began at or after the horizon.
    fn paid_mark_for(&self, session: &Kept) -> i64 {
        if session.login_at >= self.horizon { self.paid_mark } else { i64::MIN }
    }

    /// Milliseconds of an ended session that nothing before it in the list covers. All of those began no later than it
    /// did, so what they cover of it is its beginning.
    fn unpaid_before(&self, index: usize, end: i64) -> i64 {
        let session = &self.sessions[index];
        let earlier = self.sessions[..index].iter().filter_map(Kept::logout_at);
        let covered_until = earlier.fold(session.login_at.max(self.paid_mark_for(session)), i64::max);
        (end - covered_until).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::case::{Case, at, employee};
    use serde_json::json;

    /// Terminal, from, to, seconds, paid seconds, cause and flags of each session.
    fn sessions(case: &Case) -> Vec<(String, i64, i64, i64, i64, String, String)> {
        let log = Log::read(case.messages(), 8);
        let stores = Stores::new(json!({}));
        let sheets = time_sheets(&log, &json!({"idleSeconds": 3600, "maximumShiftSeconds": 36000}), &stores);
        let row = |s: Session| {
            let (logout, cause) = (s.logout_at.expect("closed"), s.cause.expect("closed"));
            (s.terminal, s.login_at, logout, s.seconds, s.paid_seconds, cause, s.flags.join(" "))
        };
        sheets.sessions.into_iter().map(row).collect()
    }

    fn row(
        till: &str,
        from: &str,
        to: &str,
        seconds: i64,
        paid: i64,
        cause: &str,
        flags: &str,
    ) -> (String, i64, i64, i64, i64, String, String) {
        (till.to_owned(), at(from), at(to), seconds, paid, cause.to_owned(), flags.to_owned())
    }

    #[test]
    fn a_session_lasts_from_login_to_logout() {
        let case = Case::default()
            .then("T1", "08:00:00", "employee.logged_in", &employee("E1"))
            .then("T1", "08:30:00", "drawer.opened", &employee("E1"))
            .then("T1", "09:00:00", "employee.logged_out", &employee("E1"));
        assert_eq!(sessions(&case), [row("T1", "08:00:00", "09:00:00", 3600, 3600, "logout", "")]);
    }

    #[test]
    fn an_idle_session_ends_at_its_last_activity_and_is_published_when_the_hour_is_over() {
        let case = Case::default().then("T1", "08:00:00", "employee.logged_in", &employee("E1")).then(
            "T1",
            "08:10:00",
            "drawer.opened",
            &employee("E1"),
        );
        assert_eq!(sessions(&case), [row("T1", "08:00:00", "08:10:00", 600, 600, "idle", "")]);
        let log = Log::read(case.messages(), 8);
        let published = time_sheets(&log, &json!({}), &Stores::new(json!({}))).auto_logouts;
        let (employee, terminal, cause) = ("E1".to_owned(), "T1".to_owned(), "idle".to_owned());
        assert_eq!(published, [AutoLogout { employee, terminal, seconds: 600, cause, time: at("09:10:00") }]);
    }

    #[test]
    fn work_at_two_tills_at_once_is_flagged_and_paid_once() {
        let case = Case::default()
            .then("T1", "08:00:00", "employee.logged_in", &employee("E1"))
            .then("T2", "08:20:00", "employee.logged_in", &employee("E1"))
            .then("T1", "08:30:00", "drawer.opened", &employee("E1"))
            .then("T2", "08:40:00", "drawer.opened", &employee("E1"))
            .then("T1", "08:50:00", "drawer.opened", &employee("E1"));
        assert_eq!(
            sessions(&case),
            [
                row("T1", "08:00:00", "08:20:00", 1200, 1200, "login_elsewhere", ""),
                row("T2", "08:20:00", "08:40:00", 1200, 1200, "idle", "overlap"),
                row("T1", "08:30:00", "08:50:00", 1200, 600, "idle", "overlap"),
            ]
        );
    }

    #[test]
    fn a_late_logout_corrects_what_was_taken_for_idle() {
        let case = Case::default()
            .then("T1", "08:00:00", "employee.logged_in", &employee("E1"))
            .then("T1", "08:10:00", "drawer.opened", &employee("E1"))
            .then("T1", "09:30:00", "employee.logged_out", &employee("E2"))
            .then("T1", "08:40:00", "employee.logged_out", &employee("E1"));
        assert_eq!(sessions(&case), [row("T1", "08:00:00", "08:40:00", 2400, 2400, "logout", "late")]);
    }

    #[test]
    fn a_quiet_till_pays_until_the_logout_and_is_to_be_reviewed() {
        let case = Case::default()
            .then("T1", "08:00:00", "employee.logged_in", &employee("E1"))
            .then("T1", "08:50:00", "drawer.opened", &employee("E1"))
            .then("T1", "10:10:00", "drawer.opened", &employee("E1"))
            .then("T1", "11:15:00", "employee.logged_out", &employee("E1"))
            .then("T2", "08:00:00", "employee.logged_in", &employee("E2"))
            .then("T2", "08:30:00", "drawer.opened", &employee("E3"))
            .then("T2", "10:00:00", "drawer.opened", &employee("E2"));
        assert_eq!(
            sessions(&case),
            [
                row("T1", "08:00:00", "11:15:00", 11700, 11700, "logout", "review"),
                row("T2", "08:00:00", "08:00:00", 0, 0, "idle", ""),
                row("T2", "10:00:00", "10:00:00", 0, 0, "idle", ""),
                row("T2", "08:30:00", "08:30:00", 0, 0, "idle", ""),
            ]
        );
    }

    #[test]
    fn a_login_that_comes_after_the_first_sale_moves_the_beginning_back() {
        let case = Case::default()
            .then("T1", "08:00:01", "drawer.opened", &employee("E1"))
            .then("T1", "08:00:00", "employee.logged_in", &employee("E1"))
            .then("T1", "08:05:00", "employee.logged_out", &employee("E1"));
        assert_eq!(sessions(&case), [row("T1", "08:00:00", "08:05:00", 300, 300, "logout", "")]);
    }

    #[test]
    fn nobody_works_longer_than_the_maximum_shift() {
        let mut case = Case::default().then("T1", "06:00:00", "employee.logged_in", &employee("E1"));
        for half_hour in 0..=21 {
            let time = format!("{:02}:{:02}:00", 6 + half_hour / 2, half_hour % 2 * 30 + 10);
            case = case.then("T1", &time, "drawer.opened", &employee("E1"));
        }
        assert_eq!(
            sessions(&case),
            [
                row("T1", "06:00:00", "16:00:00", 36000, 36000, "maximum_shift", ""),
                row("T1", "16:10:00", "16:40:00", 1800, 1800, "idle", ""),
            ]
        );
    }
}
