//! A connection breaks while a COMMIT is on its way: whether it was done is not known to who asked. Whatever it was, it is done
//! once, and its caller hears what an undisturbed one hears.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use serde_json::json;

use super::orders::{claim, claimed_ids, hand_over, new_order};
use super::*;
use crate::store::{
    Acceptance, AlertChange, AlertStatus, DeadLetterSelection, HttpEnd, PluginChange, Settled, Settlement, lane,
};

/// A COMMIT on its way to the server: a command of the protocol that is a query.
const COMMIT: &[u8] = b"\x03COMMIT";

/// Where the connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// The server never hears of the COMMIT.
    Before,
    /// The server has done it, and its answer is lost.
    After,
}

/// Stands between a store and its server, and breaks a connection when it is told to.
#[derive(Clone)]
struct Between {
    server: String,
    cut: Cut,
    /// The next COMMIT is the one.
    armed: Arc<AtomicBool>,
    cuts: Arc<AtomicUsize>,
    /// What somebody else does after the connection broke and before the next one is open.
    meanwhile: Arc<Mutex<Option<Meanwhile>>>,
}

type Meanwhile = Box<dyn FnOnce() + Send>;

impl Between {
    /// A store that reaches the database of a fixture only through this.
    async fn store(fixture: &Fixture, cut: Cut) -> (Self, Store) {
        let (begin, place) = fixture.url.rsplit_once('@').unwrap();
        let (server, name) = place.split_once('/').unwrap();
        let between = Self {
            server: server.to_owned(),
            cut,
            armed: Arc::default(),
            cuts: Arc::default(),
            meanwhile: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = between.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let was_cut = serving.cuts.load(Ordering::SeqCst) > 0;
                if let Some(work) = serving.meanwhile.lock().unwrap().take_if(|_| was_cut) {
                    work();
                }
                serving.clone().serve(client.unwrap());
            }
        });
        let store = Store::open(&format!("{begin}@127.0.0.1:{port}/{name}")).await.unwrap();
        (between, store)
    }

    fn serve(self, client: TcpStream) {
        let server = TcpStream::connect(&self.server).unwrap();
        let (mut from_client, mut to_client) = (client.try_clone().unwrap(), client);
        let (mut from_server, mut to_server) = (server.try_clone().unwrap(), server);
        let done = Arc::new(AtomicBool::new(false));
        let breaks = Arc::clone(&done);
        std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(count @ 1..) = from_client.read(&mut bytes) {
                let is_commit = bytes[..count].windows(COMMIT.len()).any(|part| part == COMMIT);
                if is_commit && self.armed.swap(false, Ordering::SeqCst) {
                    self.cuts.fetch_add(1, Ordering::SeqCst);
                    if self.cut == Cut::Before {
                        break;
                    }
                    breaks.store(true, Ordering::SeqCst);
                }
                if to_server.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            let _ = to_server.shutdown(Shutdown::Both);
            let _ = from_client.shutdown(Shutdown::Both);
        });
        std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(count @ 1..) = from_server.read(&mut bytes) {
                // The answer to the COMMIT: it is done.
                if done.load(Ordering::SeqCst) || to_client.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            let _ = to_client.shutdown(Shutdown::Both);
            let _ = from_server.shutdown(Shutdown::Both);
        });
    }

    /// Breaks the connection at the next COMMIT, and sees that it came.
    async fn broken<T>(&self, work: impl Future<Output = T>) -> T {
        let before = self.cuts.load(Ordering::SeqCst);
        self.armed.store(true, Ordering::SeqCst);
        let outcome = work.await;
        assert_eq!(self.cuts.load(Ordering::SeqCst), before + 1, "no COMMIT was on its way");
        outcome
    }
}

/// Both places, each with an empty store.
async fn both() -> Vec<(Fixture, Between, Store)> {
    let mut all = Vec::new();
    for cut in [Cut::Before, Cut::After] {
        let Some(fixture) = on_server().await else { return Vec::new() };
        let (between, store) = Between::store(&fixture, cut).await;
        all.push((fixture, between, store));
    }
    all
}

