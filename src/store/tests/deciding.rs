//! What people decide: plugins, stores, dead letters.

use serde_json::json;

use super::*;
use crate::store::{AlertChange, AlertStatus, DeadLetterFilter, DeadLetterSelection, PluginChange, lane};

fn plugin(name: &str, revision: i64) -> PluginRow {
    PluginRow {
        name: name.to_owned(),
        active: true,
        revision,
        eligibility: json!({}),
        settings: json!({"b": 1, "a": 2}),
        starts: None,
        external: None,
    }
}

fn off(settings: serde_json::Value) -> PluginChange {
    PluginChange { active: false, eligibility: json!({"training": true}), settings, starts: None, while_off: None }
}

#[tokio::test]
async fn a_change_moves_revision_epoch_audit_and_control_topic_together() {
    for Fixture { store, .. } in fixtures().await {
        let before = store.insert_plugin_defaults(vec![plugin("p", 1)]).await.unwrap();
        let change = off(json!({"z": 1, "a": 2}));
        let (epoch, row) =
            store.change_plugin("p", 1, change, "ann", Some("too many"), record("control")).await.unwrap();
        assert_eq!((epoch, row.revision, row.active), (before + 1, 2, false));
        assert_eq!(store.load_plugins().await.unwrap(), (epoch, vec![row.clone()]));
        assert_eq!(row.settings.to_string(), r#"{"z":1,"a":2}"#, "the order of keys is kept");
        assert_eq!(store.outbox_after(lane::CONTROL, 0, 10).await.unwrap()[0].records, [record("control")]);
        let history = store.plugin_history("p", None, 10).await.unwrap().items;
        assert_eq!(history.len(), 2);
        let newest = &history[0];
        assert_eq!((newest.actor.as_str(), newest.action.as_str(), newest.revision), ("ann", "plugin.change", Some(2)));
        assert_eq!((newest.settings_epoch, newest.reason.as_deref()), (Some(epoch), Some("too many")));
        assert_eq!(newest.old.as_ref().unwrap()["active"], true);
        assert_eq!(newest.new.as_ref().unwrap()["settings"], json!({"z": 1, "a": 2}));
        assert_eq!(history[1].action, "plugin.defaults");
    }
}

#[tokio::test]
async fn the_second_of_two_people_changing_one_revision_is_refused() {
    for Fixture { store, .. } in fixtures().await {
        store.insert_plugin_defaults(vec![plugin("p", 1)]).await.unwrap();
        let change = |who: &'static str| {
            let store = store.clone();
            async move { store.change_plugin("p", 1, off(json!({})), who, None, record(who)).await }
        };
        let (ann, bob) = tokio::join!(change("ann"), change("bob"));
        assert_eq!([ann.is_ok(), bob.is_ok()].iter().filter(|ok| **ok).count(), 1);
        assert!(matches!(ann.and(bob), Err(StoreError::Conflict)));
        assert_eq!(store.plugin_history("p", None, 10).await.unwrap().items.len(), 2);
        assert_eq!(store.outbox_depth().await.unwrap(), 1);
        assert_eq!(store.load_plugins().await.unwrap().0, 3);
        let missing = store.change_plugin("q", 1, off(json!({})), "ann", None, record("q")).await;
        assert!(matches!(missing, Err(StoreError::NotFound)), "{missing:?}");
    }
}

#[tokio::test]
async fn defaults_fill_only_what_the_store_does_not_know() {
    for Fixture { store, .. } in fixtures().await {
        let first = store.insert_plugin_defaults(vec![plugin("p", 1)]).await.unwrap();
        store.change_plugin("p", 1, off(json!({})), "ann", None, record("p")).await.unwrap();
        let again = store.insert_plugin_defaults(vec![plugin("p", 1)]).await.unwrap();
        assert_eq!(again, first + 1, "nothing was added, so only the change counts");
        store.insert_plugin_defaults(vec![plugin("p", 1), plugin("q", 1)]).await.unwrap();
        let (_, plugins) = store.load_plugins().await.unwrap();
        assert_eq!(
            plugins.iter().map(|row| (row.name.as_str(), row.active)).collect::<Vec<_>>(),
            [("p", false), ("q", true)]
        );
    }
}

#[tokio::test]
async fn the_stores_document_has_revisions_of_its_own() {
    for Fixture { store, .. } in fixtures().await {
        assert_eq!(store.load_stores().await.unwrap(), None);
        let (_, revision) = store.change_stores(0, json!({"S001": {}}), "ann", None).await.unwrap();
        assert_eq!(store.load_stores().await.unwrap(), Some((revision, json!({"S001": {}}))));
        assert!(matches!(store.change_stores(0, json!({}), "bob", None).await, Err(StoreError::Conflict)));
        store.change_stores(1, json!({}), "bob", None).await.unwrap();
        let entry = store.audit(None, 1).await.unwrap().items.remove(0);
        assert_eq!((entry.action.as_str(), entry.old), ("stores.change", Some(json!({"S001": {}}))));
    }
}

