//! Alerts: why they fired, the events they rest on, and what people made of them.

use std::collections::HashSet;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Store;
use super::audit::{Decision, NewEntry, read_json};
use super::connection::{ROWS_PER_STATEMENT, on, queries, statements};
use super::cursor::{Cut, Page};
use super::evidence;
use super::model::StoreError;
use super::records::ROW_BYTES_MAX;
use super::schema::alerts;
use crate::effect::AlertRecord;
use crate::event::{Scope, Severity};
use crate::stores::FieldError;
use crate::time::Timestamp;

/// Longest note in bytes.
pub const NOTE_BYTES_MAX: usize = 10_000;
/// Longest name of an assignee in bytes.
pub const ASSIGNEE_BYTES_MAX: usize = 255;

/// How far people are with an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are their meaning")]
pub enum AlertStatus {
    New,
    Acknowledged,
    Closed,
}

/// What an alert turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are their meaning")]
pub enum Disposition {
    Fraud,
    Mistake,
    FalseAlarm,
}

impl AlertStatus {
    /// The status as it stands in the store and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Acknowledged => "acknowledged",
            Self::Closed => "closed",
        }
    }

    fn from_name(name: &str) -> Self {
        match name {
            "closed" => Self::Closed,
            "acknowledged" => Self::Acknowledged,
            _ => Self::New,
        }
    }
}

impl Disposition {
    /// The disposition as it stands in the store and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fraud => "fraud",
            Self::Mistake => "mistake",
            Self::FalseAlarm => "false_alarm",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Fraud, Self::Mistake, Self::FalseAlarm].into_iter().find(|one| one.as_str() == name)
    }
}

const fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
    }
}

/// A stored alert.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// What the rule found. In lists `evidence` (the positions) is there as well.
    pub record: AlertRecord,
    /// How far people are with it.
    pub status: AlertStatus,
    /// What it turned out to be.
    pub disposition: Option<Disposition>,
    /// Who looks after it.
    pub assignee: Option<String>,
    /// What they found.
    pub note: Option<String>,
    /// The contributing events whole, as structured JSON; `None` in lists, and until they have been copied from the bus.
    pub events: Option<Vec<Bytes>>,
}

/// Which alerts; absent fields match all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertFilter {
    /// How far people are with them.
    pub status: Option<AlertStatus>,
    /// How serious they are.
    pub severity: Option<Severity>,
    /// The rule that fired.
    pub rule_id: Option<String>,
    /// The entity, as `scope:id` or its id alone.
    pub entity: Option<String>,
    /// At or after this time.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
    /// Only those of shadow rules, or only the others.
    pub shadow: Option<bool>,
}

/// What a person changes; absent fields stay. An empty assignee or note takes it away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertChange {
    /// How far people are with it.
    pub status: Option<AlertStatus>,
    /// What it turned out to be; `Some(None)` takes it back.
    pub disposition: Option<Option<Disposition>>,
    /// Who looks after it.
    pub assignee: Option<String>,
    /// What they found.
    pub note: Option<String>,
}

impl AlertChange {
    fn validate(&self) -> Result<(), FieldError> {
        let too_long = |text: &Option<String>, max| text.as_ref().is_some_and(|text| text.len() > max);
        if too_long(&self.assignee, ASSIGNEE_BYTES_MAX) {
            return Err(FieldError::new("assignee", format!("is longer than {ASSIGNEE_BYTES_MAX} bytes")));
        }
        if too_long(&self.note, NOTE_BYTES_MAX) {
            return Err(FieldError::new("note", format!("is longer than {NOTE_BYTES_MAX} bytes")));
        }
        Ok(())
    }
}

#[derive(diesel::Insertable)]
#[diesel(table_name = alerts, treat_none_as_default_value = false)]
pub(super) struct NewAlert<'a> {
    id: &'a str,
    at: i64,
    rule_id: &'a str,
    severity: &'a str,
    scope: &'a str,
    entity: &'a str,
    store_id: &'a str,
    terminal_id: Option<&'a str>,
    employee_id: Option<&'a str>,
    shadow: bool,
    alert: String,
    positions: Vec<u8>,
    status: &'a str,
}