#[tokio::test]
async fn a_batch_is_committed_once() {
    for (fixture, between, store) in both().await {
        let mut commit = taken(&store, 10).await;
        commit.outbox = vec![OutboxRow { lane: "pos.events/0".to_owned(), seq: 9, records: vec![record("one")] }];
        commit.http = vec![call("h1")];
        commit.dead_letters = vec![dead_letter("d", 1)];
        let next = after(&commit, 20);
        between.broken(store.commit(Arc::new(commit))).await.unwrap();
        commit_now(&store, next).await;
        assert_eq!(fixture.store.partitions().await.unwrap()[0].version, 2);
        assert_eq!((store.outbox_depth().await.unwrap(), store.http_depth().await.unwrap()), (1, 1));
        assert_eq!(store.dead_letter("d").await.unwrap().letter.attempts, dead_letter("d", 1).attempts);
        // Taking over is no different: whoever was before is fenced, and the one who took it is not.
        let row = between.broken(store.take(vec![EVENTS_0])).await.unwrap().remove(0);
        let row = PartitionRow { next_offset: 30, ..row };
        commit_now(
            &store,
            Commit { partitions: vec![PartitionCommit { row }], settings_epoch: 1, ..Commit::default() },
        )
        .await;
    }
}

#[tokio::test]
async fn what_people_decide_is_decided_once_and_nobody_is_told_of_a_conflict_with_himself() {
    for (fixture, between, store) in both().await {
        let row = PluginRow {
            name: "p".to_owned(),
            active: true,
            revision: 1,
            eligibility: json!({}),
            settings: json!({}),
            starts: None,
            external: None,
        };
        between.broken(store.insert_plugin_defaults(vec![row])).await.unwrap();
        let change = PluginChange {
            active: false,
            eligibility: json!({}),
            settings: json!({"a": 1}),
            starts: None,
            while_off: None,
        };
        let changed = between.broken(store.change_plugin("p", 1, change, "ann", None, record("told"))).await.unwrap();
        assert_eq!((changed.1.revision, changed.0), (2, store.settings_epoch().await.unwrap()));
        for revision in 0..2 {
            let stores = json!({"S001": {"revision": revision}});
            let (epoch, now) = between.broken(store.change_stores(revision, stores, "ann", None)).await.unwrap();
            assert_eq!((now, epoch), (revision + 1, store.settings_epoch().await.unwrap()));
        }
        let late = store.change_stores(0, json!({"S001": {"revision": 0}}), "ann", None).await;
        assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");

        let mut commit = taken(&store, 10).await;
        commit.settings_epoch = store.settings_epoch().await.unwrap();
        commit.dead_letters = ["a", "b", "c"].iter().zip(1..).map(|(id, at)| dead_letter(id, at)).collect();
        commit.records = vec![crate::effect::Record::Alert(Box::new(alert("alert", 1, Severity::Low)))];
        commit_now(&store, commit).await;
        let letters = |ids: &[&str]| DeadLetterSelection::Ids(ids.iter().map(ToString::to_string).collect());
        let discarded = between.broken(store.discard(letters(&["a"]), "ann")).await.unwrap();
        let as_record = |letter: &DeadLetter| record(&letter.id);
        let replayed = between.broken(store.replay(letters(&["a", "b", "c"]), "ann", as_record)).await.unwrap();
        assert_eq!((discarded, replayed), (1, 2));
        assert_eq!(
            store.replay(letters(&["b"]), "ann", as_record).await.unwrap(),
            0,
            "another call is another decision"
        );
        let looked_at = AlertChange { status: Some(AlertStatus::Acknowledged), ..AlertChange::default() };
        let changed = between.broken(store.change_alert("alert", looked_at, "ann")).await.unwrap();
        assert_eq!(changed.status, AlertStatus::Acknowledged);

        assert_eq!(fixture.store.outbox_after(lane::CONTROL, 0, 9).await.unwrap().len(), 1);
        assert_eq!(fixture.store.outbox_after(lane::DEAD_LETTERS, 0, 9).await.unwrap().len(), 1);
        let audit = fixture.store.audit(None, 99).await.unwrap().items;
        let actions: Vec<&str> = audit.iter().rev().map(|entry| entry.action.as_str()).collect();
        let decided = ["plugin.defaults", "plugin.change", "stores.change", "stores.change"];
        assert_eq!(actions, [&decided[..], &["deadletter.discard", "deadletter.replay", "alert.change"]].concat());
    }
}