async fn with_letters(store: &Store, ids: &[&str]) -> Commit {
    let mut commit = taken(store, 10).await;
    commit.dead_letters = ids.iter().zip(1..).map(|(id, at)| dead_letter(id, at)).collect();
    commit_now(store, commit.clone()).await;
    commit
}

fn ids(ids: &[&str]) -> DeadLetterSelection {
    DeadLetterSelection::Ids(ids.iter().map(ToString::to_string).collect())
}

fn as_record(letter: &DeadLetter) -> NewRecord {
    record(&letter.id)
}

#[tokio::test]
async fn a_replay_stays_open_until_the_commit_that_applies_it() {
    for Fixture { store, .. } in fixtures().await {
        let commit = with_letters(&store, &["a", "b"]).await;
        assert_eq!(store.replay(ids(&["a", "missing"]), "ann", as_record).await.unwrap(), 1);
        assert_eq!(store.replay(ids(&["a"]), "ann", as_record).await.unwrap(), 0, "it is queued already");
        assert_eq!(store.discard(ids(&["a"]), "ann").await.unwrap(), 0, "its replay is on the way");
        let waiting = store.dead_letter("a").await.unwrap();
        assert_eq!(waiting.letter.status, DeadLetterStatus::Open);
        assert!(waiting.replay_requested_at.is_some());
        assert_eq!(store.outbox_after(lane::DEAD_LETTERS, 0, 9).await.unwrap()[0].records, [record("a")]);
        let applied = Commit { dead_letters_replayed: vec!["a".to_owned()], ..after(&commit, 20) };
        commit_now(&store, applied.clone()).await;
        assert_eq!(store.dead_letter("a").await.unwrap().letter.status, DeadLetterStatus::Replayed);
        commit_now(&store, Commit { dead_letters_replayed: vec!["a".to_owned()], ..after(&applied, 30) }).await;
    }
}

#[tokio::test]
async fn a_replay_that_fails_again_is_open_once_more_with_one_attempt_more() {
    for Fixture { store, .. } in fixtures().await {
        let commit = with_letters(&store, &["a"]).await;
        store.replay(ids(&["a"]), "ann", as_record).await.unwrap();
        commit_now(&store, Commit { dead_letters: vec![dead_letter("a", 1)], ..after(&commit, 20) }).await;
        let again = store.dead_letter("a").await.unwrap();
        assert_eq!((again.letter.status, again.letter.attempts), (DeadLetterStatus::Open, 1));
        assert_eq!(store.replay(ids(&["a"]), "ann", as_record).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_discarded_letter_is_neither_replayed_nor_turned_to_replayed() {
    for Fixture { store, .. } in fixtures().await {
        let commit = with_letters(&store, &["a", "b", "c"]).await;
        let filter = DeadLetterFilter { to: Some(Timestamp::from_millis(3)), ..DeadLetterFilter::default() };
        assert_eq!(store.discard(DeadLetterSelection::Filter(filter), "ann").await.unwrap(), 2);
        commit_now(&store, Commit { dead_letters_replayed: vec!["a".to_owned()], ..after(&commit, 20) }).await;
        assert_eq!(store.dead_letter("a").await.unwrap().letter.status, DeadLetterStatus::Discarded);
        let all = DeadLetterSelection::Filter(DeadLetterFilter::default());
        assert_eq!(store.replay(all, "ann", as_record).await.unwrap(), 1);
        let audit = store.audit(None, 10).await.unwrap().items;
        assert_eq!((audit[0].action.as_str(), audit[0].subject.as_str()), ("deadletter.replay", "c"));
        assert_eq!((audit[1].action.as_str(), audit[1].subject.as_str()), ("deadletter.discard", "2 dead letters"));
    }
}

#[tokio::test]
async fn many_large_letters_are_listed_and_replayed_a_few_at_a_time() {
    const LETTERS: usize = 40;
    const BYTES: usize = 256 * 1024;
    for Fixture { store, .. } in fixtures().await {
        let mut commit = taken(&store, 10).await;
        let large = |number: usize| DeadLetter {
            bytes: Bytes::from(vec![b'x'; BYTES]),
            ..dead_letter(&format!("d{number:02}"), i64::try_from(number).unwrap())
        };
        commit.dead_letters = (0..LETTERS).map(large).collect();
        commit_now(&store, commit).await;
        let (mut cursor, mut seen) = (None, Vec::new());
        loop {
            let page = store.dead_letters(DeadLetterFilter::default(), cursor.as_deref(), 1000).await.unwrap();
            assert!(page.items.len() * BYTES <= 8 << 20, "a page of {} letters", page.items.len());
            seen.extend(page.items.into_iter().map(|stored| stored.letter.id));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let newest_first: Vec<String> = (0..LETTERS).rev().map(|number| format!("d{number:02}")).collect();
        assert_eq!(seen, newest_first);
        let all = DeadLetterSelection::Filter(DeadLetterFilter::default());
        let (odd, even) = store.sift_dead_letters(all.clone(), |letter| letter.offset % 2 == 1).await.unwrap();
        assert_eq!((odd.len(), even, odd[0].as_str()), (LETTERS / 2, LETTERS / 2, "d01"));
        let whole = |letter: &DeadLetter| NewRecord { value: letter.bytes.clone(), ..record("") };
        assert_eq!(store.replay(all, "ann", whole).await.unwrap(), LETTERS);
        let rows = store.outbox_after(lane::DEAD_LETTERS, 0, 1000).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.records.len()).sum::<usize>(), LETTERS);
        assert!(rows.iter().all(|row| row.records.len() * BYTES <= 1 << 20), "no row of the outbox is large");
    }
}

#[tokio::test]
async fn a_letter_that_cannot_be_read_is_discarded_all_the_same_and_hides_no_others() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        with_letters(store, &["a", "b", "c"]).await;
        fixture.execute("UPDATE dead_letters SET headers = 'no headers' WHERE id = 'a'").await;
        fixture.execute("UPDATE dead_letters SET topic = 'of.a.later.version' WHERE id = 'b'").await;
        let listed = store.dead_letters(DeadLetterFilter::default(), None, 10).await.unwrap().items;
        assert_eq!(listed.iter().map(|stored| stored.letter.id.as_str()).collect::<Vec<_>>(), ["c", "a"]);
        assert_eq!(store.discard(ids(&["a", "b", "c"]), "ann").await.unwrap(), 3);
    }
}

