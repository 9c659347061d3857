//! What every bus must do, as tests that run against each implementation: [`bus_suite!`] makes a module of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::partitioner::partition_of;
use super::{Bounds, Bus, BusError, Consumer, ConsumerEvent, Fetched, NewRecord, Topic, TopicPartition};
use crate::time::Timestamp;

/// Partitions of the bus that the suite asks for.
pub(super) const PARTITIONS: u32 = 4;
const P0: TopicPartition = TopicPartition::new(Topic::Events, 0);

/// A record for partition 0 of `pos.events`.
pub(super) fn record(value: impl Into<Bytes>) -> NewRecord {
    let headers = vec![("content-type".to_owned(), Bytes::from_static(b"application/cloudevents+json"))];
    NewRecord {
        topic: Topic::Events,
        partition: Some(0),
        key: Some(Bytes::from_static(b"T1")),
        value: value.into(),
        headers,
    }
}

/// Everything of a partition from an offset on, up to what is there now. On Kafka a transaction can be read a moment after
/// its end was acknowledged.
pub(crate) async fn read_all(bus: &dyn Bus, from: TopicPartition, mut offset: i64) -> Vec<super::Record> {
    let mut records = Vec::new();
    loop {
        let end = bus.bounds(from).await.unwrap().high;
        let fetched = bus.read(from, offset, 10_000).await.unwrap();
        offset = fetched.next_offset;
        records.extend(fetched.records);
        if fetched.at_end && offset >= end {
            return records;
        }
    }
}

/// Fetches until something comes or the end is reached.
async fn fetch(consumer: &mut dyn Consumer, offset: i64, bytes_max: usize) -> Fetched {
    loop {
        let fetched = consumer.fetch(P0, offset, bytes_max).await.unwrap();
        if fetched.at_end || fetched.next_offset > offset {
            return fetched;
        }
        consumer.next().await.unwrap();
    }
}

fn values(records: &[super::Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()).collect()
}

pub(super) async fn records_keep_their_order_and_get_consecutive_offsets(bus: Arc<dyn Bus>) {
    let first = bus.append((0..2500).map(|number| record(format!("a{number}"))).collect()).await.unwrap();
    let second = bus.append(vec![record("b0"), record("b1")]).await.unwrap();
    assert_eq!(first, (0..2500).collect::<Vec<_>>());
    assert_eq!(second, vec![2500, 2501]);
    let read = read_all(&*bus, P0, 0).await;
    assert_eq!(read.iter().map(|record| record.offset).collect::<Vec<_>>(), (0..2502).collect::<Vec<_>>());
    let expected: Vec<_> = (0..2500).map(|number| format!("a{number}")).chain(["b0".into(), "b1".into()]).collect();
    assert_eq!(values(&read), expected);
    assert_eq!(bus.bounds(P0).await.unwrap(), Bounds { low: 0, high: 2502 });
}

pub(super) async fn the_input_topic_of_a_plugin_is_there_once_it_was_made(bus: Arc<dyn Bus>) {
    let input = super::InputTopic::of("till-anomaly").unwrap();
    let to_input = |value: &str| NewRecord { topic: Topic::Input(input), partition: None, ..record(value.to_owned()) };
    bus.create_input(input).await.unwrap();
    bus.create_input(input).await.unwrap();
    for _ in 0..2 {
        // Once, however often the relay sends it.
        bus.append_lane("lane".to_owned(), 1, vec![to_input("a"), record("b"), to_input("c")]).await.unwrap();
    }
    bus.append(vec![to_input("d")]).await.unwrap();
    let place = TopicPartition::new(Topic::Input(input), partition_of(b"T1", PARTITIONS));
    assert_eq!(values(&read_all(&*bus, place, 0).await), ["a", "c", "d"]);
    assert_eq!(values(&read_all(&*bus, P0, 0).await), ["b"]);
}

pub(super) async fn concurrent_calls_stay_in_one_piece(bus: Arc<dyn Bus>) {
    let calls = (0..40).map(|call| bus.append((0..30).map(|number| record(format!("{call}/{number}"))).collect()));
    let offsets = futures_util::future::try_join_all(calls).await.unwrap();
    let read = values(&read_all(&*bus, P0, 0).await);
    assert_eq!(read.len(), 1200);
    for (call, offsets) in offsets.iter().enumerate() {
        for (number, offset) in offsets.iter().enumerate() {
            assert_eq!(read[usize::try_from(*offset).unwrap()], format!("{call}/{number}"));
            assert_eq!(*offset, offsets[0] + i64::try_from(number).unwrap());
        }
    }
}

pub(super) async fn records_without_a_partition_go_where_the_java_client_would_put_them(bus: Arc<dyn Bus>) {
    for key in ["T0001", "T0002", "foobar", "", "21"] {
        let partition = partition_of(key.as_bytes(), PARTITIONS);
        let from = TopicPartition::new(Topic::Events, partition);
        let high = bus.bounds(from).await.unwrap().high;
        let key = Some(Bytes::copy_from_slice(key.as_bytes()));
        let offsets = bus.append(vec![NewRecord { partition: None, key: key.clone(), ..record("x") }]).await.unwrap();
        assert_eq!(offsets, vec![high]);
        assert_eq!(bus.read(from, high, 1).await.unwrap().records[0].key, key);
    }
    let keyless = NewRecord { partition: None, key: None, ..record("keyless") };
    let offset = bus.append(vec![keyless]).await.unwrap()[0];
    assert_eq!(bus.read(P0, offset, 1).await.unwrap().records[0].key, None);
}

