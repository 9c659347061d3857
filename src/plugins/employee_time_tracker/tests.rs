use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::effect::Effect;
use crate::plugins::testing::{Run, at, event, logged, published, records, wrong_fields};
use crate::time::Timestamp;

/// An employee with the time sheet as the store would hold it.
struct Employee {
    run: Run<EmployeeTimeTracker>,
    sheet: BTreeMap<String, TimeSheetSession>,
    auto_logouts: Vec<(String, i64, LogoutCause)>,
    log: Vec<String>,
}

impl Employee {
    fn with(settings: Value) -> Self {
        let stores = json!({"S001": {"timeZone": "Europe/Berlin", "businessDayStart": "04:00"}});
        let run = Run::new(Scope::Employee, "E7", settings).with_stores(stores);
        Self { run, sheet: BTreeMap::new(), auto_logouts: Vec::new(), log: Vec::new() }
    }

    fn new() -> Self {
        Self::with(json!({"idleSeconds": 3600, "maximumShiftSeconds": 36000}))
    }

    fn take(&mut self, effects: &[Effect]) {
        for record in records(effects) {
            let Record::Session(session) = record else { panic!("{record:?}") };
            self.sheet.insert(session.id.clone(), session.clone());
        }
        for data in published(effects) {
            let EventData::AutoLoggedOut(data) = data else { panic!("{data:?}") };
            self.auto_logouts.push((data.terminal_id.to_string(), data.session_seconds, data.cause));
        }
        self.log.extend(logged(effects).into_iter().map(str::to_owned));
    }

    fn does(&mut self, kind: EventType, terminal: &str, time: Timestamp) -> &mut Self {
        let data = match kind {
            EventType::LoggedIn | EventType::LoggedOut | EventType::DrawerOpened => json!({"employeeId": "E7"}),
            _ => json!({"employeeId": "E7", "basketId": "b1"}),
        };
        let effects = self.run.apply(&event(&format!("S001/{terminal}"), kind, time, &data));
        self.take(&effects);
        self
    }

    fn logs_in(&mut self, terminal: &str, time: &str) -> &mut Self {
        self.does(EventType::LoggedIn, terminal, at(time))
    }

    fn logs_out(&mut self, terminal: &str, time: &str) -> &mut Self {
        self.does(EventType::LoggedOut, terminal, at(time))
    }

    fn sells(&mut self, terminal: &str, time: &str) -> &mut Self {
        self.does(EventType::BasketStarted, terminal, at(time))
    }

    fn until(&mut self, time: &str) -> &mut Self {
        let effects = self.run.advance(at(time));
        self.take(&effects);
        self
    }

    /// The time sheet in the order of logins: terminal, login-logout, cause, paid seconds, flags.
    fn sheet(&self) -> Vec<String> {
        let mut rows: Vec<_> = self.sheet.values().collect();
        rows.sort_by_key(|row| row.login_at);
        let clock = |time: Timestamp| time.to_string()[11..19].to_owned();
        rows.iter()
            .map(|row| {
                let out = row.logout_at.map(clock).unwrap_or_default();
                let cause = row.cause.as_deref().unwrap_or("open");
                let (login, flags) = (clock(row.login_at), row.flags.join(","));
                format!("{} {login}-{out} {cause} {} {flags}", row.terminal_id, row.paid_seconds).trim_end().to_owned()
            })
            .collect()
    }

    fn logouts(&self) -> Vec<(&str, i64, LogoutCause)> {
        self.auto_logouts.iter().map(|(terminal, seconds, cause)| (terminal.as_str(), *seconds, *cause)).collect()
    }
}

#[test]
fn a_session_ends_with_its_logout() {
    let mut employee = Employee::new();
    employee.logs_in("T1", "08:00:00").sells("T1", "08:30:00").logs_out("T1", "09:00:00").until("23:00:00");
    assert_eq!(employee.sheet(), ["T1 08:00:00-09:00:00 logout 3600"]);
    assert_eq!(employee.logouts(), []);
    assert_eq!(employee.sheet.values().next().unwrap().business_day, "2026-01-05");
}

#[test]
fn an_open_session_is_on_the_sheet_without_hours() {
    let mut employee = Employee::new();
    employee.logs_in("T1", "02:30:00").sells("T1", "02:40:00");
    assert_eq!(employee.sheet(), ["T1 02:30:00- open 0"]);
    assert_eq!(employee.sheet.values().next().unwrap().business_day, "2026-01-04");
}

#[test]
fn a_login_elsewhere_closes_the_open_session() {
    let mut employee = Employee::new();
    employee.logs_in("T1", "08:00:00").logs_in("T2", "08:20:00").logs_out("T2", "09:00:00");
    assert_eq!(employee.sheet(), ["T1 08:00:00-08:20:00 login_elsewhere 1200", "T2 08:20:00-09:00:00 logout 2400"]);
    assert_eq!(employee.logouts(), [("T1", 1200, LogoutCause::LoginElsewhere)]);
    assert_eq!(employee.log, ["E7 was logged out of T1 after 1200 s: a login at another terminal"]);
}