#[tokio::test]
async fn what_somebody_else_of_the_same_name_decides_meanwhile_is_not_taken_for_ones_own() {
    let letters = |ids: &[&str]| DeadLetterSelection::Ids(ids.iter().map(ToString::to_string).collect());
    for (fixture, between, store) in both().await {
        let mut commit = taken(&store, 10).await;
        commit.dead_letters = ["a", "b", "c"].iter().zip(1..).map(|(id, at)| dead_letter(id, at)).collect();
        commit_now(&store, commit).await;
        let other = fixture.store.clone();
        *between.meanwhile.lock().unwrap() = Some(Box::new(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            assert_eq!(runtime.block_on(other.discard(letters(&["b", "c"]), "local")).unwrap(), 2);
        }));
        assert_eq!(
            between.broken(store.discard(letters(&["a"]), "local")).await.unwrap(),
            1,
            "its own, not the other's"
        );
        assert_eq!(store.dead_letter("a").await.unwrap().letter.status, DeadLetterStatus::Discarded);
        assert_eq!(fixture.store.audit(None, 9).await.unwrap().items.len(), 2, "each decision once");

        hand_over(&store, &["o1", "o2"]).await;
        let fail = |one: Settled| {
            let error = "no".to_owned();
            Settled { settlement: Settlement::Failed { reason: "refused", error }, ..one }
        };
        let failed = claimed_ids(&store, claim(9, 1)).await.into_iter().map(fail).collect();
        store.order_turn(Arc::new(failed), None).await.unwrap();
        let other = fixture.store.clone();
        *between.meanwhile.lock().unwrap() = Some(Box::new(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            assert!(runtime.block_on(other.resend_order("o2", "local")).unwrap());
        }));
        assert!(between.broken(store.resend_order("o1", "local")).await.unwrap());
        assert_eq!(claimed_ids(&store, claim(9, 2)).await.len(), 2, "both are sent again");
    }
}

#[tokio::test]
async fn what_a_turn_has_claimed_it_gets_although_its_answer_was_lost() {
    for (_fixture, between, store) in both().await {
        hand_over(&store, &["o1", "o2", "o3"]).await;
        let turn = between.broken(store.order_turn(Arc::default(), Some(claim(2, 7)))).await.unwrap();
        assert_eq!(turn.claimed.len(), 2);
        assert!(turn.claimed.iter().all(|one| one.order.attempts == 0), "no attempt was made");
        assert_eq!(claimed_ids(&store, claim(9, 8)).await.len(), 1);
    }
}

#[tokio::test]
async fn what_leaves_leaves_once() {
    for (_fixture, between, store) in both().await {
        let mut commit = taken(&store, 10).await;
        commit.http = vec![call("h1")];
        commit_now(&store, commit).await;
        let end = HttpEnd { id: "h1".to_owned(), records: vec![record("answer")], dead_letter: None };
        between.broken(store.http_done(vec![end])).await.unwrap();
        assert_eq!(store.outbox_after(lane::DISPATCH, 0, 9).await.unwrap().len(), 1);
        between.broken(store.outbox_delete(vec![(lane::DISPATCH.to_owned(), 1)])).await.unwrap();
        assert_eq!((store.outbox_depth().await.unwrap(), store.http_depth().await.unwrap()), (0, 0));

        let accepted = store.accept_orders(Arc::new(vec![new_order("o1", "k1", "f")]), Timestamp::MIN);
        assert_eq!(between.broken(accepted).await.unwrap(), [Acceptance::New]);
        let again = store.accept_orders(Arc::new(vec![new_order("o2", "k1", "f")]), Timestamp::MIN).await.unwrap();
        assert!(matches!(&again[0], Acceptance::Replayed { order_id, .. } if order_id == "o1"), "{again:?}");
        let now = Timestamp::now();
        assert!(store.lease_order_publishing("me", Duration::from_mins(1)).await.unwrap());
        let batch = between.broken(store.next_order_batch("me", 9)).await.unwrap().expect("one waits");
        assert_eq!((batch.number, batch.orders.len()), (1, 1));
        between.broken(store.order_batch_published(1, now)).await.unwrap();
        assert!(store.next_order_batch("me", 9).await.unwrap().is_none());

        hand_over(&store, &["o3"]).await;
        let fail = |one: Settled| {
            let error = "no".to_owned();
            Settled { settlement: Settlement::Failed { reason: "refused", error }, ..one }
        };
        let failed: Vec<_> = claimed_ids(&store, claim(9, 1)).await.into_iter().map(fail).collect();
        assert_eq!(failed.len(), 1);
        between.broken(store.order_turn(Arc::new(failed), None)).await.unwrap();
        assert_eq!(store.outbox_after(lane::DISPATCH, 1, 9).await.unwrap().len(), 1, "it has failed once");
        assert!(between.broken(store.resend_order("o3", "ann")).await.unwrap(), "and is sent again");
        assert!(!store.resend_order("o3", "ann").await.unwrap(), "another call is another decision");
        assert_eq!(claimed_ids(&store, claim(9, 2)).await.len(), 1);
    }
}