pub(super) async fn keys_values_and_headers_come_back_as_they_were(bus: Arc<dyn Bus>) {
    let big: Vec<u8> =
        (0..3_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let records = vec![
        NewRecord { key: None, headers: Vec::new(), ..record("") },
        NewRecord {
            key: Some(Bytes::new()),
            headers: vec![("reason".into(), "not_json".into()), (String::new(), Bytes::new())],
            ..record("x")
        },
        record(big),
        record("after"),
    ];
    bus.append(records.clone()).await.unwrap();
    let read = read_all(&*bus, P0, 0).await;
    assert_eq!(read.len(), records.len());
    for (read, written) in read.iter().zip(&records) {
        assert_eq!((&read.key, &read.value, &read.headers), (&written.key, &written.value, &written.headers));
    }
}

pub(super) async fn a_lane_never_goes_back(bus: Arc<dyn Bus>) {
    let lane = || "pos.events/0".to_owned();
    assert_eq!(bus.lane_position(lane()).await.unwrap(), None);
    bus.append_lane(lane(), 7, vec![record("seven")]).await.unwrap();
    bus.append_lane(lane(), 7, vec![record("seven again")]).await.unwrap();
    bus.append_lane(lane(), 3, vec![record("three, late")]).await.unwrap();
    bus.append_lane("other".to_owned(), 1, vec![record("other lane")]).await.unwrap();
    let (eight, again) = tokio::join!(
        bus.append_lane(lane(), 8, vec![record("eight")]),
        bus.append_lane(lane(), 8, vec![record("eight again")])
    );
    eight.unwrap();
    again.unwrap();
    bus.append_lane(lane(), 9, Vec::new()).await.unwrap();
    assert_eq!(bus.lane_position(lane()).await.unwrap(), Some(9));
    assert_eq!(bus.lane_position("other".to_owned()).await.unwrap(), Some(1));
    let read = values(&read_all(&*bus, P0, 0).await);
    assert_eq!(read[..2], ["seven", "other lane"]);
    assert!(read.len() == 3 && read[2].starts_with("eight"), "{read:?}");
}

pub(super) async fn the_position_of_a_lane_counts_what_a_caller_that_went_away_handed_over(bus: Arc<dyn Bus>) {
    for position in 1..=20 {
        let impatient = bus.append_lane("lane".to_owned(), position, vec![record(position.to_string())]);
        let _ = tokio::time::timeout(Duration::ZERO, impatient).await;
        let known = bus.lane_position("lane".to_owned()).await.unwrap();
        let on_bus = read_all(&*bus, P0, 0).await.len();
        assert_eq!(
            usize::try_from(known.unwrap_or(0)).unwrap(),
            on_bus,
            "a relay that starts now would send something twice, or not at all"
        );
    }
}

pub(super) async fn reading_goes_on_where_it_stopped(bus: Arc<dyn Bus>) {
    assert_eq!(bus.read(P0, 0, 1).await.unwrap(), Fetched { records: vec![], next_offset: 0, at_end: true });
    bus.append((0..5000).map(|number| record(format!("{number:0100}"))).collect()).await.unwrap();
    let first = bus.read(P0, 10, 1).await.unwrap();
    assert_eq!(first.records[0].offset, 10);
    assert!(!first.at_end && first.next_offset < 5000, "about one byte was asked for, not all");
    let rest = read_all(&*bus, P0, first.next_offset).await;
    assert_eq!(rest[0].offset, first.next_offset);
    assert_eq!(rest.last().unwrap().offset, 4999);
    let end = bus.read(P0, 5000, 1).await.unwrap();
    assert!(end.at_end && end.records.is_empty() && end.next_offset == 5000);
    bus.read(P0, 5001, 1).await.unwrap_err();
    let nowhere = TopicPartition::new(Topic::Events, PARTITIONS);
    assert!(matches!(bus.read(nowhere, 0, 1).await, Err(BusError::Refused(_))));
}

pub(super) async fn time_grows_and_finds_offsets(bus: Arc<dyn Bus>) {
    let before = Timestamp::now();
    bus.append((0..10).map(|number| record(format!("{number}"))).collect()).await.unwrap();
    let appended = Timestamp::now();
    while Timestamp::now().millis_since(appended) < 20 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let between = Timestamp::now();
    bus.append((0..10).map(|number| record(format!("{number}"))).collect()).await.unwrap();
    let read = read_all(&*bus, P0, 0).await;
    assert!(read.is_sorted_by_key(|record| record.timestamp));
    assert!(read[9].timestamp < between && read[10].timestamp >= between);
    assert_eq!(bus.offset_at(P0, before).await.unwrap(), 0);
    assert_eq!(bus.offset_at(P0, between).await.unwrap(), 10);
    assert_eq!(bus.offset_at(P0, Timestamp::MAX).await.unwrap(), 20);
}

pub(super) async fn a_record_that_nobody_can_take_is_refused_and_nothing_of_its_call_appended(bus: Arc<dyn Bus>) {
    let nowhere = NewRecord { partition: Some(PARTITIONS), ..record("nowhere") };
    assert!(matches!(bus.append(vec![record("ok"), nowhere]).await, Err(BusError::Refused(_))));
    let huge = record(vec![0; 17 * 1024 * 1024]);
    assert!(matches!(bus.append_lane("l".into(), 1, vec![huge]).await, Err(BusError::Refused(_))));
    assert_eq!(bus.bounds(P0).await.unwrap().high, 0);
    assert_eq!(bus.lane_position("l".into()).await.unwrap(), None);
}

pub(super) async fn a_consumer_owns_all_and_hears_of_news(bus: Arc<dyn Bus>) {
    bus.append(vec![record("early")]).await.unwrap();
    let mut consumer = bus.consumer().unwrap();
    assert_eq!(consumer.next().await.unwrap(), ConsumerEvent::Assigned((0..PARTITIONS).collect()));
    assert_eq!(consumer.next().await.unwrap(), ConsumerEvent::Ready);
    assert_eq!(fetch(&mut *consumer, 0, 1000).await.records.len(), 1);

    let mut offset = 1;
    for round in 0..20 {
        let appended = bus.append(vec![record(format!("{round}")), record("second")]);
        let (event, appended) = tokio::join!(consumer.next(), appended);
        appended.unwrap();
        assert_eq!(event.unwrap(), ConsumerEvent::Ready);
        while offset < 1 + 2 * (round + 1) {
            let fetched = consumer.fetch(P0, offset, 1000).await.unwrap();
            offset = fetched.next_offset;
            if fetched.at_end && offset < 1 + 2 * (round + 1) {
                consumer.next().await.unwrap();
            }
        }
    }
    consumer.leave().await;
}

pub(super) async fn a_consumer_reads_on_past_what_it_prefetched(bus: Arc<dyn Bus>) {
    bus.append((0..3000).map(|number| record(format!("{number:0400}"))).collect()).await.unwrap();
    let mut consumer = bus.consumer().unwrap();
    let first = fetch(&mut *consumer, 0, 1).await;
    assert!(!first.at_end);
    // Appended behind whatever has been prefetched by now.
    bus.append(vec![record("last")]).await.unwrap();
    let (mut offset, mut read) = (first.next_offset, first.records.len());
    loop {
        let fetched = fetch(&mut *consumer, offset, 10_000).await;
        assert!(fetched.records.first().is_none_or(|record| record.offset == offset));
        read += fetched.records.len();
        offset = fetched.next_offset;
        if fetched.at_end && offset > 3000 {
            break;
        }
    }
    assert_eq!((read, offset), (3001, 3001));
    let back = fetch(&mut *consumer, 5, 1).await;
    assert_eq!(back.records[0].offset, 5, "a consumer may go back at any time");
}

pub(super) async fn a_newer_consumer_fences_the_older(bus: Arc<dyn Bus>) {
    let mut older = bus.consumer().unwrap();
    older.next().await.unwrap();
    older.next().await.unwrap();
    let mut newer = bus.consumer().unwrap();
    assert!(matches!(older.next().await, Err(BusError::Fenced(_))));
    assert!(matches!(older.fetch(P0, 0, 1).await, Err(BusError::Fenced(_))));
    assert!(matches!(newer.next().await, Ok(ConsumerEvent::Assigned(_))));
}

/// One test for each function of the suite. `$open` gives `(guard, Arc<dyn Bus>)`. With `sole`: a bus that serves one
/// consumer at a time.
macro_rules! bus_suite {
    ($open:expr) => {
        crate::bus::suite::bus_suite! { $open,
            records_keep_their_order_and_get_consecutive_offsets
            concurrent_calls_stay_in_one_piece
            the_input_topic_of_a_plugin_is_there_once_it_was_made
            records_without_a_partition_go_where_the_java_client_would_put_them
            keys_values_and_headers_come_back_as_they_were
            a_lane_never_goes_back
            the_position_of_a_lane_counts_what_a_caller_that_went_away_handed_over
            reading_goes_on_where_it_stopped
            time_grows_and_finds_offsets
            a_record_that_nobody_can_take_is_refused_and_nothing_of_its_call_appended
            a_consumer_owns_all_and_hears_of_news
            a_consumer_reads_on_past_what_it_prefetched
        }
    };
    ($open:expr, sole) => {
        crate::bus::suite::bus_suite! { $open }
        crate::bus::suite::bus_suite! { $open, a_newer_consumer_fences_the_older }
    };
    ($open:expr, $($test:ident)*) => {$(
        #[tokio::test]
        async fn $test() {
            let (_guard, bus) = $open;
            crate::bus::suite::$test(bus).await;
        }
    )*};
}
pub(super) use bus_suite;
