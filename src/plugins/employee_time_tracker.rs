//! `employee-time-tracker`: who worked where and for how long, whether or not people log out.
//!
//! `Timeline` decides; this file turns events into activities, and what changed into rows and events.

mod session;
mod timeline;

#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::session::{Action, Activity, AutoLogout, EndCause, Limits};
use self::timeline::{Row, Timeline};
use super::eligibility::Eligibility;
use super::{EventTypes, FieldError, Plugin, Subscription, check_range};
use crate::effect::{Effects, Record, TimeSheetSession};
use crate::event::{AutoLoggedOut, Event, EventData, EventType, Id, LogoutCause, Scope, Source};
use crate::plugins::forgetting::{FORGET_AFTER_DAYS, check_days};

/// The plugin.
#[derive(Debug)]
pub struct EmployeeTimeTracker;

/// What a manager can set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// A session without any activity for this long, in seconds, ends at its last activity.
    #[schemars(range(min = 60, max = 86_400))]
    pub idle_seconds: u32,
    /// A session ends this long after its login, in seconds, whatever happens. Not shorter than the idle time.
    #[schemars(range(min = 3_600, max = 172_800))]
    pub maximum_shift_seconds: u32,
    /// An employee of whom no event has come for so many days is forgotten: time sheets stay, late events no longer correct them. 0 = never.
    #[schemars(range(min = 0, max = 36_500))]
    pub forget_after_days: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { idle_seconds: 3_600, maximum_shift_seconds: 43_200, forget_after_days: FORGET_AFTER_DAYS }
    }
}

const ACTIVITY: EventTypes = EventTypes::of(&[
    EventType::LoggedIn,
    EventType::LoggedOut,
    EventType::BasketStarted,
    EventType::CustomerIdentified,
    EventType::ItemAdded,
    EventType::ItemReturned,
    EventType::ItemVoided,
    EventType::SubtotalFinalized,
    EventType::PaymentCompleted,
    EventType::BasketCancelled,
    EventType::BasketSuspended,
    EventType::BasketResumed,
    EventType::DiscountApplied,
    EventType::RefundCompleted,
    EventType::DrawerOpened,
    EventType::AgeChecked,
]);

impl Plugin for EmployeeTimeTracker {
    type State = Timeline;
    type Settings = Settings;
    type Compiled = Settings;
    const NAME: &'static str = "employee-time-tracker";
    const DESCRIPTION: &'static str =
        "Keeps each employee's time sheet, and logs out who went to another till, went idle or worked too long.";

    /// Who practises at a till is at work.
    fn default_eligibility() -> Eligibility {
        Eligibility { training: true, ..Eligibility::default() }
    }

    fn compile(settings: &Settings) -> Result<Settings, Vec<FieldError>> {
        let mut errors = Vec::new();
        check_range(&mut errors, "idleSeconds", settings.idle_seconds, 60..=86_400);
        check_range(&mut errors, "maximumShiftSeconds", settings.maximum_shift_seconds, 3_600..=172_800);
        if settings.maximum_shift_seconds < settings.idle_seconds {
            let message = format!("must not be below idleSeconds ({})", settings.idle_seconds);
            errors.push(FieldError::new("maximumShiftSeconds", message));
        }
        check_days(&mut errors, "forgetAfterDays", settings.forget_after_days, 1);
        if errors.is_empty() { Ok(settings.clone()) } else { Err(errors) }
    }

    fn forget_after_days(settings: &Settings, _: Scope) -> u32 {
        settings.forget_after_days
    }

    fn subscriptions(_: &Settings) -> Vec<Subscription> {
        vec![Subscription { scope: Scope::Employee, event_types: ACTIVITY }]
    }

    fn apply(timeline: &mut Timeline, settings: &Settings, event: &Event, fx: &mut Effects<'_>) {
        let action = match event.event_type() {
            EventType::LoggedIn => Action::Login,
            EventType::LoggedOut => Action::Logout,
            _ => Action::Other,
        };
        let now = fx.now();
        let activity = Activity {
            action,
            terminal: event.source.as_str(),
            at: fx.time_of(event),
            now,
            delayed: Activity::is_delayed(event.time, now),
            same_actor: fx.context().same_actor,
        };
        let limits = settings.limits();
        if !timeline.touch(&activity, limits) {
            let before = timeline.rows();
            let (ended, ignored) = timeline.apply(&activity, limits, || fx.derive_id());
            announce(&ended, fx);
            if let Some(reason) = ignored {
                fx.log(format!("{} of {} {reason}: ignored", event.type_name, fx.context().entity));
            }
            record_changes(&before, timeline, fx);
        }
        // A timer that is too early costs less than moving it with every event.
        let deadline = timeline.deadline(limits);
        if deadline.is_none() || fx.wake().is_none() || deadline < fx.wake() {
            fx.wake_at(deadline);
        }
    }

