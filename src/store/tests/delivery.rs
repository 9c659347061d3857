//! What waits for delivery: the outbox and HTTP calls.

use super::*;
use crate::store::{LaneBacklog, lane};

#[tokio::test]
async fn a_lane_is_read_in_order_and_cleared_up_to_a_place() {
    for Fixture { store, .. } in fixtures().await {
        let mut commit = taken(&store, 10).await;
        let row = |lane: &str, seq, text| OutboxRow { lane: lane.to_owned(), seq, records: vec![record(text)] };
        commit.outbox = vec![row("pos.events/0", 7, "b"), row("pos.events/0", 3, "a"), row("pos.events/1", 4, "c")];
        commit_now(&store, commit).await;
        assert_eq!(store.outbox_lanes().await.unwrap(), ["pos.events/0", "pos.events/1"]);
        let rows = store.outbox_after("pos.events/0", 0, 10).await.unwrap();
        assert_eq!(rows, [row("pos.events/0", 3, "a"), row("pos.events/0", 7, "b")]);
        assert_eq!(store.outbox_after("pos.events/0", 3, 1).await.unwrap(), [row("pos.events/0", 7, "b")]);
        store.outbox_delete("pos.events/0", 3).await.unwrap();
        assert_eq!(store.outbox_after("pos.events/0", 0, 10).await.unwrap(), [row("pos.events/0", 7, "b")]);
        assert_eq!(store.outbox_depth().await.unwrap(), 2);
        let backlog = |lane: &str, seq| LaneBacklog { lane: lane.to_owned(), first: seq, last: seq, records: 1 };
        let waiting = [backlog("pos.events/0", 7), backlog("pos.events/1", 4)];
        assert_eq!(store.outbox_backlog().await.unwrap(), waiting);
    }
}

#[tokio::test]
async fn an_answer_is_queued_once_however_often_it_is_reported() {
    for Fixture { store, .. } in fixtures().await {
        let mut commit = taken(&store, 10).await;
        commit.http = vec![call("h1"), call("h2")];
        commit_now(&store, commit).await;
        assert!(store.http_done("h1", vec![record("answer")], None).await.unwrap());
        assert!(!store.http_done("h1", vec![record("answer")], None).await.unwrap());
        assert!(store.http_done("h2", vec![record("failed")], Some(dead_letter("d", 1))).await.unwrap());
        let rows = store.outbox_after(lane::DISPATCH, 0, 10).await.unwrap();
        let sent: Vec<_> = rows.iter().map(|row| (row.seq, row.records[0].value.clone())).collect();
        assert_eq!(sent, [(1, Bytes::from("answer")), (2, Bytes::from("failed"))]);
        assert_eq!(store.dead_letter("d").await.unwrap().letter.status, DeadLetterStatus::Open);
        assert_eq!(store.http_depth().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_lane_s_numbers_go_on_after_it_was_emptied() {
    for Fixture { store, .. } in fixtures().await {
        let mut commit = taken(&store, 10).await;
        commit.http = vec![call("h1"), call("h2")];
        commit_now(&store, commit).await;
        store.http_done("h1", vec![record("one")], None).await.unwrap();
        store.outbox_delete(lane::DISPATCH, 1).await.unwrap();
        store.http_done("h2", vec![record("two")], None).await.unwrap();
        assert_eq!(store.outbox_after(lane::DISPATCH, 1, 10).await.unwrap()[0].seq, 2);
    }
}

#[tokio::test]
async fn a_failed_attempt_waits_for_its_time() {
    for Fixture { store, .. } in fixtures().await {
        let mut commit = taken(&store, 10).await;
        commit.http = vec![call("h1"), call("h2")];
        commit_now(&store, commit).await;
        store.http_attempt_failed("h1", 1, Timestamp::from_millis(500), "timed out").await.unwrap();
        let due = |at| {
            let store = store.clone();
            async move {
                let rows = store.http_due(Timestamp::from_millis(at), 10).await.unwrap();
                rows.into_iter().map(|row| row.effect.id).collect::<Vec<_>>()
            }
        };
        assert_eq!(due(499).await, ["h2"]);
        assert_eq!(due(500).await, ["h2", "h1"]);
        let failed = store.http_due(Timestamp::from_millis(500), 10).await.unwrap().remove(1);
        assert_eq!((failed.attempts, failed.error.as_deref()), (1, Some("timed out")));
    }
}

#[tokio::test]
async fn many_people_at_once_share_a_sync_and_lose_nothing() {
    for Fixture { store, .. } in fixtures().await {
        let mut commit = taken(&store, 10).await;
        commit.http = (0..100).map(|i| call(&format!("h{i}"))).collect();
        commit_now(&store, commit).await;
        let answers = (0..100).map(|i| {
            let store = store.clone();
            tokio::spawn(async move { store.http_done(&format!("h{i}"), vec![record("x")], None).await.unwrap() })
        });
        for answer in answers.collect::<Vec<_>>() {
            assert!(answer.await.unwrap());
        }
        let rows = store.outbox_after(lane::DISPATCH, 0, 1000).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    }
}
