//! Commits: all or nothing, fenced, and once only.

use super::*;
use crate::effect::Record;
use crate::store::SettingsUse;

fn window(source: &str, state: &str) -> WindowRow {
    WindowRow { partition: 0, source: source.to_owned(), window: Bytes::from(state.to_owned()), expires: None }
}

fn full(base: Commit) -> Commit {
    Commit {
        windows: vec![window("/stores/S001/terminals/T1", "w1")],
        entities: vec![entity(EVENTS_0, "E7", "state")],
        records: vec![Record::Session(session("s1", "E7", "2026-01-05", 60))],
        outbox: vec![OutboxRow {
            lane: "pos.events/0".to_owned(),
            seq: 1,
            records: vec![record("one"), record("two")],
        }],
        http: vec![call("h1")],
        dead_letters: vec![dead_letter("d1", 9)],
        ..base
    }
}

#[tokio::test]
async fn a_commit_is_read_back_whole() {
    for Fixture { store, .. } in fixtures().await {
        let commit = full(taken(&store, 10).await);
        commit_now(&store, commit.clone()).await;
        let place = store.partitions().await.unwrap().remove(0);
        assert_eq!((place.version, place.next_offset, place.clock), (1, 10, Timestamp::from_millis(10)));
        assert_eq!(store.load_entities(vec![key(EVENTS_0, "E7"), key(EVENTS_0, "E8")]).await.unwrap(), commit.entities);
        let sources = vec!["/stores/S001/terminals/T1".to_owned(), "/stores/S001/terminals/T2".to_owned()];
        assert_eq!(store.load_windows(0, sources).await.unwrap(), commit.windows);
        assert_eq!(store.outbox_lanes().await.unwrap(), ["pos.events/0"]);
        assert_eq!(store.outbox_after("pos.events/0", 0, 10).await.unwrap(), commit.outbox);
        assert_eq!(store.http_due(Timestamp::MIN, 10).await.unwrap().rows[0].effect, commit.http[0]);
        assert_eq!(store.dead_letter("d1").await.unwrap().letter, commit.dead_letters[0]);
        let counts = store.counts().await.unwrap();
        assert_eq!((counts.outbox_records, counts.http_calls, counts.dead_letters_open), (2, 1, 1));
    }
}

#[tokio::test]
async fn a_commit_that_fails_half_way_leaves_nothing_behind() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        let commit = full(taken(store, 10).await);
        fixture
            .execute(match fixture.target {
                Target::Sqlite(_) => {
                    "CREATE TRIGGER fail BEFORE INSERT ON dead_letters BEGIN SELECT RAISE(ABORT, 'injected'); END"
                }
                Target::Mysql(_) => {
                    "CREATE TRIGGER fail BEFORE INSERT ON dead_letters FOR EACH ROW \
                     SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'injected'"
                }
            })
            .await;
        store.commit(Arc::new(commit.clone())).await.unwrap_err();
        assert_eq!(store.partitions().await.unwrap()[0].next_offset, 0);
        assert_eq!(store.load_entities(vec![key(EVENTS_0, "E7")]).await.unwrap(), []);
        assert_eq!(store.outbox_lanes().await.unwrap(), Vec::<String>::new());
        assert_eq!(store.counts().await.unwrap(), crate::store::Counts::default());
        fixture.execute("DROP TRIGGER fail").await;
        commit_now(store, commit).await;
        assert_eq!(store.partitions().await.unwrap()[0].next_offset, 10);
    }
}

#[tokio::test]
async fn who_lost_a_partition_is_fenced() {
    for Fixture { store, .. } in fixtures().await {
        let mine = taken(&store, 10).await;
        let theirs = taken(&store, 7).await;
        let fenced = store.commit(Arc::new(full(mine))).await;
        assert!(matches!(fenced, Err(StoreError::Fenced(EVENTS_0))), "{fenced:?}");
        assert_eq!(store.load_entities(vec![key(EVENTS_0, "E7")]).await.unwrap(), []);
        commit_now(&store, theirs).await;
        assert_eq!(store.partitions().await.unwrap()[0].epoch, 2);
    }
}

#[tokio::test]
async fn a_commit_out_of_order_is_fenced() {
    for Fixture { store, .. } in fixtures().await {
        let first = taken(&store, 10).await;
        let second = after(&first, 20);
        assert!(matches!(store.commit(Arc::new(second.clone())).await, Err(StoreError::Fenced(_))));
        commit_now(&store, first).await;
        commit_now(&store, second).await;
        assert_eq!(store.partitions().await.unwrap()[0].version, 2);
    }
}

