//! Each plugin alone against the oracle, on streams made to meet every border of its rules.
//!
//! What goes wrong here is a plugin's decision; what goes wrong only in the acceptance test is the way to it.

mod oracle;
mod support;

use serde_json::Value;
use tillstream::effect::{AlertRecord, Record};
use tillstream::event::EventData;
use tillstream::plugins::age_verification::AgeVerification;
use tillstream::plugins::employee_time_tracker::EmployeeTimeTracker;
use tillstream::plugins::fraud_detection::FraudDetection;
use tillstream::plugins::purchase_recommender::PurchaseRecommender;
use tillstream::time::Timestamp;

use oracle::Expected;
use oracle::fraud::Alert;
use oracle::log::Log;
use support::adversary::{self, Message};
use support::alone::{self, Outcome};
use support::compare::assert_same;

const SEEDS: std::ops::Range<u64> = 0..24;
const PARTITIONS: u32 = 3;

/// The seed of each stream, what the oracle says of it, and the settings.
fn streams() -> impl Iterator<Item = (u64, Expected, Value)> {
    SEEDS.map(|seed| {
        let (messages, defaults) = (adversary::messages(seed, 600), adversary::defaults());
        let log = Log::received(messages.iter().map(Message::received), PARTITIONS);
        (seed, Expected::of_log(log, &defaults), defaults)
    })
}

fn alert(record: &AlertRecord) -> Alert {
    let alert = &record.alert;
    Alert {
        rule: alert.rule_id.to_string(),
        scope: alert.scope.as_str().to_owned(),
        entity: alert.entity.to_string(),
        at: record.at.as_millis(),
        severity: format!("{:?}", alert.severity).to_lowercase(),
        store: record.store_id.clone(),
        terminal: record.terminal_id.clone(),
        employee: record.employee_id.clone(),
        observed: alert.observed,
        limit: alert.limit,
        event_ids: alert.event_ids.clone(),
    }
}

fn alerts(outcome: &Outcome) -> Vec<Alert> {
    let alerts = outcome.records.iter().filter_map(|record| match record {
        Record::Alert(record) => Some(alert(record)),
        _ => None,
    });
    alerts.collect()
}

#[test]
fn time_sheets_are_those_of_the_oracle() {
    for (seed, expected, defaults) in streams() {
        let outcome = alone::run::<EmployeeTimeTracker>(&expected.log, &defaults);
        let sessions = outcome.records.iter().map(|record| {
            let Record::Session(session) = record else { panic!("a session: {record:?}") };
            oracle::time_sheets::Session {
                employee: session.employee_id.clone(),
                store: session.store_id.clone(),
                terminal: session.terminal_id.clone(),
                business_day: session.business_day.clone(),
                login_at: session.login_at.as_millis(),
                logout_at: session.logout_at.map(Timestamp::as_millis),
                seconds: session.seconds,
                paid_seconds: session.paid_seconds,
                cause: session.cause.clone(),
                flags: session.flags.clone(),
            }
        });
        assert_same(&format!("sessions of seed {seed}"), expected.time_sheets.sessions, sessions.collect());
        let published = outcome.published.iter().map(|event| {
            let EventData::AutoLoggedOut(data) = &event.data else { panic!("an auto-logout: {event:?}") };
            let cause = serde_json::to_value(data.cause).expect("a name");
            oracle::time_sheets::AutoLogout {
                employee: data.employee_id.to_string(),
                terminal: data.terminal_id.to_string(),
                seconds: data.session_seconds,
                cause: cause.as_str().expect("a name").to_owned(),
                time: event.time.as_millis(),
            }
        });
        assert_same(
            &format!("published auto-logouts of seed {seed}"),
            expected.time_sheets.auto_logouts,
            published.collect(),
        );
    }
}

#[test]
fn recommendations_are_those_of_the_oracle() {
    for (seed, expected, defaults) in streams() {
        let outcome = alone::run::<PurchaseRecommender>(&expected.log, &defaults);
        let outcomes = outcome.records.iter().map(|record| {
            let Record::Recommendation(record) = record else { panic!("a recommendation: {record:?}") };
            oracle::recommend::Outcome {
                basket: record.basket_id.clone(),
                product: record.product_id.clone(),
                recommended: record.recommended.clone(),
                taken_up: record.taken_up,
                at: record.at.as_millis(),
            }
        });
        assert_same(&format!("outcomes of seed {seed}"), expected.recommendations.outcomes, outcomes.collect());
        let published = outcome.published.iter().map(|event| {
            let EventData::RecommendationMade(data) = &event.data else { panic!("a recommendation: {event:?}") };
            let chosen = data.recommended.iter().map(|one| (one.product_id.to_string(), one.reason.to_string()));
            oracle::recommend::Made {
                basket: data.basket_id.to_string(),
                product: data.product_id.to_string(),
                recommended: chosen.collect(),
            }
        });
        assert_same(
            &format!("published recommendations of seed {seed}"),
            expected.recommendations.made,
            published.collect(),
        );
    }
}

#[test]
fn age_checks_are_those_of_the_oracle() {
    for (seed, expected, defaults) in streams() {
        let outcome = alone::run::<AgeVerification>(&expected.log, &defaults);
        let prompts = outcome.records.iter().filter_map(|record| match record {
            Record::AgePrompt(prompt) => Some(oracle::age::Prompt {
                basket: prompt.basket_id.clone(),
                store: prompt.store_id.clone(),
                terminal: prompt.terminal_id.clone(),
                employee: prompt.employee_id.clone(),
                minimum_age: prompt.minimum_age.into(),
                outcome: prompt.outcome.clone(),
                at: prompt.at.as_millis(),
            }),
            _ => None,
        });
        assert_same(&format!("prompts of seed {seed}"), expected.age_checks.prompts, prompts.collect());
        let published = outcome.published.iter().filter_map(|event| match &event.data {
            EventData::AgeVerificationRequired(data) => Some(oracle::age::Required {
                basket: data.basket_id.to_string(),
                employee: data.employee_id.to_string(),
                minimum_age: data.minimum_age.into(),
                challenge_age: data.challenge_age.map(Into::into),
                product: data.product_id.to_string(),
                category: data.category.to_string(),
                jurisdiction: data.jurisdiction.as_ref().map(ToString::to_string),
            }),
            _ => None,
        });
        assert_same(&format!("published prompts of seed {seed}"), expected.age_checks.required, published.collect());
        let unchecked = expected.alerts.into_iter().filter(|alert| alert.rule == "age-not-verified");
        assert_same(&format!("alerts of seed {seed}"), unchecked.collect(), alerts(&outcome));
        let published = outcome.published.iter().filter_map(|event| match &event.data {
            EventData::AlertRaised(data) => Some((event.time.as_millis(), data.event_ids.clone())),
            _ => None,
        });
        let unchecked = expected.published_alerts.into_iter().filter(|alert| alert.rule == "age-not-verified");
        let unchecked = unchecked.map(|alert| (alert.at, alert.event_ids));
        assert_same(&format!("published alerts of seed {seed}"), unchecked.collect(), published.collect());
    }
}

#[test]
fn fraud_alerts_are_those_of_the_oracle() {
    for (seed, expected, defaults) in streams() {
        let outcome = alone::run::<FraudDetection>(&expected.log, &defaults);
        let of_rules = expected.alerts.into_iter().filter(|alert| alert.rule != "age-not-verified");
        assert_same(&format!("alerts of seed {seed}"), of_rules.collect(), alerts(&outcome));
    }
}