impl<'a> NewAlert<'a> {
    pub(super) fn new(record: &'a AlertRecord) -> Result<Self, StoreError> {
        let alert = &record.alert;
        Ok(Self {
            id: &alert.alert_id,
            at: record.at.as_millis(),
            rule_id: &alert.rule_id,
            severity: severity_name(alert.severity),
            scope: alert.scope.as_str(),
            entity: &alert.entity,
            store_id: &record.store_id,
            terminal_id: record.terminal_id.as_deref(),
            employee_id: record.employee_id.as_deref(),
            shadow: record.shadow,
            alert: serde_json::to_string(alert).map_err(|error| StoreError::Refused(error.to_string()))?,
            positions: evidence::write_positions(&record.evidence)?,
            status: AlertStatus::New.as_str(),
        })
    }
}

#[derive(diesel::Queryable, diesel::Selectable)]
#[diesel(table_name = alerts)]
struct Row {
    at: i64,
    store_id: String,
    terminal_id: Option<String>,
    employee_id: Option<String>,
    shadow: bool,
    alert: String,
    positions: Vec<u8>,
    status: String,
    disposition: Option<String>,
    assignee: Option<String>,
    note: Option<String>,
}

impl Row {
    fn into_alert(self) -> Result<Alert, StoreError> {
        let record = AlertRecord {
            alert: read_json(&self.alert)?,
            at: Timestamp::from_millis(self.at),
            store_id: self.store_id,
            terminal_id: self.terminal_id,
            employee_id: self.employee_id,
            evidence: evidence::read_positions(&self.positions)?,
            shadow: self.shadow,
        };
        Ok(Alert {
            record,
            status: AlertStatus::from_name(&self.status),
            disposition: self.disposition.as_deref().and_then(Disposition::from_name),
            assignee: self.assignee,
            note: self.note,
            events: None,
        })
    }
}

fn audited(alert: &Alert) -> serde_json::Value {
    let Alert { status, disposition, assignee, note, .. } = alert;
    serde_json::json!({"status": status, "disposition": disposition, "assignee": assignee, "note": note})
}