#[tokio::test]
async fn one_lost_partition_stops_the_whole_commit() {
    for Fixture { store, .. } in fixtures().await {
        let mut commit = Commit { settings_epoch: 1, ..Commit::default() };
        for row in store.take(vec![EVENTS_0, REKEYED_0]).await.unwrap() {
            commit.partitions.push(PartitionCommit { row: PartitionRow { next_offset: 5, ..row } });
        }
        store.take(vec![REKEYED_0]).await.unwrap();
        assert!(matches!(store.commit(Arc::new(commit)).await, Err(StoreError::Fenced(REKEYED_0))));
        assert!(store.partitions().await.unwrap().iter().all(|row| row.next_offset == 0));
    }
}

/// A process that was paused while its partitions went to another one must not take what goes with them.
#[tokio::test]
async fn what_goes_with_a_partition_is_taken_by_its_present_owner_only() {
    for Fixture { store, .. } in fixtures().await {
        let orders = TopicPartition::new(Topic::OrderCreated, 0);
        let paused = store.take(vec![EVENTS_0]).await.unwrap().remove(0).epoch;
        let row = store.take_as_owner(vec![orders], vec![(EVENTS_0, paused)]).await.unwrap().remove(0);
        assert_eq!((row.partition, row.epoch), (orders, 1));
        let owner = store.take(vec![EVENTS_0]).await.unwrap().remove(0).epoch;
        let row = store.take_as_owner(vec![orders], vec![(EVENTS_0, owner)]).await.unwrap().remove(0);
        assert_eq!(row.epoch, 2);
        let late = store.take_as_owner(vec![orders], vec![(EVENTS_0, paused)]).await;
        assert!(matches!(late, Err(StoreError::Fenced(EVENTS_0))), "{late:?}");
        let rows = store.partitions().await.unwrap();
        assert_eq!(rows.iter().map(|row| row.epoch).collect::<Vec<_>>(), [2, 2], "nobody was fenced");
    }
}

#[tokio::test]
async fn a_commit_that_was_done_is_recognised_and_not_done_again() {
    for Fixture { store, .. } in fixtures().await {
        let commit = full(taken(&store, 10).await);
        commit_now(&store, commit.clone()).await;
        commit_now(&store, commit.clone()).await;
        assert_eq!(store.partitions().await.unwrap()[0].version, 1);
        assert_eq!(store.counts().await.unwrap().outbox_records, 2);
        let mut other = commit;
        other.partitions[0].row.next_offset = 11;
        assert!(matches!(store.commit(Arc::new(other)).await, Err(StoreError::Fenced(_))));
    }
}

#[tokio::test]
async fn a_batch_that_used_old_settings_is_sent_back() {
    for Fixture { store, .. } in fixtures().await {
        let mut commit = taken(&store, 10).await;
        let (epoch, _) = store.change_stores(0, serde_json::json!({}), "ann", None).await.unwrap();
        assert!(matches!(store.commit(Arc::new(commit.clone())).await, Err(StoreError::SettingsMoved)));
        commit.settings_epoch = epoch;
        commit_now(&store, commit).await;
    }
}

#[tokio::test]
async fn the_first_use_of_new_settings_is_noted_with_its_place() {
    for Fixture { store, .. } in fixtures().await {
        let first = taken(&store, 10).await;
        let second = after(&first, 20);
        let mut third = after(&second, 30);
        commit_now(&store, first).await;
        commit_now(&store, second).await;
        third.settings_epoch = store.change_stores(0, serde_json::json!({}), "ann", None).await.unwrap().0;
        commit_now(&store, third).await;
        let used = |settings_epoch, first_offset, clock| SettingsUse {
            partition: EVENTS_0,
            settings_epoch,
            first_offset,
            clock: Timestamp::from_millis(clock),
        };
        assert_eq!(store.settings_uses().await.unwrap(), [used(1, 0, 0), used(2, 20, 10)]);
    }
}

#[tokio::test]
async fn ids_are_told_apart_byte_by_byte() {
    for Fixture { store, .. } in fixtures().await {
        let long = "é".repeat(127) + "x";
        let ids = ["E7", "e7", "E7 ", " E7", "E７", "É7", "E7\u{301}", long.as_str()];
        let mut commit = taken(&store, 10).await;
        commit.entities = ids.iter().map(|id| entity(EVENTS_0, id, id)).collect();
        commit.windows = ids.iter().map(|id| window(id, id)).collect();
        commit_now(&store, commit).await;
        for id in ids {
            let found = store.load_entities(vec![key(EVENTS_0, id)]).await.unwrap();
            assert_eq!(found, [entity(EVENTS_0, id, id)], "{id:?}");
            assert_eq!(store.load_windows(0, vec![id.to_owned()]).await.unwrap(), [window(id, id)], "{id:?}");
        }
    }
}

