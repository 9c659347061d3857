//! The common suite, and what only the embedded bus has: a file.

use std::fs;
use std::path::Path;

use bytes::Bytes;

use super::*;
use crate::bus::suite::{PARTITIONS, bus_suite, read_all, record};
use crate::bus::{Record, Topic};

const P0: TopicPartition = TopicPartition::new(Topic::Events, 0);

fn fresh() -> (tempfile::TempDir, Arc<dyn Bus>) {
    let directory = tempfile::tempdir().unwrap();
    let bus = EmbeddedBus::open(directory.path().join("bus.db"), PARTITIONS).unwrap();
    (directory, bus)
}

bus_suite!(fresh(), sole);

fn message(result: Result<Arc<EmbeddedBus>, BusError>) -> String {
    match result {
        Ok(_) => panic!("it opened"),
        Err(error) => error.to_string(),
    }
}

/// Copies what a crash would leave: the file and its write-ahead log, as they are on the disk now.
fn crash_copy(from: &Path, to: &Path) {
    for suffix in ["", "-wal"] {
        let name = |path: &Path| format!("{}{suffix}", path.display());
        fs::copy(name(from), name(to)).unwrap();
    }
}

#[tokio::test]
async fn what_was_answered_survives_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let (path, copy) = (directory.path().join("bus.db"), directory.path().join("copy.db"));
    let bus = EmbeddedBus::open(&path, PARTITIONS).unwrap();
    bus.append((0..3000).map(|number| record(format!("{number}"))).collect()).await.unwrap();
    bus.append_lane("lane".to_owned(), 5, vec![record("from the lane")]).await.unwrap();
    crash_copy(&path, &copy);

    let restarted = EmbeddedBus::open(&copy, PARTITIONS).unwrap();
    assert_eq!(restarted.identity(), bus.identity());
    assert_eq!(read_all(&*restarted, P0, 0).await, read_all(&*bus, P0, 0).await);
    assert_eq!(restarted.lane_position("lane".to_owned()).await.unwrap(), Some(5));
    restarted.append_lane("lane".to_owned(), 5, vec![record("again")]).await.unwrap();
    assert_eq!(restarted.append(vec![record("next")]).await.unwrap(), vec![3001]);
}

#[tokio::test]
async fn what_is_read_from_memory_is_what_the_file_holds() {
    let directory = tempfile::tempdir().unwrap();
    let (path, copy) = (directory.path().join("bus.db"), directory.path().join("copy.db"));
    let bus = EmbeddedBus::open(&path, PARTITIONS).unwrap();
    for round in 0..40 {
        let mut records: Vec<_> = (0..=round % 3).map(|number| record("x".repeat(round * 50 + number))).collect();
        records[0].key = (round % 2 == 0).then(|| Bytes::from("T1"));
        records[0].partition = Some(0);
        records[0].headers.push(("ce_id".to_owned(), Bytes::from(round.to_string())));
        bus.append(records).await.unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    crash_copy(&path, &copy);
    let from_file = EmbeddedBus::open(&copy, PARTITIONS).unwrap();
    let high = bus.bounds(P0).await.unwrap().high;
    assert!(high > 40);
    for offset in 0..high {
        let expected = from_file.read(P0, offset, usize::MAX).await.unwrap();
        assert_eq!(bus.read(P0, offset, usize::MAX).await.unwrap(), expected, "from {offset}");
        let one = bus.read(P0, offset, 1).await.unwrap();
        assert_eq!(
            (one.records.first(), one.next_offset, one.at_end),
            (expected.records.first(), offset + 1, offset + 1 == high)
        );
    }
}

#[tokio::test]
async fn closing_waits_for_what_was_accepted_and_the_place_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.db");
    let bus = EmbeddedBus::open(&path, PARTITIONS).unwrap();
    let identity = bus.identity();
    let last = bus.append(vec![record("x"); 10]).await.unwrap();
    let time = read_all(&*bus, P0, 9).await[0].timestamp;
    drop(bus);
    let bus = EmbeddedBus::open(&path, PARTITIONS).unwrap();
    assert_eq!(bus.identity(), identity);
    assert_eq!(bus.append(vec![record("y")]).await.unwrap()[0], last[9] + 1);
    assert!(read_all(&*bus, P0, 10).await[0].timestamp >= time);
}