impl Store {
    /// Alerts, newest first.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a cursor or limit that makes no sense.
    pub async fn alerts(
        &self,
        filter: AlertFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<Alert>, StoreError> {
        let cut = Cut::new(cursor, limit)?;
        self.read(move |database| on!(database, page(&filter, &cut))).await
    }

    /// One alert with its contributing events.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none of that id.
    pub async fn alert(&self, id: &str) -> Result<Alert, StoreError> {
        let id = id.to_owned();
        self.read(move |database| on!(database, one(&id))).await
    }

    /// Changes what people made of an alert, and answers it as it is now.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or [`StoreError::Invalid`] for a text that is too long.
    pub async fn change_alert(&self, id: &str, change: AlertChange, actor: &str) -> Result<Alert, StoreError> {
        change.validate()?;
        let (id, actor, decision) = (id.to_owned(), actor.to_owned(), Decision::new());
        self.write(move |database| {
            decision.begin();
            on!(database, change(&id, &change, &actor, &decision))
        })
        .await
    }
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn page(
        db: &mut Db,
        filter: &AlertFilter,
        cut: &Cut<(i64, String)>,
    ) -> Result<Page<Alert>, StoreError> {
        let mut query = alerts::table
            .select(Row::as_select())
            .order((alerts::at.desc(), alerts::id.desc()))
            .limit(cut.rows())
            .into_boxed();
        if let Some(status) = filter.status {
            query = query.filter(alerts::status.eq(status.as_str()));
        }
        if let Some(severity) = filter.severity {
            query = query.filter(alerts::severity.eq(severity_name(severity)));
        }
        if let Some(rule) = &filter.rule_id {
            query = query.filter(alerts::rule_id.eq(rule));
        }
        if let Some(entity) = &filter.entity {
            let scoped = entity.split_once(':').and_then(|(scope, id)| Some((Scope::from_name(scope)?, id)));
            query = match scoped {
                Some((scope, id)) => query.filter(alerts::scope.eq(scope.as_str())).filter(alerts::entity.eq(id)),
                None => query.filter(alerts::entity.eq(entity)),
            };
        }
        if let Some(from) = filter.from {
            query = query.filter(alerts::at.ge(from.as_millis()));
        }
        if let Some(to) = filter.to {
            query = query.filter(alerts::at.lt(to.as_millis()));
        }
        if let Some(shadow) = filter.shadow {
            query = query.filter(alerts::shadow.eq(shadow));
        }
        if let Some((at, id)) = &cut.after {
            // So, and not as two alternatives, it is one range of the index.
            query = query.filter(alerts::at.le(*at).and(alerts::at.lt(*at).or(alerts::id.lt(id))));
        }
        let rows: Vec<Row> = query.load(db)?;
        // One that cannot be read hides none of the others.
        let more = rows.len() > cut.items();
        let unreadable = |error: &StoreError| tracing::warn!(%error, "an alert cannot be read and is not listed");
        let rows = rows.into_iter().take(cut.items());
        let items = rows.filter_map(|row| row.into_alert().inspect_err(unreadable).ok()).collect();
        let key = |alert: &Alert| (alert.record.at.as_millis(), alert.record.alert.alert_id.to_string());
        Ok(cut.page_with(items, more, key))
    }

    /// Inserts alerts that are not there yet. Not by IGNORE, with which MySQL also cuts values that do not fit; nobody else
    /// writes alerts of the same partition.
    pub(in crate::store) fn insert_new(db: &mut Db, mut alerts: Vec<NewAlert<'_>>) -> Result<(), StoreError> {
        let ids: Vec<String> = alerts.iter().map(|alert| alert.id.to_owned()).collect();
        let mut seen = HashSet::new();
        for chunk in ids.chunks(ROWS_PER_STATEMENT) {
            let known: Vec<String> = alerts::table.filter(alerts::id.eq_any(chunk)).select(alerts::id).load(db)?;
            seen.extend(known);
        }
        alerts.retain(|alert| seen.insert(alert.id.to_owned()));
        for values in statements(alerts, |alert| alert.alert.len() + alert.positions.len() + ROW_BYTES_MAX) {
            diesel::insert_into(alerts::table).values(values).execute(db)?;
        }
        Ok(())
    }

    pub(in crate::store) fn one(db: &mut Db, id: &str) -> Result<Alert, StoreError> {
        let (row, events): (Row, Option<Vec<u8>>) =
            alerts::table.find(id).select((Row::as_select(), alerts::evidence)).first(db)?;
        let mut alert = row.into_alert()?;
        alert.events = events.as_deref().map(evidence::read_events).transpose()?;
        Ok(alert)
    }

    pub(in crate::store) fn change(
        db: &mut Db,
        id: &str,
        change: &AlertChange,
        actor: &str,
        decision: &Decision,
    ) -> Result<Alert, StoreError> {
        db.transaction(|db| {
            // Takes the row's lock: two people who change different things of one alert must both be heard.
            diesel::update(alerts::table.find(id)).set(alerts::status.eq(alerts::status)).execute(db)?;
            let old = one(db, id)?;
            if queries::audit::done(db, decision)?.is_some() {
                return Ok(old);
            }
            let mut new = old.clone();
            let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
            new.status = change.status.unwrap_or(old.status);
            new.disposition = change.disposition.unwrap_or(old.disposition);
            new.assignee = change.assignee.as_ref().map_or_else(|| old.assignee.clone(), text);
            new.note = change.note.as_ref().map_or_else(|| old.note.clone(), text);
            if new == old {
                return Ok(new);
            }
            diesel::update(alerts::table.find(id))
                .set((
                    alerts::status.eq(new.status.as_str()),
                    alerts::disposition.eq(new.disposition.map(Disposition::as_str)),
                    alerts::assignee.eq(&new.assignee),
                    alerts::note.eq(&new.note),
                ))
                .execute(db)?;
            let (old, after) = (Some(audited(&old)), Some(audited(&new)));
            let entry = NewEntry {
                actor,
                action: "alert.change",
                subject: id,
                old,
                new: after,
                decision: Some(decision.id()),
                ..NewEntry::default()
            };
            queries::audit::write(db, &entry)?;
            Ok(new)
        })
    }
}
