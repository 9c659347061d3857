//! Records that plugins write: each kind has its table; here a commit's records are sorted into them.

use super::age_prompts::NewAgePrompt;
use super::alerts::NewAlert;
use super::connection::{ROWS_PER_STATEMENT, queries};
use super::model::StoreError;
use super::recommendations::NewRecommendation;
use super::schema::{age_prompts, alerts, recommendations, sessions};
use super::sessions::NewSession;
use crate::effect::Record;

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
        let Sorted { mut sessions, mut alerts, mut recommendations, mut age_prompts } = Sorted::new(records)?;
        while !sessions.is_empty() {
            let rest = sessions.split_off(sessions.len().min(ROWS_PER_STATEMENT));
            diesel::replace_into(sessions::table).values(sessions).execute(db)?;
            sessions = rest;
        }
        while !alerts.is_empty() {
            let rest = alerts.split_off(alerts.len().min(ROWS_PER_STATEMENT));
            diesel::insert_or_ignore_into(alerts::table).values(alerts).execute(db)?;
            alerts = rest;
        }
        while !recommendations.is_empty() {
            let rest = recommendations.split_off(recommendations.len().min(ROWS_PER_STATEMENT));
            diesel::replace_into(recommendations::table).values(recommendations).execute(db)?;
            recommendations = rest;
        }
        while !age_prompts.is_empty() {
            let rest = age_prompts.split_off(age_prompts.len().min(ROWS_PER_STATEMENT));
            diesel::replace_into(age_prompts::table).values(age_prompts).execute(db)?;
            age_prompts = rest;
        }
        Ok(())
    }
}
