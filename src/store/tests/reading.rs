//! Reading back: alerts, time sheets, recommendations, age prompts, pages.

use super::*;
use crate::effect::{AgePromptRecord, RecommendationRecord, Record};
use crate::store::{
    AgePromptFilter, AlertChange, AlertFilter, AlertStatus, DeadLetterFilter, Disposition, SessionFilter, SessionGroup,
};

async fn with_records(store: &Store, records: Vec<Record>) -> Commit {
    let mut commit = taken(store, 10).await;
    commit.records = records;
    commit_now(store, commit.clone()).await;
    commit
}

fn alert_record(id: &str, at: i64, severity: Severity) -> Record {
    Record::Alert(Box::new(alert(id, at, severity)))
}

#[tokio::test]
async fn alerts_are_filtered_and_come_newest_first() {
    for Fixture { store, .. } in fixtures().await {
        let alerts = [("a", 1, Severity::Low), ("b", 2, Severity::High), ("c", 3, Severity::High)];
        with_records(&store, alerts.map(|(id, at, severity)| alert_record(id, at, severity)).into()).await;
        let found = |filter: AlertFilter| {
            let store = store.clone();
            async move {
                let page = store.alerts(filter, None, 100).await.unwrap();
                page.items.into_iter().map(|alert| alert.record.alert.alert_id.to_string()).collect::<Vec<_>>()
            }
        };
        let all = AlertFilter::default;
        assert_eq!(found(all()).await, ["c", "b", "a"]);
        assert_eq!(found(AlertFilter { severity: Some(Severity::Low), ..all() }).await, ["a"]);
        let at = |millis| Some(Timestamp::from_millis(millis));
        assert_eq!(found(AlertFilter { from: at(2), to: at(3), ..all() }).await, ["b"]);
        assert_eq!(found(AlertFilter { entity: Some("employee:E7".to_owned()), ..all() }).await.len(), 3);
        assert_eq!(found(AlertFilter { entity: Some("E7".to_owned()), ..all() }).await.len(), 3);
        assert!(found(AlertFilter { entity: Some("terminal:E7".to_owned()), ..all() }).await.is_empty());
        assert!(found(AlertFilter { entity: Some("employee:e7".to_owned()), ..all() }).await.is_empty());
        assert!(found(AlertFilter { shadow: Some(true), ..all() }).await.is_empty());
        assert!(found(AlertFilter { status: Some(AlertStatus::Closed), ..all() }).await.is_empty());
        assert!(found(AlertFilter { rule_id: Some("other".to_owned()), ..all() }).await.is_empty());
    }
}

#[tokio::test]
async fn what_people_made_of_an_alert_is_audited_and_never_reset() {
    for Fixture { store, .. } in fixtures().await {
        let commit = with_records(&store, vec![alert_record("a", 1, Severity::Low)]).await;
        let close = AlertChange {
            status: Some(AlertStatus::Closed),
            disposition: Some(Some(Disposition::FalseAlarm)),
            assignee: Some("bob".to_owned()),
            note: Some("training".to_owned()),
        };
        let changed = store.change_alert("a", close, "ann").await.unwrap();
        assert_eq!((changed.status, changed.disposition), (AlertStatus::Closed, Some(Disposition::FalseAlarm)));
        commit_now(&store, Commit { records: commit.records.clone(), ..after(&commit, 20) }).await;
        assert_eq!(store.alert("a").await.unwrap(), changed);
        let cleared = AlertChange { assignee: Some(String::new()), ..AlertChange::default() };
        let cleared = store.change_alert("a", cleared, "ann").await.unwrap();
        assert_eq!((cleared.assignee.as_deref(), cleared.note.as_deref()), (None, Some("training")));
        store.change_alert("a", AlertChange::default(), "ann").await.unwrap();
        let audit = store.audit(None, 10).await.unwrap().items;
        assert_eq!(audit.len(), 2, "a change that changes nothing is not audited");
        assert_eq!(audit[1].new.as_ref().unwrap()["disposition"], "false_alarm");
        let long = AlertChange { note: Some("x".repeat(10_001)), ..AlertChange::default() };
        assert!(
            matches!(store.change_alert("a", long, "ann").await, Err(StoreError::Invalid(error)) if error.field == "note")
        );
        assert!(matches!(store.change_alert("b", AlertChange::default(), "ann").await, Err(StoreError::NotFound)));
    }
}

#[tokio::test]
async fn an_alert_s_events_are_kept_whole_once_they_are_copied() {
    for Fixture { store, .. } in fixtures().await {
        with_records(&store, vec![alert_record("a", 1, Severity::Low)]).await;
        let missing = store.alerts_without_evidence(10).await.unwrap().remove(0);
        assert_eq!(missing.alert_id, "a");
        let place = Position { partition: 3, offset: 11 };
        assert_eq!(missing.events[1], (place, "/stores/S001/terminals/T1#2".to_owned()));
        assert_eq!(store.alert("a").await.unwrap().events, None);
        let events = vec![Bytes::from("{\"id\":\"1\"}"), Bytes::from("{\"id\":\"2\"}")];
        store.store_evidence(vec![("a".to_owned(), events.clone())]).await.unwrap();
        store.store_evidence(vec![("a".to_owned(), vec![])]).await.unwrap();
        let alert = store.alert("a").await.unwrap();
        assert_eq!((alert.events, alert.record.evidence[1]), (Some(events), place));
        assert_eq!(store.alerts_without_evidence(10).await.unwrap(), []);
    }
}