#[test]
fn an_auto_logout_is_about_the_terminal_that_was_left() {
    let mut run: Run<EmployeeTimeTracker> = Run::new(Scope::Employee, "E7", json!({}));
    let login = |terminal: &str, time| event(terminal, EventType::LoggedIn, at(time), &json!({"employeeId": "E7"}));
    run.apply(&login("S001/T1", "08:00:00"));
    let effects = run.apply(&login("S002/T1", "08:10:00"));
    let Some(Effect::Publish(event)) = effects.iter().find(|effect| matches!(effect, Effect::Publish(_))) else {
        panic!("{effects:?}")
    };
    assert_eq!(event.subject.as_deref(), Some("/stores/S001/terminals/T1"));
    assert_eq!(event.terminal_id(), Some("T1"));
}

#[test]
fn an_idle_session_ends_at_its_last_activity() {
    let mut employee = Employee::new();
    employee.logs_in("T1", "08:00:00").sells("T1", "08:30:00").until("09:29:59");
    assert_eq!(employee.sheet(), ["T1 08:00:00- open 0"]);
    employee.until("09:30:00");
    assert_eq!(employee.sheet(), ["T1 08:00:00-08:30:00 idle 1800"]);
    assert_eq!(employee.logouts(), [("T1", 1800, LogoutCause::Idle)]);
}

#[test]
fn work_after_an_idle_end_opens_a_session_without_a_login() {
    let mut employee = Employee::new();
    employee.logs_in("T1", "08:00:00").sells("T1", "09:00:00").logs_out("T1", "09:10:00");
    assert_eq!(employee.sheet(), ["T1 08:00:00-08:00:00 idle 0", "T1 09:00:00-09:10:00 logout 600"]);
}

#[test]
fn a_session_ends_at_the_maximum_shift_and_work_goes_on_in_another() {
    let mut employee = Employee::new();
    employee.logs_in("T1", "00:00:00");
    for hour in 0..11 {
        employee.sells("T1", &format!("{hour:02}:29:00")).sells("T1", &format!("{hour:02}:59:00"));
    }
    employee.logs_out("T1", "11:00:00");
    assert_eq!(employee.sheet(), ["T1 00:00:00-10:00:00 maximum_shift 36000", "T1 10:29:00-11:00:00 logout 1860"]);
    assert_eq!(employee.logouts(), [("T1", 36000, LogoutCause::MaximumShift)]);
}

#[test]
fn a_logout_without_login_changes_nothing() {
    let mut employee = Employee::new();
    employee.logs_out("T1", "08:00:00").until("23:00:00");
    assert_eq!(employee.sheet(), [""; 0]);
    assert_eq!(employee.log, ["pos.employee.logged_out of E7 has no login before it: ignored"]);
    assert_eq!(employee.run.advance(Timestamp::MAX).len(), 0);
}

#[test]
fn a_second_login_at_the_same_till_goes_on_with_the_session() {
    let mut employee = Employee::new();
    employee.logs_in("T1", "08:00:00").logs_in("T1", "08:30:00").logs_out("T1", "09:00:00");
    assert_eq!(employee.sheet(), ["T1 08:00:00-09:00:00 logout 3600"]);
}

#[test]
fn two_tills_at_once_are_both_kept_and_paid_once() {
    let mut employee = Employee::new();
    employee.logs_in("T1", "08:00:00").sells("T2", "08:30:00").sells("T1", "08:40:00");
    employee.logs_out("T2", "09:00:00").logs_out("T1", "09:30:00");
    assert_eq!(employee.sheet(), ["T1 08:00:00-09:30:00 logout 5400 overlap", "T2 08:30:00-09:00:00 logout 0 overlap"]);
}

#[test]
fn a_logout_after_a_login_elsewhere_corrects_the_guess() {
    let mut employee = Employee::new();
    employee.logs_in("T1", "08:00:00").logs_in("T2", "08:20:00").logs_out("T1", "08:30:00");
    employee.logs_out("T2", "09:00:00");
    assert_eq!(
        employee.sheet(),
        ["T1 08:00:00-08:30:00 logout 1800 overlap", "T2 08:20:00-09:00:00 logout 1800 overlap"]
    );
}

#[test]
fn a_late_logout_corrects_a_session_that_was_closed_elsewhere() {
    let mut employee = Employee::new();
    employee.logs_in("T1", "08:00:00").logs_in("T2", "08:20:00").logs_out("T1", "08:15:00");
    assert_eq!(employee.sheet(), ["T1 08:00:00-08:15:00 logout 900 late", "T2 08:20:00- open 0"]);
}

