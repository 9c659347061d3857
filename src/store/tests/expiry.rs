//! What is kept for a while goes when its time is over; what waits for somebody stays.

use super::orders::{claim, claimed_ids, hand_over};
use super::*;
use crate::effect::{AgePromptRecord, RecommendationRecord, Record};
use crate::store::{DeadLetterFilter, EXPIRED_ROWS_MAX, Expiring, OrderFilter, OrderStatus, Settled, Settlement};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Ids of orders that were accepted at the beginning of 1970.
fn old_id(number: usize) -> String {
    format!("00000000-0001-7000-8000-{number:012}")
}

fn prompt() -> AgePromptRecord {
    AgePromptRecord {
        id: String::new(),
        basket_id: "B1".to_owned(),
        store_id: "S001".to_owned(),
        terminal_id: "T1".to_owned(),
        employee_id: "E1".to_owned(),
        minimum_age: 16,
        outcome: "approved_visual".to_owned(),
        at: at(0),
    }
}

fn recommendation() -> RecommendationRecord {
    RecommendationRecord {
        id: String::new(),
        basket_id: "B1".to_owned(),
        product_id: "P1".to_owned(),
        recommended: "P2".to_owned(),
        taken_up: true,
        at: at(0),
    }
}

async fn publish(store: &Store) {
    store.lease_order_publishing("me", std::time::Duration::from_mins(1)).await.unwrap();
    while let Some(batch) = store.next_order_batch("me", 1000).await.unwrap() {
        store.order_batch_published(batch.number, at(2)).await.unwrap();
    }
}

async fn settle(store: &Store, settled: Vec<Settled>) {
    store.order_turn(Arc::new(settled), None).await.unwrap();
}

fn failure() -> Settlement {
    Settlement::Failed { reason: "refused_by_third_party", error: "no".to_owned() }
}

#[tokio::test]
async fn orders_go_once_they_have_ended_and_those_that_have_not_stay() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        let ids: Vec<String> = (0..6).map(old_id).collect();
        hand_over(store, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
        // The last one is delivered, and nobody has written down yet that it is published.
        let unpublished = claimed_ids(store, claim(9, 1)).await;
        assert_eq!(unpublished.len(), 6);
        let mut settled = unpublished;
        for failed in &mut settled[2..5] {
            failed.settlement = failure();
        }
        let last = settled.pop().unwrap();
        settle(store, vec![last.clone()]).await;
        assert_eq!(store.expire(Expiring::Orders, Timestamp::now().plus_millis(60_000)).await.unwrap(), 0);
        publish(store).await;
        let pending = settled.remove(0);
        settle(store, settled).await;

        let counts = async || {
            let stats = store.order_stats().await.unwrap();
            (stats.pending, stats.success, stats.failed)
        };
        assert_eq!(counts().await, (1, 2, 3));
        assert_eq!(store.expire(Expiring::Orders, at(1)).await.unwrap(), 0, "none is so old");
        let letters = store.dead_letters(DeadLetterFilter::default(), None, 10).await.unwrap().items;
        let discarded = letters.iter().find(|one| one.letter.entity.as_deref() == Some(&format!("order:{}", ids[3])));
        let discarded = crate::store::DeadLetterSelection::Ids(vec![discarded.unwrap().letter.id.clone()]);
        store.discard(discarded, "me").await.unwrap();
        assert!(store.resend_order(&ids[4], "me").await.unwrap());
        assert_eq!(counts().await, (2, 2, 2));

        let later = Timestamp::now().plus_millis(60_000);
        assert_eq!(store.expire(Expiring::Orders, later).await.unwrap(), 3);
        let left = store.orders(OrderFilter::default(), None, 10).await.unwrap().items;
        let left: Vec<_> = left.iter().map(|order| (order.id.as_str(), order.status)).collect();
        let expected = [
            (ids[4].as_str(), OrderStatus::Pending),
            (ids[2].as_str(), OrderStatus::Failed),
            (ids[0].as_str(), OrderStatus::Pending),
        ];
        assert_eq!(left, expected, "sent again, waits for a decision, never tried");
        assert_eq!(counts().await, (2, 0, 1));
        assert!(matches!(store.order(&ids[1]).await, Err(StoreError::NotFound)));
        let delivered = Settled { claim: 1, ..pending };
        settle(store, vec![delivered]).await;
        assert_eq!(counts().await, (1, 1, 1));
        assert_eq!(store.expire(Expiring::Orders, later).await.unwrap(), 1);
        assert_eq!(counts().await, (1, 0, 1));
        fixture.assert_no_rows("order_timeline", &format!("order_id NOT IN ('{}', '{}')", ids[2], ids[4])).await;
    }
}

