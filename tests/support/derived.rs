//! What plugins published, read from the bus.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tillstream::bus::embedded::EmbeddedBus;
use tillstream::bus::{Bus, Topic, TopicPartition};

use super::results;
use crate::oracle::age::Required;
use crate::oracle::fraud::Alert;
use crate::oracle::recommend::Made;
use crate::oracle::time_sheets::AutoLogout;

const BYTES_MAX: usize = 4 << 20;

/// The derived events on the bus by id, each whole.
pub(crate) struct Derived(BTreeMap<String, Value>);

impl Derived {
    /// Reads them all from a bus file; none may be there twice.
    pub(crate) fn on(bus: &Path, partitions: u32) -> Self {
        Self::opened_by(partitions, || async {
            EmbeddedBus::open(bus, partitions).expect("the bus file can be opened") as Arc<dyn Bus>
        })
    }

    /// Reads them all from a bus file whose store was restored: some may be there again, in the same words.
    pub(crate) fn after_restore(bus: &Path, partitions: u32) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let bus = EmbeddedBus::open(bus, partitions).expect("the bus file can be opened");
        Self::read(&runtime, &*bus, partitions).0
    }

    /// Reads them all; none may be there twice. On a thread of its own, since the caller may be async.
    pub(crate) fn opened_by<F: Future<Output = Arc<dyn Bus>>>(
        partitions: u32,
        open: impl FnOnce() -> F + Send,
    ) -> Self {
        std::thread::scope(|scope| {
            let read = scope.spawn(|| {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                let bus = runtime.block_on(open());
                Self::read(&runtime, &*bus, partitions)
            });
            let (events, repeated) = read.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert!(repeated.is_empty(), "on the bus twice: {repeated:?}");
            events
        })
    }

    /// All of them, and which are there again.
    fn read(runtime: &tokio::runtime::Runtime, bus: &dyn Bus, partitions: u32) -> (Self, Vec<String>) {
        let mut repeated = Vec::new();
        let mut events = BTreeMap::new();
        for partition in 0..partitions {
            let from = TopicPartition::new(Topic::Events, partition);
            let mut offset = runtime.block_on(bus.bounds(from)).expect("the bus can be read").low;
            loop {
                let fetched = runtime.block_on(bus.read(from, offset, BYTES_MAX)).expect("the bus can be read");
                for record in &fetched.records {
                    let Ok(event) = serde_json::from_slice::<Value>(&record.value) else { continue };
                    let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                    if text("source").starts_with("/plugins/") && text("type").starts_with("pos.") {
                        let id = text("id");
                        if let Some(before) = events.insert(id.clone(), event) {
                            assert_eq!(before, events[&id], "two events of one id");
                            repeated.push(id);
                        }
                    }
                }
                if fetched.at_end {
                    break;
                }
                offset = fetched.next_offset;
            }
        }
        (Self(events), repeated)
    }

    /// Every event, written out whole.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.values().map(Value::to_string).collect()
    }

    /// Time and data of the events of one type.
    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (i64, &'a Value)> {
        self.0.values().filter(move |event| event["type"] == kind).map(|event| {
            let time = event["time"].as_str().expect("a time").parse::<jiff::Timestamp>().expect("RFC 3339");
            (time.as_millisecond(), &event["data"])
        })
    }

    pub(crate) fn auto_logouts(&self) -> Vec<AutoLogout> {
        let read = |(time, data): (i64, &Value)| AutoLogout {
            employee: text(data, "employeeId"),
            terminal: text(data, "terminalId"),
            seconds: data["sessionSeconds"].as_i64().expect("seconds"),
            cause: text(data, "cause"),
            time,
        };
        self.of("pos.employee.auto_logged_out").map(read).collect()
    }

    pub(crate) fn recommendations(&self) -> Vec<Made> {
        let read = |(_, data): (i64, &Value)| Made {
            basket: text(data, "basketId"),
            product: text(data, "productId"),
            recommended: data["recommended"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|one| (text(one, "productId"), text(one, "reason")))
                .collect(),
        };
        self.of("pos.recommendation.made").map(read).collect()
    }

    /// The alerts; as events they do not name store, terminal and employee.
    pub(crate) fn alerts(&self) -> Vec<Alert> {
        self.of("pos.fraud.alert_raised").map(|(time, data)| results::alert(data, time)).collect()
    }

    pub(crate) fn age_checks_required(&self) -> Vec<Required> {
        let read = |(_, data): (i64, &Value)| Required {
            basket: text(data, "basketId"),
            employee: text(data, "employeeId"),
            minimum_age: data["minimumAge"].as_u64().expect("an age"),
            challenge_age: data.get("challengeAge").and_then(Value::as_u64),
            product: text(data, "productId"),
            category: text(data, "category"),
            jurisdiction: data.get("jurisdiction").and_then(Value::as_str).map(ToOwned::to_owned),
        };
        self.of("pos.age.verification_required").map(read).collect()
    }

    /// Basket, customer and error of the look-ups that failed.
    pub(crate) fn failed_lookups(&self) -> Vec<(String, String, String)> {
        let read = |(_, data): (i64, &Value)| (text(data, "basketId"), text(data, "customerId"), text(data, "error"));
        self.of("pos.customer.lookup_failed").map(read).collect()
    }
}

fn text(data: &Value, key: &str) -> String {
    data[key].as_str().expect("a text").to_owned()
}
