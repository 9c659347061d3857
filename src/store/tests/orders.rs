//! Orders: a key stands for one order, a claim belongs to one dispatcher, an end happens once.

use super::*;
use crate::store::{
    Acceptance, AttemptRecord, ClaimRequest, Expiring, NewOrder, OrderDelivery, OrderStatus, Settled, Settlement,
    TimelineKind,
};

pub(super) fn new_order(id: &str, key: &str, fingerprint: &str) -> NewOrder {
    NewOrder {
        id: id.to_owned(),
        key_id: key.to_owned(),
        caller: "local".to_owned(),
        idempotency_key: key.to_owned(),
        fingerprint: fingerprint.to_owned(),
        store_id: "S1".to_owned(),
        terminal_id: "T1".to_owned(),
        document: r#"{"storeId":"S1","terminalId":"T1","currency":"EUR","items":[],"total":0}"#.to_owned(),
        answer: format!("answer to {id}"),
        created_at: Timestamp::from_millis(1_000_000),
    }
}

async fn accept(store: &Store, order: NewOrder, expired_before: i64) -> Acceptance {
    let accepted = store.accept_orders(Arc::new(vec![order]), Timestamp::from_millis(expired_before)).await;
    accepted.unwrap().remove(0)
}

pub(super) fn claim(limit: usize, claim: i64) -> ClaimRequest {
    ClaimRequest { limit, claim, lease_ms: 60_000, rate_per_second: 0, settings_epoch: 1 }
}

/// Accepts orders and hands them over to the dispatcher.
pub(super) async fn hand_over(store: &Store, ids: &[&str]) {
    for id in ids {
        assert_eq!(accept(store, new_order(id, id, id), 0).await, Acceptance::New);
    }
    commit_deliveries(store, ids).await;
}

async fn commit_deliveries(store: &Store, ids: &[&str]) {
    let delivery = |(offset, id): (i64, &&str)| OrderDelivery {
        order_id: (*id).to_owned(),
        partition: 0,
        offset,
        published_at: Timestamp::from_millis(5),
    };
    let deliveries = (0..).zip(ids).map(delivery).collect();
    store.commit(Arc::new(Commit { settings_epoch: 1, deliveries, ..Commit::default() })).await.unwrap();
}

const ATTEMPT: AttemptRecord = AttemptRecord { at: Timestamp::from_millis(9), status: Some(200), duration_ms: 3 };

pub(super) async fn claimed_ids(store: &Store, request: ClaimRequest) -> Vec<Settled> {
    let turn = store.order_turn(Arc::default(), Some(request)).await.unwrap();
    let settled =
        |claimed| Settled { claimed, claim: request.claim, attempt: Some(ATTEMPT), settlement: Settlement::Delivered };
    turn.claimed.into_iter().map(settled).collect()
}

#[tokio::test]
async fn a_key_is_new_then_repeated_then_taken_until_it_has_expired() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        assert_eq!(accept(store, new_order("o1", "k", "f1"), 0).await, Acceptance::New);
        // The same transaction once more, since its outcome was not known.
        assert_eq!(accept(store, new_order("o1", "k", "f1"), 0).await, Acceptance::New);
        let replayed =
            Acceptance::Replayed { order_id: "o1".to_owned(), status: 201, answer: "answer to o1".to_owned() };
        assert_eq!(accept(store, new_order("o2", "k", "f1"), 0).await, replayed);
        assert_eq!(accept(store, new_order("o3", "k", "f2"), 0).await, Acceptance::OtherOrder);
        assert_eq!(accept(store, new_order("o4", "k", "f2"), 1_000_001).await, Acceptance::New, "the key has expired");
        let page = store.orders(crate::store::OrderFilter::default(), None, 10).await.unwrap();
        assert_eq!(page.items.iter().map(|order| order.id.as_str()).collect::<Vec<_>>(), ["o4", "o1"]);
        assert_eq!(store.expire(Expiring::OrderKeys, Timestamp::from_millis(1_000_000)).await.unwrap(), 0);
        assert_eq!(store.expire(Expiring::OrderKeys, Timestamp::from_millis(1_000_001)).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn in_one_transaction_each_order_gets_its_own_verdict() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        accept(store, new_order("a", "ka", "fa"), 0).await;
        let group = vec![new_order("b", "kb", "fb"), new_order("x", "ka", "fx"), new_order("y", "ka2", "fa")];
        let verdicts = store.accept_orders(Arc::new(group), Timestamp::MIN).await.unwrap();
        assert_eq!(verdicts, [Acceptance::New, Acceptance::OtherOrder, Acceptance::New]);
    }
}

