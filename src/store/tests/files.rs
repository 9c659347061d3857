//! The files of a SQLite store: a write-ahead log that stays small, and a store that notices when it was removed.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::*;
use crate::store::StoreOptions;

const MB: u64 = 1024 * 1024;

/// Three connections that read in transactions of a moment: at no time all of them rest.
fn slow_readers(target: &Target) -> (Arc<AtomicBool>, Vec<std::thread::JoinHandle<()>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let readers = (0..3).map(|number| {
        let (target, stop) = (target.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut reader = target.connect(Purpose::Read).unwrap();
            while !stop.load(Ordering::Relaxed) {
                reader.batch_execute("BEGIN; SELECT COUNT(*) FROM entities;").unwrap();
                std::thread::sleep(Duration::from_millis(15 + number * 5));
                reader.batch_execute("COMMIT").unwrap();
            }
        })
    });
    let readers = readers.collect();
    (stop, readers)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_write_ahead_log_stays_small_while_many_entities_change_beside_slow_readers() {
    let fixture = Fixture::sqlite().await;
    fixture.store.close().await;
    let options = StoreOptions { wal_bytes_max: 8 * MB, ..StoreOptions::default() };
    let store = Store::open_with(&fixture.url, options).await.unwrap();
    let (stop, readers) = slow_readers(&fixture.target);
    let mut commit = taken(&store, 1).await;
    let (mut largest, mut shrank, mut before) = (0, false, 0);
    for number in 0..150_usize {
        let scattered = |place: usize| (place * 7919 + number * 104_729) % 20_000;
        commit.entities =
            (0..400).map(|place| entity(EVENTS_0, &format!("E{:05}", scattered(place)), &"x".repeat(600))).collect();
        let next = after(&commit, i64::try_from(number).unwrap() + 2);
        commit_now(&store, commit).await;
        commit = next;
        let bytes = store.files().unwrap().wal_bytes();
        shrank |= bytes < before;
        before = bytes;
        largest = largest.max(bytes);
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    assert!(largest < 48 * MB, "the log grew to {largest} bytes");
    assert!(shrank, "it shrinks while it is written to");
}

#[tokio::test]
async fn while_the_store_is_away_nothing_is_acknowledged_and_when_it_is_back_it_goes_on() {
    let fixture = Fixture::sqlite().await;
    let store = &fixture.store;
    let commit = taken(store, 10).await;
    let (data, moved) = (fixture.directory.path().join("data"), fixture.directory.path().join("moved"));
    std::fs::rename(&data, &moved).unwrap();
    let refused = store.commit(Arc::new(commit.clone())).await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(text)) if text.contains("was removed")), "{refused:?}");
    assert!(matches!(store.sync().await, Err(StoreError::Unavailable(_))), "what people are told of");
    std::fs::create_dir(&data).unwrap();
    std::fs::copy(moved.join("store.db"), data.join("store.db")).unwrap();
    let refused = store.take(vec![EVENTS_0]).await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(text)) if text.contains("was replaced")), "{refused:?}");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&moved, &data).unwrap();
    commit_now(store, commit).await;
    assert_eq!(store.partitions().await.unwrap()[0].next_offset, 10);
}
