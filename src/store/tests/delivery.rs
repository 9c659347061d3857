//! What waits for delivery: the outbox and HTTP calls.

use std::time::Duration;

use super::*;
use crate::store::{HttpEnd, LaneBacklog, Lease, LeaseRequest, lane};

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
        store.outbox_delete(vec![("pos.events/0".to_owned(), 3)]).await.unwrap();
        assert_eq!(store.outbox_after("pos.events/0", 0, 10).await.unwrap(), [row("pos.events/0", 7, "b")]);
        assert_eq!(store.outbox_depth().await.unwrap(), 2);
        let backlog = |lane: &str, seq| LaneBacklog { lane: lane.to_owned(), first: seq, last: seq, records: 1 };
        let waiting = [backlog("pos.events/0", 7), backlog("pos.events/1", 4)];
        assert_eq!(store.outbox_backlog().await.unwrap(), waiting);
    }
}

fn end(id: &str, answer: &str) -> HttpEnd {
    HttpEnd { id: id.to_owned(), records: vec![record(answer)], dead_letter: None }
}

#[tokio::test]
async fn an_answer_is_queued_once_however_often_it_is_reported() {
    for Fixture { store, .. } in fixtures().await {
        let mut commit = taken(&store, 10).await;
        commit.http = vec![call("h1"), call("h2"), call("h3")];
        commit_now(&store, commit).await;
        assert_eq!(store.http_done(vec![end("h1", "answer")]).await.unwrap(), [true]);
        let failed = HttpEnd { dead_letter: Some(dead_letter("d", 1)), ..end("h2", "failed") };
        let calls = vec![end("h1", "answer"), failed, end("h3", "other"), end("h2", "twice")];
        assert_eq!(store.http_done(calls).await.unwrap(), [false, true, true, false]);
        let rows = store.outbox_after(lane::DISPATCH, 0, 10).await.unwrap();
        let values = |row: &OutboxRow| row.records.iter().map(|record| record.value.clone()).collect::<Vec<_>>();
        let sent: Vec<_> = rows.iter().map(|row| (row.seq, values(row))).collect();
        assert_eq!(sent, [(1, vec![Bytes::from("answer")]), (2, vec![Bytes::from("failed"), Bytes::from("other")])]);
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
        store.http_done(vec![end("h1", "one")]).await.unwrap();
        store.outbox_delete(vec![(lane::DISPATCH.to_owned(), 1)]).await.unwrap();
        store.http_done(vec![end("h2", "two")]).await.unwrap();
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
                let rows = store.http_due(Timestamp::from_millis(at), 10).await.unwrap().rows;
                rows.into_iter().map(|row| row.effect.id).collect::<Vec<_>>()
            }
        };
        assert_eq!(due(499).await, ["h2"]);
        assert_eq!(due(500).await, ["h2", "h1"]);
        let failed = store.http_due(Timestamp::from_millis(500), 10).await.unwrap().rows.remove(1);
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
            tokio::spawn(async move { store.http_done(vec![end(&format!("h{i}"), "x")]).await.unwrap() })
        });
        for answer in answers.collect::<Vec<_>>() {
            assert_eq!(answer.await.unwrap(), [true]);
        }
        let rows = store.outbox_after(lane::DISPATCH, 0, 1000).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn two_dispatchers_that_share_the_slots_see_every_call_once() {
    for Fixture { store, .. } in fixtures().await {
        let mut commit = taken(&store, 10).await;
        commit.http = (0..10).map(|number| call(&format!("h{number}"))).collect();
        commit_now(&store, commit).await;
        let mut seen = Vec::new();
        for slots in [vec![0, 2], vec![1], vec![3]] {
            let rows = store.http_due_in(Timestamp::from_millis(9), 100, 4, slots).await.unwrap().rows;
            assert!(!rows.is_empty());
            seen.extend(rows.into_iter().map(|row| row.effect.id));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..10).map(|number| format!("h{number}")).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_lease_has_one_holder_until_it_is_given_back_or_runs_out() {
    for Fixture { store, .. } in fixtures().await {
        let request = |owner: &str, hold: u64| LeaseRequest {
            prefix: "relay:".to_owned(),
            owner: owner.to_owned(),
            take: vec!["relay:a".to_owned(), "relay:b".to_owned()],
            give: Vec::new(),
            hold: Duration::from_millis(hold),
        };
        let lease = |name: &str, owner: &str| Lease { name: name.to_owned(), owner: owner.to_owned() };
        let held_by_one = [lease("relay:a", "one"), lease("relay:b", "one")];
        assert_eq!(store.lease(request("one", 60_000)).await.unwrap(), held_by_one);
        assert_eq!(store.lease(request("two", 60_000)).await.unwrap(), held_by_one);
        let gives = LeaseRequest { take: Vec::new(), give: vec!["relay:a".to_owned()], ..request("one", 1) };
        store.lease(gives).await.unwrap();
        let mut held = store.lease(request("two", 60_000)).await.unwrap();
        while held.iter().any(|lease| lease.owner == "one") {
            held = store.lease(request("two", 60_000)).await.unwrap();
        }
        assert_eq!(held, [lease("relay:a", "two"), lease("relay:b", "two")]);
        store.release_leases("two").await.unwrap();
        assert_eq!(store.lease(request("one", 60_000)).await.unwrap(), held_by_one);
    }
}

#[tokio::test]
async fn processes_are_listed_until_they_stop_or_have_been_silent_for_long() {
    for Fixture { store, .. } in fixtures().await {
        let (early, late) = (Timestamp::from_millis(1), Timestamp::from_millis(2));
        store.heartbeat("b", late, "{}".to_owned(), Duration::from_mins(1)).await.unwrap();
        store.heartbeat("a", early, "old".to_owned(), Duration::from_mins(1)).await.unwrap();
        let rows = store.heartbeat("a", early, "new".to_owned(), Duration::from_mins(1)).await.unwrap();
        let listed: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.info.as_str())).collect();
        assert_eq!(listed, [("a", "new"), ("b", "{}")]);
        assert!(rows.iter().all(|row| row.silent < Duration::from_secs(30)), "{rows:?}");
        store.process_stopped("a").await.unwrap();
        assert_eq!(store.processes().await.unwrap().len(), 1);
        let mut rows = store.processes().await.unwrap();
        while rows.iter().any(|row| row.id == "b") {
            rows = store.heartbeat("c", late, "{}".to_owned(), Duration::from_millis(1)).await.unwrap();
        }
        assert_eq!(rows.len(), 1);
    }
}