#[tokio::test]
async fn rows_go_a_few_at_a_time_the_oldest_first() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        let count = i64::try_from(EXPIRED_ROWS_MAX).unwrap() + 7;
        let prompt =
            |number| Record::AgePrompt(AgePromptRecord { id: format!("p{number}"), at: at(number), ..prompt() });
        let commit = Commit { records: (0..count).map(prompt).collect(), ..taken(store, 1).await };
        commit_now(store, commit).await;
        assert_eq!(store.expire(Expiring::AgePrompts, at(count - 2)).await.unwrap(), EXPIRED_ROWS_MAX);
        assert_eq!(store.expire(Expiring::AgePrompts, at(count - 2)).await.unwrap(), 5);
        assert_eq!(store.expire(Expiring::AgePrompts, at(count - 2)).await.unwrap(), 0);
        fixture.assert_no_rows("age_prompts", &format!("at < {}", count - 2)).await;
        assert_eq!(store.expire(Expiring::AgePrompts, at(count)).await.unwrap(), 2);
    }
}

#[tokio::test]
async fn results_dead_letters_and_the_audit_go_by_their_times_and_what_is_open_stays() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        let recommendation = |id: &str, millis| {
            Record::Recommendation(RecommendationRecord { id: id.to_owned(), at: at(millis), ..recommendation() })
        };
        let open = TimeSheetSession { logout_at: None, ..session("open", "E1", "2026-01-05", 60) };
        let records = vec![
            Record::Alert(Box::new(alert("old", 5, Severity::High))),
            Record::Alert(Box::new(alert("new", 50, Severity::High))),
            recommendation("old", 5),
            recommendation("new", 50),
            Record::Session(session("old", "E1", "2026-01-05", 60)),
            Record::Session(session("new", "E1", "2026-01-07", 60)),
            Record::Session(open),
        ];
        let dead_letters = ["replayed", "discarded", "open"].map(|id| dead_letter(id, 5));
        let commit = Commit { records, dead_letters: dead_letters.into(), ..taken(store, 77).await };
        commit_now(store, commit).await;
        assert_eq!(store.clock().await.unwrap(), Some(at(77)));
        let ids =
            |ids: &[&str]| crate::store::DeadLetterSelection::Ids(ids.iter().map(|id| (*id).to_owned()).collect());
        store.discard(ids(&["replayed", "discarded"]), "me").await.unwrap();
        fixture.execute("UPDATE dead_letters SET status = 'replayed' WHERE id = 'replayed'").await;

        for what in [Expiring::Alerts, Expiring::Recommendations, Expiring::DeadLetters] {
            let expected = if what == Expiring::DeadLetters { 2 } else { 1 };
            assert_eq!(store.expire(what, at(5)).await.unwrap(), 0, "{what:?}");
            assert_eq!(store.expire(what, at(6)).await.unwrap(), expected, "{what:?}");
            assert_eq!(store.expire(what, at(6)).await.unwrap(), 0, "{what:?}");
        }
        let between = Timestamp::parse("2026-01-06T00:00:00Z").unwrap();
        assert_eq!(store.expire(Expiring::Sessions, between).await.unwrap(), 1, "nobody has left the open one");
        let written = store.audit(None, 100).await.unwrap().items.len();
        assert!(written > 0);
        assert_eq!(store.expire(Expiring::Audit, at(5)).await.unwrap(), 0);
        assert_eq!(store.expire(Expiring::Audit, Timestamp::now().plus_millis(1000)).await.unwrap(), written);
        for (table, left) in [("alerts", "'new'"), ("recommendations", "'new'"), ("sessions", "'new', 'open'")] {
            fixture.assert_no_rows(table, &format!("id NOT IN ({left})")).await;
        }
        fixture.assert_no_rows("dead_letters", "id <> 'open'").await;
    }
}
