//! Records that plugins write: each kind has its table; here a commit's records are sorted into them.

use super::age_prompts::NewAgePrompt;
use super::alerts::NewAlert;
use super::connection::{queries, statements};
use super::model::StoreError;
use super::recommendations::NewRecommendation;
use super::schema::{age_prompts, recommendations, sessions};
use super::sessions::NewSession;
use crate::effect::Record;

/// More than a row of ids and numbers takes.
pub(super) const ROW_BYTES_MAX: usize = 1536;

/// A commit's records by table.
#[derive(Default)]
struct Sorted<'a> {
    sessions: Vec<NewSession<'a>>,
    alerts: Vec<NewAlert<'a>>,
    recommendations: Vec<NewRecommendation<'a>>,
    age_prompts: Vec<NewAgePrompt<'a>>,
}

impl<'a> Sorted<'a> {
    fn new(records: &'a [Record]) -> Result<Self, StoreError> {
        let mut sorted = Self::default();
        for record in records {
            match record {
                Record::Session(session) => sorted.sessions.push(NewSession::new(session)),
                Record::Alert(alert) => sorted.alerts.push(NewAlert::new(alert)?),
                Record::Recommendation(recommendation) => {
                    sorted.recommendations.push(NewRecommendation::new(recommendation));
                }
                Record::AgePrompt(prompt) => sorted.age_prompts.push(NewAgePrompt::new(prompt)),
            }
        }
        Ok(sorted)
    }
}

queries! {
    use diesel::prelude::*;

    /// Rows of the same id replace each other, the last one wins; but an alert that is there stays, with what people made
    /// of it.
    pub(in crate::store) fn write(db: &mut Db, records: &[Record]) -> Result<(), StoreError> {
        let sorted = Sorted::new(records)?;
        for values in statements(sorted.sessions, |_| ROW_BYTES_MAX) {
            diesel::replace_into(sessions::table).values(values).execute(db)?;
        }
        queries::alerts::insert_new(db, sorted.alerts)?;
        for values in statements(sorted.recommendations, |_| ROW_BYTES_MAX) {
            diesel::replace_into(recommendations::table).values(values).execute(db)?;
        }
        for values in statements(sorted.age_prompts, |_| ROW_BYTES_MAX) {
            diesel::replace_into(age_prompts::table).values(values).execute(db)?;
        }
        Ok(())
    }
}