#[tokio::test]
async fn the_write_ahead_log_stays_small_when_little_is_appended_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.db");
    let bus = EmbeddedBus::open(&path, PARTITIONS).unwrap();
    let everywhere = |number: i64| {
        let to = |partition| NewRecord { partition: Some(partition), ..record(format!("{number}")) };
        (0..PARTITIONS).map(to).collect::<Vec<_>>()
    };
    let mut largest = 0;
    for number in 0..4000 {
        bus.append(everywhere(number)).await.unwrap();
        bus.read(P0, number, 1024).await.unwrap();
        largest = largest.max(fs::metadata(directory.path().join("bus.db-wal")).unwrap().len());
    }
    assert!(largest < 128 * 1024 * 1024, "the log grew to {largest} bytes");
}

#[test]
fn a_second_opener_is_told_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.db");
    let _bus = EmbeddedBus::open(&path, PARTITIONS).unwrap();
    let message = message(EmbeddedBus::open(&path, PARTITIONS));
    for part in ["bus.db", "another process", "bus.db.lock", "tillstream rig --to http://"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn another_number_of_partitions_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.db");
    drop(EmbeddedBus::open(&path, 8).unwrap());
    let message = message(EmbeddedBus::open(&path, 16));
    assert!(message.contains("created with 8 partitions, but bus.partitions is 16"), "{message}");
}

#[test]
fn a_file_that_is_no_log_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.db");
    fs::write(&path, vec![b'x'; 100_000]).unwrap();
    let message = message(EmbeddedBus::open(&path, 8));
    assert!(message.contains("bus.db is damaged") && message.contains("restore"), "{message}");
    let below_a_file = message_of_directory(&path.join("sub").join("bus.db"));
    assert!(below_a_file.contains("cannot be written to"), "{below_a_file}");
}

fn message_of_directory(path: &Path) -> String {
    message(EmbeddedBus::open(path, 8))
}

#[tokio::test]
async fn damage_inside_is_noticed_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.db");
    let bus = EmbeddedBus::open(&path, PARTITIONS).unwrap();
    bus.append((0..10).map(|number| record(format!("{number}"))).collect()).await.unwrap();
    drop(bus);
    let mut writer = log::open_writer(&path).unwrap();
    diesel::RunQueryDsl::execute(
        diesel::sql_query("UPDATE chunks SET data = CAST(substr(data, 1, length(data) - 1) || 'X' AS BLOB)"),
        &mut writer,
    )
    .unwrap();
    drop(writer);
    let bus = EmbeddedBus::open(&path, PARTITIONS).unwrap();
    let error = bus.read(P0, 0, 1).await.unwrap_err().to_string();
    assert!(error.contains("pos.events/0 at offset 0") && error.contains("damaged"), "{error}");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_goes_on_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let bus = EmbeddedBus::open(directory.path().join("bus.db"), PARTITIONS).unwrap();
    bus.append(vec![record("before")]).await.unwrap();
    bus.limit_pages(20);
    let incompressible: Vec<u8> = (0..1_000_000).map(|_| rand::random()).collect();
    let error = bus.append_lane("lane".to_owned(), 1, vec![record(incompressible.clone())]).await.unwrap_err();
    assert!(matches!(&error, BusError::Unavailable(text) if text.contains("disk")), "{error}");
    assert_eq!(bus.lane_position("lane".to_owned()).await.unwrap(), None);
    assert_eq!(read_all(&*bus, P0, 0).await.len(), 1);

    bus.limit_pages(100_000);
    bus.append_lane("lane".to_owned(), 1, vec![record(incompressible.clone())]).await.unwrap();
    let read = read_all(&*bus, P0, 0).await;
    assert_eq!(read.len(), 2);
    assert_eq!(read[1].value, incompressible);
}

async fn fill(bus: &EmbeddedBus) {
    for _ in 0..10 {
        bus.append((0..1000).map(|_| record((0..50).map(|_| rand::random()).collect::<Vec<u8>>())).collect())
            .await
            .unwrap();
    }
}

fn retaining(directory: &tempfile::TempDir, age: Duration, bytes: u64) -> Arc<EmbeddedBus> {
    let options = RetentionOptions { age, bytes };
    EmbeddedBus::open_with(directory.path().join("bus.db"), PARTITIONS, Some(options)).unwrap()
}