#[tokio::test]
async fn a_batch_of_thousands_of_rows_replaces_what_was_there() {
    for Fixture { store, .. } in fixtures().await {
        let states = |text: &str| (0..3333).map(|i| entity(EVENTS_0, &format!("E{i}"), text)).collect::<Vec<_>>();
        let first = taken(&store, 10).await;
        let second = Commit { entities: states("new"), ..after(&first, 20) };
        commit_now(&store, Commit { entities: states("old"), ..first }).await;
        commit_now(&store, second).await;
        let keys = states("").into_iter().map(|row| row.key).collect();
        let found = store.load_entities(keys).await.unwrap();
        assert_eq!(found.len(), 3333);
        assert!(found.iter().all(|row| row.state == "new"));
    }
}

#[tokio::test]
async fn timers_are_found_by_partition() {
    for Fixture { store, .. } in fixtures().await {
        let mut commit = taken(&store, 10).await;
        let due = Some(Timestamp::from_millis(77));
        commit.entities = vec![
            EntityRow { due, ..entity(EVENTS_0, "E1", "") },
            entity(EVENTS_0, "E2", ""),
            EntityRow { due, ..entity(REKEYED_0, "E3", "") },
        ];
        commit_now(&store, commit).await;
        let timers = store.timers(EVENTS_0).await.unwrap();
        assert_eq!(timers.len(), 1);
        assert_eq!((timers[0].entity.as_str(), timers[0].scope, Some(timers[0].due)), ("E1", Scope::Employee, due));
    }
}

#[tokio::test]
async fn reads_go_on_during_commits_and_see_whole_commits_only() {
    for Fixture { store, .. } in fixtures().await {
        let first = taken(&store, 1).await;
        let writer = tokio::spawn({
            let store = store.clone();
            async move {
                let mut next = first;
                for round in 1..=50_i64 {
                    let following = after(&next, round + 1);
                    let text = round.to_string();
                    next.entities = vec![entity(EVENTS_0, "A", &text), entity(EVENTS_0, "B", &text)];
                    commit_now(&store, next).await;
                    next = following;
                }
            }
        });
        let mut reads = 0;
        while !writer.is_finished() {
            let rows = store.load_entities(vec![key(EVENTS_0, "A"), key(EVENTS_0, "B")]).await.unwrap();
            assert!(rows.is_empty() || rows[0].state == rows[1].state, "{rows:?}");
            reads += 1;
        }
        writer.await.unwrap();
        assert!(reads > 0);
        assert_eq!(store.partitions().await.unwrap()[0].version, 50);
    }
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_costs_nothing() {
    let fixture = Fixture::sqlite().await;
    let store = &fixture.store;
    let mut commit = taken(store, 10).await;
    commit.entities = (0..200).map(|i| entity(EVENTS_0, &format!("E{i}"), &"x".repeat(20_000))).collect();
    let commit = Arc::new(commit);
    store.write(|database| database.batch_execute("PRAGMA max_page_count = 60")).await.unwrap();
    let refused = store.commit(Arc::clone(&commit)).await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(text)) if text.contains("full")), "{refused:?}");
    assert_eq!(store.partitions().await.unwrap()[0].next_offset, 0);
    // The connection is opened anew after the fault, without the limit: there is room again.
    store.commit(commit).await.unwrap();
    assert_eq!(store.partitions().await.unwrap()[0].next_offset, 10);
}

/// What a process leaves behind that is paused between two statements of a commit. SQLite serves one process.
#[tokio::test]
async fn a_session_that_is_paused_in_a_transaction_does_not_hold_up_its_successor_for_long() {
    for fixture in fixtures().await.into_iter().filter(|fixture| fixture.store.is_shared()) {
        fixture.store.take(vec![EVENTS_0]).await.unwrap();
        let target = fixture.target.clone();
        let paused = tokio::task::spawn_blocking(move || {
            let mut session = target.connect(Purpose::Write).unwrap();
            session.batch_execute("START TRANSACTION").unwrap();
            session.batch_execute("UPDATE offsets SET version = version + 1").unwrap();
            session
        });
        let paused = paused.await.unwrap();
        let begun = std::time::Instant::now();
        let row = loop {
            match fixture.store.take(vec![EVENTS_0]).await {
                Ok(rows) => break rows[0].clone(),
                Err(StoreError::Unavailable(_)) => assert!(begun.elapsed().as_secs() < 60, "still locked"),
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!((row.epoch, row.version), (2, 0), "what the paused one had begun is undone");
        tokio::task::spawn_blocking(move || drop(paused)).await.unwrap();
    }
}
