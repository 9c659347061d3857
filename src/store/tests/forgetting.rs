//! States and duplicate windows that have expired go; nothing else does, whoever writes meanwhile.

use super::*;
use crate::store::{FORGET_LOOK_ROWS, ForgetStep};

const KIND: (&str, Scope) = ("employee-time-tracker", Scope::Employee);

const fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Walks all states of the partition and answers how many were removed.
async fn forget_states(store: &Store) -> usize {
    let (mut after, mut removed) = (String::new(), 0);
    loop {
        let step = store.forget_states(EVENTS_0, KIND, after).await.unwrap();
        removed += step.removed;
        match step.next {
            Some(next) => after = next,
            None => return removed,
        }
    }
}

#[tokio::test]
async fn what_has_expired_by_the_committed_clock_goes_and_nothing_else() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        // The committed clock is 77.
        let mut commit = taken(store, 77).await;
        let state = |id: &str, expires, due| EntityRow { due, expires, ..entity(EVENTS_0, id, "state") };
        commit.entities = vec![
            state("expired", Some(at(77)), None),
            state("later", Some(at(78)), None),
            state("never", None, None),
            state("with a timer", Some(at(5)), Some(at(90))),
            EntityRow {
                key: EntityKey { partition: REKEYED_0, ..key(REKEYED_0, "elsewhere") },
                ..state("", Some(at(5)), None)
            },
        ];
        let window = |source: &str, expires| WindowRow {
            partition: 0,
            source: source.to_owned(),
            window: Bytes::from_static(b"window"),
            expires,
        };
        commit.windows = vec![window("a", Some(at(77))), window("b", Some(at(78))), window("c", None)];
        commit_now(store, commit).await;
        assert_eq!(forget_states(store).await, 1);
        assert_eq!(forget_states(store).await, 0);
        let step = store.forget_windows(0, String::new()).await.unwrap();
        assert_eq!(step, ForgetStep { removed: 1, next: None });
        fixture.assert_no_rows("entities", "entity = 'expired'").await;
        fixture.assert_no_rows("windows", "source = 'a'").await;
        let left = ["later", "never", "with a timer"].map(|id| key(EVENTS_0, id));
        assert_eq!(store.load_entities(left.to_vec()).await.unwrap().len(), 3);
        assert_eq!(store.load_entities(vec![key(REKEYED_0, "elsewhere")]).await.unwrap().len(), 1);
        let windows = store.load_windows(0, ["a", "b", "c"].map(str::to_owned).to_vec()).await.unwrap();
        assert_eq!(windows.len(), 2);
    }
}

#[tokio::test]
async fn many_made_up_ids_go_in_bounded_steps() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        let mut commit = taken(store, 77).await;
        let count = FORGET_LOOK_ROWS * 3 + 7;
        let state = |number: usize| EntityRow {
            // Every tenth is a real one.
            expires: Some(at(if number.is_multiple_of(10) { 1000 } else { 7 })),
            ..entity(EVENTS_0, &format!("E{number:05}"), "state")
        };
        commit.entities = (0..count).map(state).collect();
        commit_now(store, commit).await;
        let step = store.forget_states(EVENTS_0, KIND, String::new()).await.unwrap();
        assert!(step.removed <= FORGET_LOOK_ROWS && step.next.is_some());
        assert_eq!(step.removed + forget_states(store).await, count - count.div_ceil(10));
        fixture.assert_no_rows("entities", "expires = 7").await;
    }
}

#[tokio::test]
async fn a_state_that_is_written_again_while_it_is_removed_is_there() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        let mut commit = taken(store, 77).await;
        let ids: Vec<String> = (0..50).map(|number| format!("E{number}")).collect();
        for round in 0..20_i64 {
            let rows = |state: &str, expires| -> Vec<EntityRow> {
                ids.iter().map(|id| EntityRow { expires, ..entity(EVENTS_0, id, state) }).collect()
            };
            commit.entities = rows("old", Some(at(7)));
            let next = after(&commit, 77 + round);
            commit_now(store, commit).await;
            // Its owner takes the states for absent and begins them anew.
            let again = Commit { entities: rows("new", Some(at(1_000_000))), ..next };
            commit = after(&again, 77 + round);
            let ((), removed) = tokio::join!(commit_now(store, again), forget_states(store));
            assert!(removed <= ids.len());
            let keys: Vec<_> = ids.iter().map(|id| key(EVENTS_0, id)).collect();
            let rows = store.load_entities(keys).await.unwrap();
            assert_eq!(rows.len(), ids.len(), "round {round}");
            assert!(rows.iter().all(|row| row.state == "new"));
        }
    }
}

#[tokio::test]
async fn states_from_before_they_expired_count_as_seen_at_the_committed_clock() {
    const FORGET: &str = "DELETE FROM __diesel_schema_migrations WHERE version = '20261129123000'";
    const COLUMNS: &str = "ALTER TABLE entities DROP COLUMN expires; ALTER TABLE windows DROP COLUMN expires";
    for fixture in fixtures().await {
        let mut commit = taken(&fixture.store, 77).await;
        commit.entities = vec![entity(EVENTS_0, "E1", "state")];
        let window = Bytes::from_static(b"window");
        commit.windows = vec![WindowRow { partition: 0, source: "a".to_owned(), window, expires: None }];
        commit_now(&fixture.store, commit).await;
        fixture.store.close().await;
        fixture.execute(&format!("{COLUMNS}; {FORGET}")).await;
        let store = Store::open(&fixture.url).await.unwrap();
        let expires = Some(at(77 + 401 * 86_400_000));
        assert_eq!(store.load_entities(vec![key(EVENTS_0, "E1")]).await.unwrap()[0].expires, expires);
        assert_eq!(store.load_windows(0, vec!["a".to_owned()]).await.unwrap()[0].expires, expires);
        store.close().await;
    }
}