#[tokio::test]
async fn requests_of_several_processes_under_one_key_make_one_order() {
    for fixture in fixtures().await {
        let accepting = (0..24).map(|number| {
            let store = fixture.store.clone();
            async move { accept(&store, new_order(&format!("o{number}"), "k", "f"), 0).await }
        });
        let verdicts = futures_util::future::join_all(accepting).await;
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Acceptance::New).count(), 1, "{verdicts:?}");
        assert_eq!(fixture.store.order_stats().await.unwrap().pending, 1);
    }
}

#[tokio::test]
async fn what_one_dispatcher_has_claimed_no_other_gets_until_the_lease_is_over() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        hand_over(store, &["a", "b", "c"]).await;
        let first = claimed_ids(store, claim(2, 1)).await;
        let second = claimed_ids(store, claim(9, 2)).await;
        let id = |settled: &Settled| settled.claimed.order.id.clone();
        assert_eq!(first.iter().chain(&second).map(id).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(claimed_ids(store, claim(9, 3)).await.is_empty());
        assert_eq!(store.release_order_claims().await.unwrap(), 3);
        let again = claimed_ids(store, claim(9, 4)).await;
        assert_eq!(again.len(), 3);
        assert!(again.iter().all(|settled| settled.claimed.order.attempts == 1), "the lost attempt is told");
        let lost = store.order("a").await.unwrap().history.remove(0);
        assert!(lost.kind == TimelineKind::Attempt && lost.message.unwrap().starts_with("not known"));
    }
}

#[tokio::test]
async fn an_order_ends_once_whoever_says_so_and_a_late_failure_is_not_heard() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        hand_over(store, &["a"]).await;
        let slow = claimed_ids(store, claim(9, 1)).await;
        store.release_order_claims().await.unwrap();
        let quick = claimed_ids(store, claim(9, 2)).await;
        let failure = Settlement::Failed { reason: "attempts_exhausted", error: "timeout".to_owned() };
        let late = vec![Settled { settlement: failure, ..slow[0].clone() }];
        assert!(store.order_turn(Arc::new(late), None).await.unwrap().ended.is_empty(), "its claim is gone");
        assert_eq!(store.order_turn(Arc::new(slow), None).await.unwrap().ended, ["a"], "it did arrive");
        assert!(store.order_turn(Arc::new(quick), None).await.unwrap().ended.is_empty(), "it has ended");
        let order = store.order("a").await.unwrap().order;
        assert_eq!(order.status, OrderStatus::Success);
        assert_eq!(store.outbox_depth().await.unwrap(), 1, "one event");
        commit_deliveries(store, &["a"]).await;
        assert!(claimed_ids(store, claim(9, 3)).await.is_empty(), "a message that comes twice changes nothing");
    }
}

#[tokio::test]
async fn an_order_that_is_held_waits_for_other_settings() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        hand_over(store, &["a", "b"]).await;
        let hold =
            |settled: Settled| Settled { attempt: None, settlement: Settlement::Held { settings_epoch: 1 }, ..settled };
        let held = claimed_ids(store, claim(9, 1)).await.into_iter().map(hold).collect::<Vec<_>>();
        store.order_turn(Arc::new(held), None).await.unwrap();
        assert!(claimed_ids(store, claim(9, 1)).await.is_empty());
        assert_eq!(store.orders_under_way().await.unwrap().1, 0, "nobody waits for them");
        let changed = ClaimRequest { settings_epoch: 2, ..claim(9, 1) };
        assert_eq!(claimed_ids(store, changed).await.len(), 2);
    }
}

#[tokio::test]
async fn a_store_that_was_set_back_gives_its_batches_numbers_that_the_bus_does_not_know() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        assert_eq!(accept(store, new_order("o1", "k1", "f"), 0).await, Acceptance::New);
        assert!(store.lease_order_publishing("me", std::time::Duration::from_mins(1)).await.unwrap());
        assert!(store.order_batches_follow("me", 7).await.unwrap(), "the bus has seven batches of this lane");
        assert_eq!(store.next_order_batch("me", 9).await.unwrap().unwrap().number, 8);
        assert!(!store.order_batches_follow("me", 8).await.unwrap(), "nothing is amiss");
    }
}