#[test]
fn a_late_logout_corrects_an_idle_end_and_is_to_be_reviewed_if_the_session_was_idle_by_then() {
    let mut employee = Employee::new();
    employee.logs_in("T1", "08:00:00").until("12:00:00").logs_out("T1", "08:59:59");
    assert_eq!(employee.sheet(), ["T1 08:00:00-08:59:59 logout 3599 late"]);
    let mut employee = Employee::new();
    employee.logs_in("T1", "08:00:00").until("12:00:00").logs_out("T1", "09:00:00");
    assert_eq!(employee.sheet(), ["T1 08:00:00-09:00:00 logout 3600 late,review"]);
}

#[test]
fn an_explicit_logout_counts_after_any_quiet_time_within_the_maximum_shift() {
    let mut employee = Employee::new();
    employee.logs_in("T1", "08:00:00").logs_out("T1", "12:00:00");
    assert_eq!(employee.sheet(), ["T1 08:00:00-12:00:00 logout 14400 review"]);
    let mut employee = Employee::new();
    employee.logs_in("T1", "08:00:00").logs_out("T1", "18:00:00");
    assert_eq!(employee.sheet(), ["T1 08:00:00-08:00:00 idle 0 review"], "the maximum is over: only flagged");
}

#[test]
fn a_session_that_ended_by_idleness_goes_on_if_its_owner_acts_there_before_anybody_else() {
    let mut employee = Employee::new();
    employee.run.same_actor = true;
    employee.logs_in("T1", "08:00:00").sells("T1", "08:50:00").sells("T1", "10:10:00").logs_out("T1", "11:15:00");
    assert_eq!(employee.sheet(), ["T1 08:00:00-11:15:00 logout 11700 review"]);
    assert_eq!(employee.logouts().len(), 2, "what was published is not recalled");
}

#[test]
fn a_session_does_not_go_on_after_a_login_elsewhere_nor_beyond_the_maximum_shift() {
    let mut employee = Employee::new();
    employee.run.same_actor = true;
    employee.logs_in("T1", "08:00:00").logs_in("T2", "09:30:00").logs_out("T2", "10:00:00").sells("T1", "10:30:00");
    let sheet = employee.sheet();
    assert_eq!(sheet[0], "T1 08:00:00-08:00:00 idle 0");
    assert_eq!(sheet[2], "T1 10:30:00- open 0");
    let mut employee = Employee::new();
    employee.run.same_actor = true;
    employee.logs_in("T1", "08:00:00").sells("T1", "18:00:00");
    assert_eq!(employee.sheet(), ["T1 08:00:00-08:00:00 idle 0", "T1 18:00:00- open 0"]);
}

#[test]
fn a_till_whose_clock_stands_years_back_does_not_put_hours_into_the_past() {
    let mut employee = Employee::new();
    employee.until("08:00:00");
    employee.does(EventType::LoggedIn, "T1", Timestamp::parse("2000-01-01T00:00:00Z").unwrap());
    assert_eq!(employee.sheet(), ["T1 08:00:00- open 0 late"]);
}

#[test]
fn a_late_login_becomes_the_beginning_of_the_work_that_followed_it() {
    let mut employee = Employee::new();
    employee.logs_in("T1", "08:00:00").sells("T2", "08:30:00").logs_in("T2", "08:20:00");
    assert_eq!(employee.sheet(), ["T1 08:00:00-08:20:00 login_elsewhere 1200 late", "T2 08:20:00- open 0 late"]);
    assert_eq!(employee.logouts(), [("T1", 1200, LogoutCause::LoginElsewhere)]);
}

#[test]
fn what_an_offline_till_sends_later_is_put_in_order_without_logging_anybody_out() {
    let mut employee = Employee::new();
    employee.logs_in("T2", "13:00:00");
    employee.logs_in("T1", "09:00:00").sells("T1", "09:40:00").sells("T1", "10:30:00").logs_out("T1", "10:45:00");
    assert_eq!(employee.sheet(), ["T1 09:00:00-10:45:00 logout 6300 late", "T2 13:00:00- open 0"]);
    assert_eq!(employee.logouts(), []);
}

#[test]
fn a_late_session_is_over_where_the_next_login_elsewhere_was() {
    let mut employee = Employee::new();
    employee.logs_in("T2", "09:30:00").logs_in("T1", "09:00:00");
    assert_eq!(employee.sheet(), ["T1 09:00:00-09:30:00 login_elsewhere 1800 late", "T2 09:30:00- open 0"]);
    assert_eq!(employee.logouts(), []);
}