#[tokio::test]
async fn retention_never_removes_what_is_not_processed() {
    let directory = tempfile::tempdir().unwrap();
    let bus = retaining(&directory, Duration::ZERO, 0);
    fill(&bus).await;
    bus.retain_now();
    assert_eq!(bus.bounds(P0).await.unwrap(), Bounds { low: 0, high: 10_000 }, "no floor, nothing removed");

    bus.set_floor(P0, 4500);
    bus.retain_now();
    let low = bus.bounds(P0).await.unwrap().low;
    assert_eq!(low, 4000, "whole chunks below the floor are gone");
    assert_eq!(read_all(&*bus, P0, low).await.len(), 6000);
    let gone = bus.read(P0, 0, 1).await.unwrap_err();
    assert!(matches!(gone, BusError::Gone { offset: 0, low: 4000, .. }), "{gone}");

    bus.set_floor(P0, 10_000);
    bus.retain_now();
    assert_eq!(bus.bounds(P0).await.unwrap().low, 9000, "the newest chunk holds the place");
    drop(bus);
    let bus = retaining(&directory, Duration::ZERO, 0);
    assert_eq!(bus.bounds(P0).await.unwrap(), Bounds { low: 9000, high: 10_000 });
}

#[tokio::test]
async fn retention_by_size_removes_the_oldest_first() {
    let directory = tempfile::tempdir().unwrap();
    let bus = retaining(&directory, Duration::MAX, 300_000);
    fill(&bus).await;
    bus.set_floor(P0, 10_000);
    bus.retain_now();
    let low = bus.bounds(P0).await.unwrap().low;
    assert!((4000..6000).contains(&low), "about half of 10 000 records of 60 bytes fit, but the log begins at {low}");
    let young = retaining_elsewhere().await;
    assert_eq!(young.0.bounds(P0).await.unwrap().low, 0, "younger than an hour and smaller than the limit");
}

async fn retaining_elsewhere() -> (Arc<EmbeddedBus>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let bus = retaining(&directory, Duration::from_hours(1), u64::MAX);
    fill(&bus).await;
    bus.set_floor(P0, 10_000);
    bus.retain_now();
    (bus, directory)
}

#[tokio::test]
async fn a_compacted_topic_keeps_the_newest_record_of_each_key() {
    let directory = tempfile::tempdir().unwrap();
    let bus = retaining(&directory, Duration::MAX, u64::MAX);
    let plugins = TopicPartition::new(Topic::Plugins, 0);
    for revision in 0..100 {
        let key = Some(Bytes::from(format!("plugin-{}", revision % 3)));
        let value = Bytes::from(format!("{revision}"));
        bus.append(vec![NewRecord { topic: Topic::Plugins, partition: None, key, value, headers: Vec::new() }])
            .await
            .unwrap();
    }
    bus.retain_now();
    assert_eq!(read_all(&*bus, plugins, 0).await.len(), 100, "no floor, nothing removed");
    bus.set_floor(plugins, 90);
    bus.retain_now();
    let offsets = |records: Vec<Record>| records.iter().map(|record| record.offset).collect::<Vec<_>>();
    assert_eq!(offsets(read_all(&*bus, plugins, 0).await), (90..100).collect::<Vec<_>>());
    bus.set_floor(plugins, 100);
    let key = Some(Bytes::from_static(b"rare"));
    for _ in 0..40 {
        let record = NewRecord {
            topic: Topic::Plugins,
            partition: None,
            key: key.clone(),
            value: Bytes::new(),
            headers: vec![],
        };
        bus.append(vec![record]).await.unwrap();
    }
    bus.set_floor(plugins, 140);
    bus.retain_now();
    assert_eq!(offsets(read_all(&*bus, plugins, 0).await), vec![97, 98, 99, 139]);
    assert_eq!(offsets(read_all(&*bus, plugins, 98).await), vec![98, 99, 139]);
    assert_eq!(bus.bounds(plugins).await.unwrap(), Bounds { low: 0, high: 140 });
}

#[tokio::test]
async fn an_append_whose_caller_went_away_disturbs_nobody() {
    let (_directory, bus) = fresh();
    for _ in 0..20 {
        let impatient = tokio::time::timeout(Duration::ZERO, bus.append(vec![record("impatient")]));
        let _ = impatient.await;
    }
    let offset = bus.append(vec![record("patient")]).await.unwrap()[0];
    assert_eq!(read_all(&*bus, P0, offset).await.len(), 1);
}

