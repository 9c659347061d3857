//! The sessions of one employee in the order of time, and how a login, a logout or an activity changes them.
//!
//! Knows nothing of events, effects and stores. The rules are those of `docs/plugins.md`, step by step.

use serde::{Deserialize, Serialize};

use super::session::{Action, Activity, AutoLogout, End, EndCause, Limits, Session};
use crate::time::Timestamp;

/// More open sessions than this end by themselves.
pub(super) const OPEN_SESSIONS_MAX: usize = 8;
/// How many ended sessions are kept for corrections.
pub(super) const ENDED_SESSIONS_MAX: usize = 8;
/// A session as it stands on the time sheet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) session: Session,
    pub(super) seconds: i64,
    pub(super) paid_seconds: i64,
    pub(super) overlap: bool,
}

/// Ended sessions that are no longer kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Forgotten {
    /// The latest login of them: nothing before it can be put in order any more.
    horizon: Timestamp,
    /// Their latest logout: time before it has been paid.
    paid_until: Timestamp,
}

/// The sessions of one employee, by login.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    #[serde(rename = "s", default)]
    sessions: Vec<Session>,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    forgotten: Option<Forgotten>,
}

impl Timeline {
    /// The next time at which an open session ends by itself.
    pub(super) fn deadline(&self, limits: Limits) -> Option<Timestamp> {
        self.sessions.iter().filter(|session| session.is_open()).map(|session| session.deadline(limits)).min()
    }

    /// Takes an activity that changes no row: one in a session that is open. False if it is not of that kind.
    pub(super) fn touch(&mut self, activity: &Activity<'_>, limits: Limits) -> bool {
        if activity.action != Action::Other || self.deadline(limits).is_none_or(|deadline| deadline <= activity.now) {
            return false;
        }
        let open = self.sessions.iter_mut().find(|session| session.is_open() && session.terminal == activity.terminal);
        match open {
            Some(session) if session.login_at <= activity.at => {
                session.last_activity = session.last_activity.max(activity.at);
                true
            }
            _ => false,
        }
    }

    /// Ends every open session whose deadline has come, the earliest first.
    pub(super) fn expire(&mut self, now: Timestamp, limits: Limits) -> Vec<AutoLogout> {
        let mut due: Vec<&mut Session> =
            self.sessions.iter_mut().filter(|session| session.is_open() && session.deadline(limits) <= now).collect();
        due.sort_by_key(|session| session.deadline(limits));
        due.into_iter().map(|session| session.end_by_itself(session.natural_end(limits))).collect()
    }

    /// Takes an activity. Answers the sessions that ended by themselves, or why the activity was ignored.
    pub(super) fn apply(
        &mut self,
        activity: &Activity<'_>,
        limits: Limits,
        new_id: impl FnOnce() -> String,
    ) -> (Vec<AutoLogout>, Option<&'static str>) {
        let mut ended = self.expire(activity.now, limits);
        let here = |session: &Session| session.terminal == activity.terminal;
        let previous = self.sessions.iter().rposition(|session| here(session) && session.login_at <= activity.at);
        if previous.is_none() && self.forgotten.is_some_and(|forgotten| activity.at < forgotten.horizon) {
            return (ended, Some("is too old to be put in order"));
        }
        if activity.action == Action::Logout {
            let ignored = self.log_out(previous, activity, limits).err();
            return (ended, ignored);
        }
        self.attend(previous, activity, limits, new_id);
        if activity.action == Action::Login {
            ended.extend(self.end_elsewhere(activity, limits));
        }
        ended.extend(self.expire(activity.now, limits));
        ended.extend(self.end_surplus());
        (ended, None)
    }

