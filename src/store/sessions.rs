//! Time sheets: employees' sessions at terminals, and their totals.

use utoipa::ToSchema;

use super::Store;
use super::connection::{on, queries};
use super::cursor::{Cut, Page};
use super::model::StoreError;
use super::schema::sessions;
use crate::effect::TimeSheetSession;
use crate::time::Timestamp;

/// Which sessions; absent fields match all. Days are business days.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// This business day or a later one.
    pub from: Option<jiff::civil::Date>,
    /// An earlier business day than this.
    pub to: Option<jiff::civil::Date>,
    /// Begun at this instant or later.
    pub login_from: Option<Timestamp>,
    /// Begun before this instant.
    pub login_to: Option<Timestamp>,
    /// Who worked.
    pub employee_id: Option<String>,
    /// Where.
    pub store_id: Option<String>,
    /// At which terminal.
    pub terminal_id: Option<String>,
}

/// What totals are formed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are their meaning")]
pub enum SessionGroup {
    Employee,
    Terminal,
    Store,
    BusinessDay,
}

/// The total of one employee, terminal, store or business day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTotal {
    /// Whose: the id, or the day.
    pub key: String,
    /// Sessions, those that are still open included.
    pub sessions: i64,
    /// Seconds of all sessions that have ended.
    pub seconds: i64,
    /// The part of it that counts for pay.
    pub paid_seconds: i64,
}

#[derive(diesel::Insertable)]
#[diesel(table_name = sessions, treat_none_as_default_value = false)]
pub(super) struct NewSession<'a> {
    id: &'a str,
    employee_id: &'a str,
    store_id: &'a str,
    terminal_id: &'a str,
    business_day: &'a str,
    login_at: i64,
    logout_at: Option<i64>,
    seconds: i64,
    paid_seconds: i64,
    cause: Option<&'a str>,
    flags: String,
}

impl<'a> NewSession<'a> {
    pub(super) fn new(session: &'a TimeSheetSession) -> Self {
        Self {
            id: &session.id,
            employee_id: &session.employee_id,
            store_id: &session.store_id,
            terminal_id: &session.terminal_id,
            business_day: &session.business_day,
            login_at: session.login_at.as_millis(),
            logout_at: session.logout_at.map(Timestamp::as_millis),
            seconds: session.seconds,
            paid_seconds: session.paid_seconds,
            cause: session.cause.as_deref(),
            flags: session.flags.join(" "),
        }
    }
}

#[derive(diesel::Queryable)]
struct Row {
    id: String,
    employee_id: String,
    store_id: String,
    terminal_id: String,
    business_day: String,
    login_at: i64,
    logout_at: Option<i64>,
    seconds: i64,
    paid_seconds: i64,
    cause: Option<String>,
    flags: String,
}

impl Row {
    fn into_session(self) -> TimeSheetSession {
        TimeSheetSession {
            id: self.id,
            employee_id: self.employee_id,
            store_id: self.store_id,
            terminal_id: self.terminal_id,
            business_day: self.business_day,
            login_at: Timestamp::from_millis(self.login_at),
            logout_at: self.logout_at.map(Timestamp::from_millis),
            seconds: self.seconds,
            paid_seconds: self.paid_seconds,
            cause: self.cause,
            flags: self.flags.split_whitespace().map(ToOwned::to_owned).collect(),
        }
    }
}

impl Store {
    /// Sessions in the order of their logins.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a cursor or limit that makes no sense.
    pub async fn sessions(
        &self,
        filter: SessionFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<TimeSheetSession>, StoreError> {
        let cut = Cut::new(cursor, limit)?;
        self.read(move |database| on!(database, page(&filter, &cut))).await
    }

    /// Totals over sessions, in the order of their keys.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn session_totals(
        &self,
        group: SessionGroup,
        filter: SessionFilter,
    ) -> Result<Vec<SessionTotal>, StoreError> {
        self.read(move |database| on!(database, totals(group, &filter))).await
    }
}

const DAY_MS: i64 = 86_400_000;