#[tokio::test]
async fn input_topics_are_there_again_after_a_restart_and_have_their_limit() {
    let (directory, bus) = fresh();
    let input = |number: usize| crate::bus::InputTopic::of(&format!("plugin-{number}")).unwrap();
    for number in 0..INPUTS_MAX {
        bus.create_input(input(number)).await.unwrap();
    }
    let refused = bus.create_input(input(INPUTS_MAX)).await.unwrap_err();
    assert!(matches!(refused, BusError::Refused(_)), "{refused}");
    let place = |number| TopicPartition::new(Topic::Input(input(number)), 0);
    let to = |number, value: &'static str| NewRecord { topic: Topic::Input(input(number)), ..record(value) };
    bus.append(vec![to(3, "three"), to(INPUTS_MAX - 1, "last")]).await.unwrap();
    drop(bus);
    let bus = EmbeddedBus::open(directory.path().join("bus.db"), PARTITIONS).unwrap();
    bus.append(vec![to(3, "again")]).await.unwrap();
    assert_eq!(read_all(&*bus, place(3), 0).await.len(), 2);
    assert_eq!(read_all(&*bus, place(INPUTS_MAX - 1), 0).await.len(), 1);
    assert!(bus.append(vec![to(INPUTS_MAX, "nobody")]).await.unwrap_err().to_string().contains("no topic"));
}

/// Reads in transactions of a moment, so that at no time all readers rest.
fn read_all_the_time(path: &Path) -> (Arc<std::sync::atomic::AtomicBool>, Vec<std::thread::JoinHandle<()>>) {
    use diesel::connection::SimpleConnection;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers = (0..3).map(|number| {
        let (path, stop) = (path.to_owned(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut reader = log::open_reader(&path).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                reader.batch_execute("BEGIN; SELECT COUNT(*) FROM chunks;").unwrap();
                std::thread::sleep(Duration::from_millis(15 + number * 5));
                reader.batch_execute("COMMIT").unwrap();
            }
        })
    });
    let readers = readers.collect();
    (stop, readers)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_write_ahead_log_stays_small_beside_readers_that_never_all_rest() {
    const MB: u64 = 1024 * 1024;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.db");
    let bus = EmbeddedBus::open_bounded(&path, PARTITIONS, None, 4 * MB).unwrap();
    let (stop, readers) = read_all_the_time(&path);
    let (mut largest, mut written) = (0, 0);
    while written < 100 * MB {
        let value: Vec<u8> = (0..50_000).map(|_| rand::random()).collect();
        bus.append(vec![record(value); 10]).await.unwrap();
        written += 500_000;
        largest = largest.max(bus.files().unwrap().wal_bytes());
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    assert!(largest < 24 * MB, "of {written} bytes the log held {largest} at a time");
}

#[tokio::test]
async fn while_the_log_is_away_nothing_is_accepted_and_when_it_is_back_offsets_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let (data, moved) = (directory.path().join("data"), directory.path().join("moved"));
    let bus = EmbeddedBus::open(data.join("bus.db"), PARTITIONS).unwrap();
    let first = bus.append(vec![record("before")]).await.unwrap()[0];
    fs::rename(&data, &moved).unwrap();
    let error = bus.append(vec![record("meanwhile")]).await.unwrap_err();
    assert!(matches!(&error, BusError::Unavailable(text) if text.contains("was removed")), "{error}");
    let error = bus.append_lane("lane".to_owned(), 1, vec![record("meanwhile")]).await.unwrap_err();
    assert!(matches!(error, BusError::Unavailable(_)), "{error}");
    // Another log is put in its place.
    drop(EmbeddedBus::open(data.join("bus.db"), PARTITIONS).unwrap());
    let error = bus.append(vec![record("meanwhile")]).await.unwrap_err();
    assert!(matches!(&error, BusError::Unavailable(text) if text.contains("was replaced")), "{error}");
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&moved, &data).unwrap();
    assert_eq!(bus.append(vec![record("after")]).await.unwrap(), [first + 1]);
    let values: Vec<_> = read_all(&*bus, P0, 0).await.into_iter().map(|record| record.value).collect();
    assert_eq!(values, ["before", "after"]);
}
