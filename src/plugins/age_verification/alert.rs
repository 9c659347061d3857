//! What is said about a basket: the alert that it was sold without a check, and its prompts.

use super::RULE_ID;
use super::basket::{Basket, Prompt};
use crate::effect::{AgePromptRecord, AlertRecord, Effects, Record};
use crate::event::{AlertRaised, EventData, Id, Scope, Severity, Source};

/// Raises the alert about a basket that was sold without a check, if it is one.
pub(super) fn raise_alert(basket: &mut Basket, fx: &mut Effects<'_>) {
    let Some(wait) = basket.wait.take() else { return };
    let Some(line) = basket.unchecked_line().cloned() else { return };
    let payment = wait.payment();
    let passed = basket.passed;
    let checked = if passed == 0 { "no check was passed".to_owned() } else { format!("checked for {passed} only") };
    let valid = |id: &str| Id::new(id).expect("made of a digest, a literal or an entity's valid id");
    let alert = AlertRaised {
        alert_id: valid(&fx.derive_id()),
        rule_id: valid(RULE_ID),
        rule_revision: 1,
        severity: Severity::High,
        scope: Scope::Terminal,
        entity: valid(fx.context().entity),
        observed: f64::from(passed),
        limit: f64::from(line.age),
        window_seconds: None,
        event_ids: vec![line.event, payment.event],
        message: format!(
            "Basket {} was paid without the age check that product {} needs: {} years, {checked}",
            basket.id, line.product, line.age
        ),
    };
    let source = Source::new(&payment.source).expect("a terminal's valid source");
    fx.publish_about(&payment.source, EventData::AlertRaised(alert.clone()));
    fx.record(Record::Alert(Box::new(AlertRecord {
        alert,
        at: payment.at,
        store_id: source.store_id().unwrap_or_default().to_owned(),
        terminal_id: source.terminal_id().map(ToOwned::to_owned),
        employee_id: Some(payment.employee.to_string()),
        evidence: vec![line.position, payment.position],
        shadow: false,
    })));
    for prompt in basket.mark_alerted(payment.at) {
        record(&basket.id, &prompt, &source, fx);
    }
}

/// Writes a prompt as it stands.
pub(super) fn record(basket_id: &Id, prompt: &Prompt, source: &Source, fx: &mut Effects<'_>) {
    fx.record(Record::AgePrompt(AgePromptRecord {
        id: prompt.id.clone(),
        basket_id: basket_id.to_string(),
        store_id: source.store_id().unwrap_or_default().to_owned(),
        terminal_id: source.terminal_id().unwrap_or_default().to_owned(),
        employee_id: prompt.employee.to_string(),
        minimum_age: prompt.age,
        outcome: prompt.outcome.as_str().to_owned(),
        at: prompt.at,
    }));
}