#[tokio::test]
async fn sessions_are_found_by_business_day_and_added_up() {
    for Fixture { store, .. } in fixtures().await {
        let sessions = [
            session("1", "E7", "2026-01-05", 100),
            session("2", "e7", "2026-01-06", 50),
            session("3", "E7", "2026-01-07", 10),
        ];
        let commit = with_records(&store, sessions.iter().cloned().map(Record::Session).collect()).await;
        let all = SessionFilter::default;
        assert_eq!(store.sessions(all(), None, 10).await.unwrap().items, sessions);
        let day = |text: &str| Some(text.parse().unwrap());
        let two_days = SessionFilter { from: day("2026-01-05"), to: day("2026-01-07"), ..all() };
        assert_eq!(store.sessions(two_days.clone(), None, 10).await.unwrap().items, sessions[..2]);
        let instant = sessions[0].login_at;
        let until = SessionFilter { login_to: Some(instant.plus_millis(1)), ..all() };
        assert_eq!(store.sessions(until, None, 10).await.unwrap().items, sessions[..1]);
        let later = SessionFilter { login_from: Some(instant.plus_millis(1)), ..all() };
        assert_eq!(store.session_totals(SessionGroup::Store, later).await.unwrap()[0].sessions, 2);
        let mine = SessionFilter { employee_id: Some("E7".to_owned()), ..all() };
        assert_eq!(store.sessions(mine, None, 10).await.unwrap().items.len(), 2);
        let totals = store.session_totals(SessionGroup::Employee, all()).await.unwrap();
        let rows: Vec<_> = totals.iter().map(|t| (t.key.as_str(), t.sessions, t.seconds, t.paid_seconds)).collect();
        assert_eq!(rows, [("E7", 2, 110, 55), ("e7", 1, 50, 25)]);
        let days = store.session_totals(SessionGroup::BusinessDay, two_days).await.unwrap();
        assert_eq!(days.iter().map(|t| t.key.as_str()).collect::<Vec<_>>(), ["2026-01-05", "2026-01-06"]);
        assert_eq!(store.session_totals(SessionGroup::Store, all()).await.unwrap()[0].sessions, 3);
        assert_eq!(store.session_totals(SessionGroup::Terminal, all()).await.unwrap()[0].key, "T1");
        let longer = session("1", "E7", "2026-01-05", 200);
        commit_now(&store, Commit { records: vec![Record::Session(longer.clone())], ..after(&commit, 20) }).await;
        assert_eq!(store.sessions(all(), None, 1).await.unwrap().items, [longer]);
    }
}

#[tokio::test]
async fn recommendations_and_age_prompts_are_counted_and_listed() {
    for Fixture { store, .. } in fixtures().await {
        let recommendation = |id: &str, taken_up| {
            Record::Recommendation(RecommendationRecord {
                id: id.to_owned(),
                basket_id: "b".to_owned(),
                product_id: "P1".to_owned(),
                recommended: "P2".to_owned(),
                taken_up,
                at: Timestamp::from_millis(1),
            })
        };
        let prompt = |id: &str, outcome: &str, at| AgePromptRecord {
            id: id.to_owned(),
            basket_id: "b".to_owned(),
            store_id: "S001".to_owned(),
            terminal_id: "T1".to_owned(),
            employee_id: "E7".to_owned(),
            minimum_age: 18,
            outcome: outcome.to_owned(),
            at: Timestamp::from_millis(at),
        };
        let prompts = [prompt("x", "refused", 1), prompt("y", "pending", 2), prompt("y", "approved_id", 3)];
        let mut records = vec![recommendation("1", true), recommendation("2", false)];
        records.extend(prompts.iter().cloned().map(Record::AgePrompt));
        with_records(&store, records).await;
        let stats = store.recommendation_stats().await.unwrap();
        assert_eq!(stats.len(), 1);
        assert_eq!((stats[0].made, stats[0].taken_up), (2, 1));
        let listed = store.age_prompts(AgePromptFilter::default(), None, 10).await.unwrap().items;
        assert_eq!(listed, [prompts[2].clone(), prompts[0].clone()], "the last row of an id wins");
        let refused = AgePromptFilter { outcome: Some("refused".to_owned()), ..AgePromptFilter::default() };
        assert_eq!(store.age_prompts(refused, None, 10).await.unwrap().items, prompts[..1]);
    }
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat_while_rows_come_in() {
    for Fixture { store, .. } in fixtures().await {
        let mut commit = taken(&store, 10).await;
        // Several letters of one time: the id decides.
        commit.dead_letters = (0..25).map(|i| dead_letter(&format!("d{i:02}"), i / 10)).collect();
        commit_now(&store, commit.clone()).await;
        let mut seen = Vec::new();
        let mut cursor = None;
        loop {
            let page = store.dead_letters(DeadLetterFilter::default(), cursor.as_deref(), 10).await.unwrap();
            seen.extend(page.items.into_iter().map(|item| item.letter.id));
            if seen.len() == 10 {
                commit = after(&commit, 20);
                commit.dead_letters = vec![dead_letter("newer", 99)];
                commit_now(&store, commit.clone()).await;
            }
            let Some(next) = page.next else { break };
            cursor = Some(next);
        }
        let mut expected: Vec<_> = (0..25).map(|i| format!("d{i:02}")).collect();
        expected.reverse();
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn cursors_and_limits_that_make_no_sense_are_refused() {
    let Fixture { store, .. } = Fixture::sqlite().await;
    for (cursor, limit, field) in
        [(None, 0, "limit"), (None, 1001, "limit"), (Some("!"), 10, "cursor"), (Some("bnVsbA"), 10, "cursor")]
    {
        let refused = store.dead_letters(DeadLetterFilter::default(), cursor, limit).await;
        assert!(matches!(&refused, Err(StoreError::Invalid(error)) if error.field == field), "{refused:?}");
    }
}