/// No session of this business day or a later one began before: zones are at most 14 h ahead. Sessions are listed by their logins, so
/// this is where their list begins.
pub(super) fn earliest_login(day: jiff::civil::Date) -> i64 {
    day_start(day).saturating_sub(DAY_MS)
}

/// No session of an earlier business day than this began then or later: zones are at most 12 h behind, and a business day begins at most a
/// day late.
pub(super) fn latest_login(day: jiff::civil::Date) -> i64 {
    day_start(day).saturating_add(2 * DAY_MS)
}

/// Midnight in UTC.
fn day_start(day: jiff::civil::Date) -> i64 {
    let epoch = jiff::civil::date(1970, 1, 1);
    let days = (day - epoch).get_days();
    i64::from(days) * DAY_MS
}

/// Adds the filter's conditions to a boxed query.
macro_rules! filtered {
    ($query:expr, $filter:expr) => {{
        let mut query = $query;
        if let Some(from) = $filter.from {
            query = query.filter(sessions::business_day.ge(from.to_string()));
            query = query.filter(sessions::login_at.ge(earliest_login(from)));
        }
        if let Some(to) = $filter.to {
            query = query.filter(sessions::business_day.lt(to.to_string()));
            query = query.filter(sessions::login_at.lt(latest_login(to)));
        }
        if let Some(from) = $filter.login_from {
            query = query.filter(sessions::login_at.ge(from.as_millis()));
        }
        if let Some(to) = $filter.login_to {
            query = query.filter(sessions::login_at.lt(to.as_millis()));
        }
        if let Some(employee) = &$filter.employee_id {
            query = query.filter(sessions::employee_id.eq(employee));
        }
        if let Some(store) = &$filter.store_id {
            query = query.filter(sessions::store_id.eq(store));
        }
        if let Some(terminal) = &$filter.terminal_id {
            query = query.filter(sessions::terminal_id.eq(terminal));
        }
        query
    }};
}

/// Totals by one column.
macro_rules! totals_by {
    ($db:expr, $filter:expr, $column:expr) => {{
        let query = sessions::table
            .group_by($column)
            .select((
                $column,
                diesel::dsl::count_star(),
                // Both databases sum integers exactly, but Diesel has no common type for the result.
                sql::<BigInt>("CAST(SUM(seconds) AS SIGNED)"),
                sql::<BigInt>("CAST(SUM(paid_seconds) AS SIGNED)"),
            ))
            .order($column)
            .into_boxed();
        filtered!(query, $filter).load::<(String, i64, i64, i64)>($db)?
    }};
}

queries! {
    use diesel::dsl::sql;
    use diesel::prelude::*;
    use diesel::sql_types::BigInt;

    pub(in crate::store) fn page(
        db: &mut Db,
        filter: &SessionFilter,
        cut: &Cut<(i64, String)>,
    ) -> Result<Page<TimeSheetSession>, StoreError> {
        let query = sessions::table.order((sessions::login_at, sessions::id)).limit(cut.rows()).into_boxed();
        let mut query = filtered!(query, filter);
        if let Some((at, id)) = &cut.after {
            query = query.filter(sessions::login_at.ge(*at).and(sessions::login_at.gt(*at).or(sessions::id.gt(id))));
        }
        let rows: Vec<Row> = query.load(db)?;
        let items = rows.into_iter().map(Row::into_session).collect();
        Ok(cut.page(items, |session: &TimeSheetSession| (session.login_at.as_millis(), session.id.clone())))
    }

    pub(in crate::store) fn totals(
        db: &mut Db,
        group: SessionGroup,
        filter: &SessionFilter,
    ) -> Result<Vec<SessionTotal>, StoreError> {
        let rows = match group {
            SessionGroup::Employee => totals_by!(db, filter, sessions::employee_id),
            SessionGroup::Terminal => totals_by!(db, filter, sessions::terminal_id),
            SessionGroup::Store => totals_by!(db, filter, sessions::store_id),
            SessionGroup::BusinessDay => totals_by!(db, filter, sessions::business_day),
        };
        Ok(rows
            .into_iter()
            .map(|(key, sessions, seconds, paid_seconds)| SessionTotal { key, sessions, seconds, paid_seconds })
            .collect())
    }
}