#[tokio::test]
async fn a_claim_holds_as_long_as_it_is_renewed_and_what_is_given_up_is_due_at_once() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        hand_over(store, &["a", "b"]).await;
        let short = ClaimRequest { lease_ms: 1, ..claim(1, 1) };
        let mine = claimed_ids(store, short).await.remove(0).claimed.order.id;
        store.renew_order_claims(vec![(mine.clone(), 1)], 60_000).await.unwrap();
        let others: Vec<_> = claimed_ids(store, claim(9, 2)).await;
        assert!(others.len() == 1 && others[0].claimed.order.id != mine, "{others:?}");
        store.give_up_order_claims(vec![(mine.clone(), 9)]).await.unwrap();
        assert!(claimed_ids(store, claim(9, 3)).await.is_empty(), "only who has it can give it up");
        store.give_up_order_claims(vec![(mine.clone(), 1)]).await.unwrap();
        let given = claimed_ids(store, claim(9, 4)).await.remove(0).claimed;
        assert_eq!((given.order.id, given.order.attempts, given.may_have_arrived), (mine, 1, true));
    }
}

#[tokio::test]
async fn a_retry_comes_when_it_is_due_and_counts_as_it_should() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        hand_over(store, &["a"]).await;
        let later = std::time::Duration::from_mins(10);
        let at_once = std::time::Duration::ZERO;
        for (wait, counted) in [(at_once, true), (at_once, false), (later, true)] {
            let settlement = Settlement::Retry { wait, counted, error: "timeout".to_owned() };
            let tried = claimed_ids(store, claim(9, 1)).await.remove(0);
            store.order_turn(Arc::new(vec![Settled { settlement, ..tried }]), None).await.unwrap();
        }
        let turn = store.order_turn(Arc::default(), Some(claim(9, 1))).await.unwrap();
        assert!(turn.claimed.is_empty());
        assert!(turn.next_due_in.is_some_and(|wait| wait <= later && wait > later / 2), "{:?}", turn.next_due_in);
        let detail = store.order("a").await.unwrap();
        assert_eq!((detail.order.attempts, detail.history.len()), (3, 3));
        assert_eq!(detail.delivery.unwrap().last_error.as_deref(), Some("timeout"));
        store.release_order_claims().await.unwrap();
    }
}

#[tokio::test]
async fn an_order_that_cannot_be_read_rests_and_the_others_are_claimed() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        hand_over(store, &["o1", "o2", "o3"]).await;
        fixture.execute("UPDATE orders SET document = 'garbled' WHERE id = 'o1'").await;
        fixture.execute("UPDATE orders SET status = 'NEWER' WHERE id = 'o2'").await;
        let turn = store.order_turn(Arc::default(), Some(claim(10, 1))).await.unwrap();
        assert_eq!(turn.claimed.iter().map(|one| one.order.id.as_str()).collect::<Vec<_>>(), ["o3"]);
        let mut unreadable: Vec<_> = turn.unreadable.iter().map(|(id, _)| id.as_str()).collect();
        unreadable.sort_unstable();
        assert_eq!(unreadable, ["o1", "o2"]);
        let next = store.order_turn(Arc::default(), Some(claim(10, 1))).await.unwrap();
        assert_eq!((next.claimed.len(), next.unreadable.len()), (0, 0), "they rest");
        let listed = store.orders(crate::store::OrderFilter::default(), None, 10).await.unwrap().items;
        assert_eq!(listed.iter().map(|order| order.id.as_str()).collect::<Vec<_>>(), ["o3"]);
        // One that is garbled after it was claimed ends as it was when it was claimed.
        fixture.execute("UPDATE orders SET document = 'garbled' WHERE id = 'o3'").await;
        let settled = Settled {
            claimed: turn.claimed[0].clone(),
            claim: 1,
            attempt: Some(ATTEMPT),
            settlement: Settlement::Delivered,
        };
        let ended = store.order_turn(Arc::new(vec![settled]), None).await.unwrap().ended;
        assert_eq!(ended, ["o3"]);
        assert_eq!(store.outbox_depth().await.unwrap(), 1, "order.delivered is told");
    }
}
