//! Age prompts and their outcomes.

use super::Store;
use super::connection::{on, queries};
use super::cursor::{Cut, Page};
use super::model::StoreError;
use super::schema::age_prompts;
use crate::effect::AgePromptRecord;
use crate::time::Timestamp;

/// Which age prompts; absent fields match all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgePromptFilter {
    /// How it ended.
    pub outcome: Option<String>,
    /// In which store.
    pub store_id: Option<String>,
    /// At or after this time.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
}

#[derive(diesel::Insertable)]
#[diesel(table_name = age_prompts)]
pub(super) struct NewAgePrompt<'a> {
    id: &'a str,
    basket_id: &'a str,
    store_id: &'a str,
    terminal_id: &'a str,
    employee_id: &'a str,
    minimum_age: i32,
    outcome: &'a str,
    at: i64,
}

impl<'a> NewAgePrompt<'a> {
    pub(super) fn new(record: &'a AgePromptRecord) -> Self {
        Self {
            id: &record.id,
            basket_id: &record.basket_id,
            store_id: &record.store_id,
            terminal_id: &record.terminal_id,
            employee_id: &record.employee_id,
            minimum_age: i32::from(record.minimum_age),
            outcome: &record.outcome,
            at: record.at.as_millis(),
        }
    }
}

#[derive(diesel::Queryable)]
struct Row {
    id: String,
    basket_id: String,
    store_id: String,
    terminal_id: String,
    employee_id: String,
    minimum_age: i32,
    outcome: String,
    at: i64,
}

impl Row {
    fn into_record(self) -> AgePromptRecord {
        AgePromptRecord {
            id: self.id,
            basket_id: self.basket_id,
            store_id: self.store_id,
            terminal_id: self.terminal_id,
            employee_id: self.employee_id,
            minimum_age: u8::try_from(self.minimum_age).unwrap_or(u8::MAX),
            outcome: self.outcome,
            at: Timestamp::from_millis(self.at),
        }
    }
}

impl Store {
    /// Age prompts, newest first.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a cursor or limit that makes no sense.
    pub async fn age_prompts(
        &self,
        filter: AgePromptFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<AgePromptRecord>, StoreError> {
        let cut = Cut::new(cursor, limit)?;
        self.read(move |database| on!(database, page(&filter, &cut))).await
    }
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn page(
        db: &mut Db,
        filter: &AgePromptFilter,
        cut: &Cut<(i64, String)>,
    ) -> Result<Page<AgePromptRecord>, StoreError> {
        let mut query =
            age_prompts::table.order((age_prompts::at.desc(), age_prompts::id.desc())).limit(cut.rows()).into_boxed();
        if let Some(outcome) = &filter.outcome {
            query = query.filter(age_prompts::outcome.eq(outcome));
        }
        if let Some(store) = &filter.store_id {
            query = query.filter(age_prompts::store_id.eq(store));
        }
        if let Some(from) = filter.from {
            query = query.filter(age_prompts::at.ge(from.as_millis()));
        }
        if let Some(to) = filter.to {
            query = query.filter(age_prompts::at.lt(to.as_millis()));
        }
        if let Some((at, id)) = &cut.after {
            query = query.filter(age_prompts::at.le(*at).and(age_prompts::at.lt(*at).or(age_prompts::id.lt(id))));
        }
        let rows: Vec<Row> = query.load(db)?;
        let items = rows.into_iter().map(Row::into_record).collect();
        Ok(cut.page(items, |record: &AgePromptRecord| (record.at.as_millis(), record.id.clone())))
    }
}