#[test]
fn jitter_is_not_late() {
    let mut employee = Employee::new();
    employee.logs_in("T1", "08:00:00").until("08:30:02").logs_out("T1", "08:30:00");
    assert_eq!(employee.sheet(), ["T1 08:00:00-08:30:00 logout 1800"]);
}

#[test]
fn what_is_older_than_all_that_is_kept_is_ignored() {
    let mut employee = Employee::new();
    for hour in 8..18 {
        employee.logs_in("T1", &format!("{hour:02}:00:00")).logs_out("T1", &format!("{hour:02}:30:00"));
    }
    assert_eq!(employee.sheet().len(), 10);
    employee.logs_in("T2", "08:10:00");
    assert_eq!(employee.sheet().len(), 10);
    assert_eq!(employee.log, ["pos.employee.logged_in of E7 is too old to be put in order: ignored"]);
    employee.logs_in("T2", "11:45:00");
    assert_eq!(employee.sheet()[4], "T2 11:45:00-12:00:00 login_elsewhere 900 late");
    employee.logs_out("T2", "12:15:00");
    assert_eq!(
        employee.sheet()[4..6],
        ["T2 11:45:00-12:15:00 logout 1800 late,overlap", "T1 12:00:00-12:30:00 logout 900 overlap"]
    );
}

#[test]
fn a_shorter_idle_time_acts_from_the_next_event_on() {
    let mut employee = Employee::new();
    employee.logs_in("T1", "08:00:00");
    employee.run.change_settings(json!({"idleSeconds": 60}));
    employee.until("08:30:00");
    assert_eq!(employee.sheet(), ["T1 08:00:00- open 0"]);
    employee.sells("T1", "08:31:00");
    assert_eq!(employee.sheet(), ["T1 08:00:00-08:00:00 idle 0", "T1 08:31:00- open 0"]);
}

#[test]
fn wrong_settings_name_their_fields() {
    let wrong = wrong_fields::<EmployeeTimeTracker>;
    assert_eq!(wrong(json!({})), [""; 0]);
    assert_eq!(wrong(json!({"idleSeconds": 59})), ["idleSeconds"]);
    assert_eq!(wrong(json!({"idleSeconds": 7200, "maximumShiftSeconds": 3600})), ["maximumShiftSeconds"]);
    assert!(serde_json::from_value::<Settings>(json!({"idle": 60})).is_err());
}

fn history() -> impl Strategy<Value = Vec<(u8, u8, i64, i64)>> {
    // Action, terminal, seconds since the one before, seconds of delay.
    prop::collection::vec((0..3_u8, 0..12_u8, 0..3_000_i64, prop_oneof![4 => Just(0), 1 => 0..20_000_i64]), 1..60)
}

fn play(history: &[(u8, u8, i64, i64)]) -> Employee {
    let mut employee = Employee::new();
    let mut clock = at("06:00:00");
    for (action, terminal, pause, delay) in history {
        clock = clock.plus_seconds(*pause);
        let kind = [EventType::LoggedIn, EventType::LoggedOut, EventType::BasketStarted][usize::from(*action)];
        let effects = employee.run.advance(clock);
        employee.take(&effects);
        employee.does(kind, &format!("T{terminal}"), clock.plus_seconds(-*delay));
    }
    employee
}

proptest! {
    #[test]
    fn nobody_stays_logged_in_for_ever(history in history()) {
        let mut employee = play(&history);
        let effects = employee.run.advance(at("23:59:59").plus_seconds(1_000_000));
        employee.take(&effects);
        for row in employee.sheet.values() {
            prop_assert!(row.logout_at >= Some(row.login_at), "{row:?}");
            prop_assert!((0..=36_000).contains(&row.seconds), "{row:?}");
            prop_assert!((0..=row.seconds).contains(&row.paid_seconds), "{row:?}");
        }
        prop_assert_eq!(employee.run.advance(Timestamp::MAX).len(), 0);
    }

    #[test]
    fn what_is_kept_is_bounded(history in history()) {
        prop_assert!(play(&history).run.stored_bytes() < 3_000);
    }

    #[test]
    fn every_moment_is_paid_once(history in history()) {
        let mut employee = play(&history[..history.len().min(16)]);
        let effects = employee.run.advance(at("23:59:59").plus_seconds(1_000_000));
        employee.take(&effects);
        prop_assume!(employee.sheet.len() <= timeline::ENDED_SESSIONS_MAX);
        let mut spans: Vec<_> = employee.sheet.values().map(|row| (row.login_at, row.logout_at.unwrap())).collect();
        spans.sort();
        let (mut union, mut end) = (0, Timestamp::MIN);
        for (from, to) in spans {
            union += to.millis_since(from.max(end)).max(0) / 1000;
            end = end.max(to);
        }
        prop_assert_eq!(employee.sheet.values().map(|row| row.paid_seconds).sum::<i64>(), union);
    }
}
