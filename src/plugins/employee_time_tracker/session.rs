//! What an employee did, and one session that it makes.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What comes later than this after its time gives a session the flag `late`; less is the jitter of tills and networks.
const JITTER_MS: i64 = 2_000;

/// What an employee did at a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Login,
    Logout,
    /// Anything else that names the employee.
    Other,
}

/// Something that the employee did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Activity<'a> {
    pub(super) action: Action,
    /// The terminal's whole source.
    pub(super) terminal: &'a str,
    /// When, never after `now`.
    pub(super) at: Timestamp,
    /// The clock.
    pub(super) now: Timestamp,
    /// It came later after its own time than tills and networks jitter.
    pub(super) delayed: bool,
    /// Nobody else acted at the terminal since the employee did.
    pub(super) same_actor: bool,
}

impl Activity<'_> {
    pub(super) fn is_late(&self) -> bool {
        self.at < self.now
    }

    /// True if an event of `sent`, read at `now`, came so late that a person should know.
    pub(super) fn is_delayed(sent: Timestamp, now: Timestamp) -> bool {
        now.millis_since(sent) > JITTER_MS
    }
}

/// When sessions end by themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) idle_ms: i64,
    pub(super) maximum_ms: i64,
}

/// What ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EndCause {
    Logout,
    LoginElsewhere,
    Idle,
    MaximumShift,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    #[serde(rename = "t")]
    pub(super) at: Timestamp,
    #[serde(rename = "c")]
    pub(super) cause: EndCause,
}

/// A session. The keys are short because the state of every employee at work is written with every batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    #[serde(rename = "i")]
    pub(super) id: String,
    #[serde(rename = "x")]
    pub(super) terminal: String,
    #[serde(rename = "b")]
    pub(super) login_at: Timestamp,
    #[serde(rename = "a")]
    pub(super) last_activity: Timestamp,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<End>,
    /// A login opened it.
    #[serde(rename = "l", default)]
    pub(super) explicit: bool,
    #[serde(rename = "f", default)]
    pub(super) late: bool,
    /// Time without any activity that is longer than the idle time may be in it, or be missing from it: a person decides.
    #[serde(rename = "v", default, skip_serializing_if = "is_false")]
    pub(super) review: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Session {
    fn idle_at(&self, limits: Limits) -> Timestamp {
        self.last_activity.plus_millis(limits.idle_ms)
    }

    pub(super) fn maximum_at(&self, limits: Limits) -> Timestamp {
        self.login_at.plus_millis(limits.maximum_ms)
    }

    pub(super) fn deadline(&self, limits: Limits) -> Timestamp {
        self.idle_at(limits).min(self.maximum_at(limits))
    }

    pub(super) fn is_open(&self) -> bool {
        self.end.is_none()
    }

    pub(super) fn ended_with(&self, cause: EndCause) -> bool {
        self.end.is_some_and(|end| end.cause == cause)
    }

    pub(super) fn covers(&self, activity: &Activity<'_>) -> bool {
        self.end.is_none_or(|end| activity.at < end.at || (activity.at == end.at && activity.action == Action::Other))
    }

    /// How the session ends by itself once its deadline has passed.
    pub(super) fn natural_end(&self, limits: Limits) -> End {
        if self.idle_at(limits) <= self.maximum_at(limits) {
            End { at: self.last_activity, cause: EndCause::Idle }
        } else {
            End { at: self.maximum_at(limits), cause: EndCause::MaximumShift }
        }
    }

    pub(super) fn end_by_itself(&mut self, end: End) -> AutoLogout {
        self.end = Some(end);
        let seconds = end.at.millis_since(self.login_at) / 1000;
        AutoLogout { terminal: self.terminal.clone(), seconds, cause: end.cause }
    }
}

/// An open session that ended without a logout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AutoLogout {
    pub(super) terminal: String,
    pub(super) seconds: i64,
    pub(super) cause: EndCause,
}