#[tokio::test]
async fn of_many_people_who_decide_on_a_letter_at_once_one_is_heard() {
    for Fixture { store, .. } in fixtures().await {
        let letters: Vec<String> = (0..20).map(|number| format!("d{number}")).collect();
        let names: Vec<&str> = letters.iter().map(String::as_str).collect();
        with_letters(&store, &names).await;
        let people = (0..8).map(|person| {
            let (store, all) = (store.clone(), ids(&names));
            async move {
                let decided = if person % 2 == 0 {
                    store.replay(all, "ann", as_record).await
                } else {
                    store.discard(all, "bob").await
                };
                decided.unwrap()
            }
        });
        let counts = futures_util::future::join_all(people).await;
        assert_eq!(counts.iter().sum::<usize>(), letters.len(), "{counts:?}");
    }
}

#[tokio::test]
async fn people_who_change_different_things_of_one_alert_are_all_heard() {
    for Fixture { store, .. } in fixtures().await {
        let mut commit = taken(&store, 10).await;
        commit.records = vec![crate::effect::Record::Alert(Box::new(alert("a", 1, Severity::Low)))];
        commit_now(&store, commit).await;
        let note = AlertChange { note: Some("seen".to_owned()), ..AlertChange::default() };
        let assignee = AlertChange { assignee: Some("cid".to_owned()), ..AlertChange::default() };
        let status = AlertChange { status: Some(AlertStatus::Closed), ..AlertChange::default() };
        let (one, two, three) = tokio::join!(
            store.change_alert("a", note, "ann"),
            store.change_alert("a", assignee, "bob"),
            store.change_alert("a", status, "cid"),
        );
        one.and(two).and(three).unwrap();
        let now = store.alert("a").await.unwrap();
        assert_eq!((now.note.as_deref(), now.assignee.as_deref()), (Some("seen"), Some("cid")));
        assert_eq!(now.status, AlertStatus::Closed);
        let missing = store.change_alert("b", AlertChange::default(), "ann").await;
        assert!(matches!(missing, Err(StoreError::NotFound)), "{missing:?}");
    }
}

#[tokio::test]
async fn processes_that_start_at_once_agree_on_what_is_there() {
    for Fixture { store, .. } in fixtures().await {
        let starts = (0..8).map(|_| {
            let store = store.clone();
            async move {
                store.bind_bus("bus-a", 8).await.unwrap();
                store.insert_plugin_defaults(vec![plugin("p", 1), plugin("q", 1)]).await.unwrap();
                store.identity().await.unwrap()
            }
        });
        let identities = futures_util::future::join_all(starts).await;
        assert!(identities.windows(2).all(|pair| pair[0] == pair[1]), "{identities:?}");
        assert_eq!(store.load_plugins().await.unwrap().1.len(), 2);
        assert_eq!(store.plugin_history("p", None, 10).await.unwrap().items.len(), 1);
    }
}

#[tokio::test]
async fn where_a_plugin_was_switched_on_is_kept() {
    for Fixture { store, url, .. } in fixtures().await {
        store.insert_plugin_defaults(vec![plugin("p", 1)]).await.unwrap();
        let on = PluginChange { active: true, starts: Some(vec![7, 0, 12]), ..off(json!({})) };
        let (_, row) = store.change_plugin("p", 1, on, "ann", None, record("p")).await.unwrap();
        assert_eq!(row.starts, Some(vec![7, 0, 12]));
        // Another change leaves it alone.
        store.change_plugin("p", 2, off(json!({})), "ann", None, record("p")).await.unwrap();
        store.close().await;
        let again = Store::open(&url).await.unwrap();
        assert_eq!(again.load_plugins().await.unwrap().1[0].starts, Some(vec![7, 0, 12]));
        again.close().await;
    }
}