    fn log_out(
        &mut self,
        previous: Option<usize>,
        activity: &Activity<'_>,
        limits: Limits,
    ) -> Result<(), &'static str> {
        let index = previous.ok_or("has no login before it")?;
        let has_left = self.has_left(index, activity.at);
        let session = &mut self.sessions[index];
        let in_time = activity.at < session.deadline(limits);
        match session.end {
            Some(End { cause: EndCause::Logout, .. }) => return Err("comes after another logout"),
            _ if activity.at < session.last_activity => return Err("is older than later work at the same terminal"),
            Some(End { cause: EndCause::LoginElsewhere, .. }) if !in_time => {
                return Err("comes after the session ended by itself");
            }
            Some(End { cause: EndCause::Idle | EndCause::MaximumShift, .. }) if !in_time => {
                session.review = true;
                if has_left || activity.at >= session.maximum_at(limits) {
                    return Err("comes after the session ended by itself, which a person should review");
                }
            }
            _ => {}
        }
        session.last_activity = activity.at;
        session.end = Some(End { at: activity.at, cause: EndCause::Logout });
        session.late |= activity.delayed;
        Ok(())
    }

    /// True if the employee logged in at another terminal between the last activity of that session and `until`.
    fn has_left(&self, index: usize, until: Timestamp) -> bool {
        let left = &self.sessions[index];
        self.sessions.iter().any(|other| {
            other.explicit && other.terminal != left.terminal && (left.last_activity..=until).contains(&other.login_at)
        })
    }

    /// A session that ended by idleness goes on if its employee acts there again before anybody else does.
    fn reopen(&mut self, previous: Option<usize>, activity: &Activity<'_>, limits: Limits) -> bool {
        let Some(index) = previous.filter(|_| activity.same_actor) else {
            return false;
        };
        let here = |session: &Session| session.terminal == activity.terminal;
        let is_last = !self.sessions[index + 1..].iter().any(here);
        let has_left = self.has_left(index, activity.at);
        let session = &mut self.sessions[index];
        let was_idle = session.ended_with(EndCause::Idle) && activity.at >= session.deadline(limits);
        if !was_idle || !is_last || has_left || activity.at >= session.maximum_at(limits) {
            return false;
        }
        session.last_activity = activity.at;
        session.end = None;
        session.review = true;
        session.late |= activity.delayed;
        true
    }

    /// Finds or makes the session that a login or another activity belongs to.
    fn attend(
        &mut self,
        previous: Option<usize>,
        activity: &Activity<'_>,
        limits: Limits,
        new_id: impl FnOnce() -> String,
    ) {
        let at = activity.at;
        if let Some(session) = previous.map(|index| &mut self.sessions[index]) {
            if session.covers(activity) {
                session.last_activity = session.last_activity.max(at);
                return;
            }
            let goes_on = activity.is_late() && session.ended_with(EndCause::Idle) && at < session.deadline(limits);
            if activity.action == Action::Other && goes_on {
                session.last_activity = at;
                session.end = Some(End { at, cause: EndCause::Idle });
                session.late |= activity.delayed;
                return;
            }
        }
        if self.reopen(previous, activity, limits) {
            return;
        }
        let here = |session: &Session| session.terminal == activity.terminal;
        let next = self.sessions.iter().position(|session| here(session) && session.login_at > at);
        if let Some(index) = next {
            let session = &self.sessions[index];
            let until = session.end.map_or(session.last_activity, |end| end.at);
            if !session.explicit
                && session.login_at.millis_since(at) < limits.idle_ms
                && until.millis_since(at) < limits.maximum_ms
            {
                let mut session = self.sessions.remove(index);
                session.login_at = at;
                session.explicit = activity.action == Action::Login;
                session.late |= activity.delayed;
                self.insert(session);
                return;
            }
        }
        let next_login = next.map(|index| self.sessions[index].login_at);
        let mut session = Session {
            id: new_id(),
            terminal: activity.terminal.to_owned(),
            login_at: at,
            last_activity: at,
            end: None,
            explicit: activity.action == Action::Login,
            late: activity.delayed,
            review: false,
        };
        session.end = self.end_in_the_past(&session, next_login, activity.now, limits);
        self.insert(session);
    }

    /// How a session that comes late was over already; `None` if it is open now.
    fn end_in_the_past(
        &self,
        session: &Session,
        next_login: Option<Timestamp>,
        now: Timestamp,
        limits: Limits,
    ) -> Option<End> {
        let deadline = session.deadline(limits);
        let elsewhere = self
            .sessions
            .iter()
            .filter(|other| other.explicit && other.terminal != session.terminal && other.login_at > session.login_at)
            .map(|other| other.login_at)
            .min()
            .filter(|login| *login < deadline && next_login.is_none_or(|next| *login <= next));
        match elsewhere {
            Some(at) => Some(End { at, cause: EndCause::LoginElsewhere }),
            None if next_login.is_some() || deadline <= now => {
                Some(End { at: session.last_activity, cause: EndCause::Idle })
            }
            None => None,
        }
    }

    fn insert(&mut self, session: Session) {
        let index = self.sessions.partition_point(|other| other.login_at <= session.login_at);
        self.sessions.insert(index, session);
    }

    /// A login ends what is open at other terminals; a late one also corrects when that was.
    fn end_elsewhere(&mut self, login: &Activity<'_>, limits: Limits) -> Vec<AutoLogout> {
        let end = End { at: login.at, cause: EndCause::LoginElsewhere };
        let mut ended = Vec::new();
        let begun = self.sessions.partition_point(|session| session.login_at <= login.at);
        for index in 0..begun {
            let (session, later) = self.sessions[index..begun].split_first_mut().expect("begun is within the list");
            let went_on = later.iter().any(|other| other.terminal == session.terminal);
            if session.terminal == login.terminal || went_on || session.last_activity > login.at {
                continue;
            }
            match session.end {
                None => ended.push(session.end_by_itself(end)),
                Some(End { at, cause: EndCause::LoginElsewhere | EndCause::MaximumShift })
                    if login.is_late() && login.at < at =>
                {
                    session.end = Some(end);
                }
                Some(End { cause: EndCause::Idle, .. }) if login.is_late() && login.at < session.deadline(limits) => {
                    session.end = Some(end);
                }
                Some(_) => continue,
            }
            session.late |= login.delayed;
        }
        ended
    }

    fn end_surplus(&mut self) -> Option<AutoLogout> {
        // One activity opens one session, so there is never more than one too many.
        let open = self.sessions.iter().filter(|session| session.is_open()).count();
        if open <= OPEN_SESSIONS_MAX {
            return None;
        }
        let oldest =
            self.sessions.iter_mut().filter(|session| session.is_open()).min_by_key(|session| session.last_activity)?;
        let end = End { at: oldest.last_activity, cause: EndCause::Idle };
        Some(oldest.end_by_itself(end))
    }

    /// The time sheet's rows of the kept sessions.
    pub(super) fn rows(&self) -> Vec<Row> {
        let span = |session: &Session| session.end.map(|end| (session.login_at, end.at));
        let mut covered_until = Timestamp::MIN;
        let mut rows = Vec::with_capacity(self.sessions.len());
        for (index, session) in self.sessions.iter().enumerate() {
            let Some((from, to)) = span(session) else {
                rows.push(Row { session: session.clone(), seconds: 0, paid_seconds: 0, overlap: false });
                continue;
            };
            let forgotten = self.forgotten.filter(|forgotten| from >= forgotten.horizon);
            let paid_until = covered_until.max(forgotten.map_or(Timestamp::MIN, |forgotten| forgotten.paid_until));
            let meets_later = self.sessions[index + 1..].iter().filter_map(span).any(|(start, end)| {
                // Sessions are in the order of their logins.
                start < to && end > start
            });
            rows.push(Row {
                session: session.clone(),
                seconds: to.millis_since(from) / 1000,
                paid_seconds: to.millis_since(from.max(paid_until)).max(0) / 1000,
                overlap: to > from && (paid_until > from || meets_later),
            });
            covered_until = covered_until.max(to);
        }
        rows
    }

    /// Forgets the oldest ended sessions beyond those that are kept for corrections. True if there were any.
    pub(super) fn forget(&mut self) -> bool {
        let ended = self.sessions.iter().filter(|session| !session.is_open()).count();
        let surplus = ended.saturating_sub(ENDED_SESSIONS_MAX);
        for _ in 0..surplus {
            let first =
                self.sessions.iter().position(|session| !session.is_open()).expect("there is a surplus of them");
            let session = self.sessions.remove(first);
            let forgotten = self.forgotten.get_or_insert_default();
            forgotten.horizon = forgotten.horizon.max(session.login_at);
            forgotten.paid_until = forgotten.paid_until.max(session.end.map_or(session.login_at, |end| end.at));
        }
        surplus > 0
    }
}