    fn on_timer(timeline: &mut Timeline, settings: &Settings, fx: &mut Effects<'_>) {
        let limits = settings.limits();
        let before = timeline.rows();
        let ended = timeline.expire(fx.now(), limits);
        announce(&ended, fx);
        record_changes(&before, timeline, fx);
        fx.wake_at(timeline.deadline(limits));
    }
}

impl Settings {
    fn limits(&self) -> Limits {
        Limits {
            idle_ms: i64::from(self.idle_seconds) * 1000,
            maximum_ms: i64::from(self.maximum_shift_seconds) * 1000,
        }
    }
}

impl EndCause {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::LoginElsewhere => "login_elsewhere",
            Self::Idle => "idle",
            Self::MaximumShift => "maximum_shift",
        }
    }
}

fn announce(ended: &[AutoLogout], fx: &mut Effects<'_>) {
    for AutoLogout { terminal, seconds, cause } in ended {
        let (cause, reason) = match cause {
            EndCause::LoginElsewhere => (LogoutCause::LoginElsewhere, "a login at another terminal"),
            EndCause::Idle => (LogoutCause::Idle, "no activity"),
            EndCause::MaximumShift => (LogoutCause::MaximumShift, "the maximum shift was reached"),
            EndCause::Logout => continue,
        };
        let terminal_id = terminal.rsplit('/').next().unwrap_or(terminal);
        let data = AutoLoggedOut {
            employee_id: Id::new(fx.context().entity).expect("an entity is named by a valid id"),
            terminal_id: Id::new(terminal_id).expect("the terminal of a valid source is a valid id"),
            session_seconds: *seconds,
            cause,
        };
        fx.publish_about(terminal, EventData::AutoLoggedOut(data));
        fx.log(format!("{} was logged out of {terminal_id} after {seconds} s: {reason}", fx.context().entity));
    }
}

fn record_changes(before: &[Row], timeline: &mut Timeline, fx: &mut Effects<'_>) {
    let after = timeline.rows();
    record_differences(before, &after, fx);
    if timeline.forget() {
        // What a forgotten session covered may count again in one that began before the horizon.
        record_differences(&after, &timeline.rows(), fx);
    }
}

fn record_differences(before: &[Row], after: &[Row], fx: &mut Effects<'_>) {
    for row in after {
        let old = before.iter().find(|old| old.session.id == row.session.id);
        if old.is_none_or(|old| shown(old) != shown(row)) {
            let record = to_record(row.clone(), fx);
            fx.record(Record::Session(record));
        }
    }
}

/// What of a row is on the time sheet and can change.
fn shown(row: &Row) -> impl PartialEq {
    let session = &row.session;
    (session.login_at, session.end, session.late, session.review, row.seconds, row.paid_seconds, row.overlap)
}

fn to_record(row: Row, fx: &Effects<'_>) -> TimeSheetSession {
    let Row { session, seconds, paid_seconds, overlap } = row;
    let source = Source::new(&session.terminal).expect("it was the source of an event");
    let store_id = source.store_id().unwrap_or_default().to_owned();
    let flags = [(session.late, "late"), (overlap, "overlap"), (session.review, "review")];
    TimeSheetSession {
        id: session.id,
        employee_id: fx.context().entity.to_owned(),
        business_day: fx.context().stores.business_day(&store_id, session.login_at).to_string(),
        terminal_id: source.terminal_id().unwrap_or_default().to_owned(),
        store_id,
        login_at: session.login_at,
        logout_at: session.end.map(|end| end.at),
        seconds,
        paid_seconds,
        cause: session.end.map(|end| end.cause.as_str().to_owned()),
        flags: flags.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).to_owned()).collect(),
    }
}
