//! Keeps the events that an alert rests on, whole, beside the alert: it can be explained long after the bus forgot them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::leases::Leases;
use crate::bus::{Bus, BusError, Topic, TopicPartition};
use crate::effect::Position;
use crate::status::{Parked, REST};
use crate::store::{MissingEvidence, Store, StoreError};

/// Alerts looked at in one round.
const ALERTS_MAX: usize = 100;
/// Pause between rounds, unless there is more to do than fits into one: alerts come in swarms, and a round reads the log
/// and writes to the store once for all of them.
const PAUSE: Duration = Duration::from_millis(100);

/// What the process that does this holds, where several could.
const LEASE: &str = "evidence";

/// How long an alert rests of whose events a partition is away.
const AWAY: Duration = Duration::from_secs(2);
/// Its name among the parts of the process.
const PART: &str = "evidence";

/// Copies events from the bus to new alerts until the process ends. With `leases`, one process at a time does. An alert that cannot
/// be read, or whose events cannot, waits; the others go on.
///
/// # Errors
/// If the store or the bus is away; a fresh start goes on where this stopped.
pub async fn run(store: &Store, bus: &dyn Bus, leases: Option<&Leases>, parked: &Parked) -> Result<(), String> {
    let mut resting = BTreeMap::new();
    let mut after = None;
    loop {
        if let Some(leases) = leases
            && leases.hold(&[LEASE.to_owned()]).await.map_err(|error| error.to_string())?.is_empty()
        {
            after = None;
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        after = pass(store, bus, parked, &mut resting, after).await?;
        if after.is_none() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Alerts that were set aside, and until when each rests.
type Resting = BTreeMap<String, Instant>;

/// Looks at some alerts. Answers where the next look goes on; `None` if it begins again with the oldest.
async fn pass(
    store: &Store,
    bus: &dyn Bus,
    parked: &Parked,
    resting: &mut Resting,
    after: Option<(i64, String)>,
) -> Result<Option<(i64, String)>, String> {
    let page = store.alerts_without_evidence_after(after, ALERTS_MAX).await.map_err(|error| error.to_string())?;
    resting.retain(|_, until| *until > Instant::now());
    for (id, reason) in &page.unreadable {
        if resting.insert(id.clone(), Instant::now() + REST).is_none() {
            parked.park(PART, id, reason);
        }
    }
    let mut missing = page.alerts;
    missing.retain(|alert| !resting.contains_key(&alert.alert_id));
    let (events, failed) = read_all(bus, &missing).await?;
    let mut copied = Vec::with_capacity(missing.len());
    for alert in missing {
        let away = alert.events.iter().find_map(|(position, _)| failed.get(&position.partition));
        match away {
            None => copied.push((alert.alert_id.clone(), copies(&alert, &events))),
            Some(why) => set_aside(parked, resting, alert.alert_id, why, AWAY),
        }
    }
    if !copied.is_empty() {
        keep(store, parked, resting, copied).await.map_err(|error| error.to_string())?;
    }
    Ok(page.next)
}

fn set_aside(parked: &Parked, resting: &mut Resting, id: String, why: &str, rest: Duration) {
    parked.park(PART, &id, why);
    resting.insert(id, Instant::now() + rest);
}

/// Stores copies, all at once. Where the store refuses one of them, the others must not wait for it.
async fn keep(
    store: &Store,
    parked: &Parked,
    resting: &mut Resting,
    copied: Vec<(String, Vec<Bytes>)>,
) -> Result<(), StoreError> {
    let ids: Vec<String> = copied.iter().map(|(id, _)| id.clone()).collect();
    match store.store_evidence(copied.clone()).await {
        Err(StoreError::Refused(_)) => {
            for one in copied {
                let id = one.0.clone();
                match store.store_evidence(vec![one]).await {
                    Err(error @ StoreError::Refused(_)) => set_aside(parked, resting, id, &error.to_string(), REST),
                    done => {
                        done?;
                        parked.unpark(PART, &id);
                    }
                }
            }
            Ok(())
        }
        done => {
            if done.is_ok() {
                for id in &ids {
                    parked.unpark(PART, id);
                }
            }
            done
        }
    }
}

/// The events of an alert that are still on the bus.
fn copies(alert: &MissingEvidence, events: &BTreeMap<Position, Bytes>) -> Vec<Bytes> {
    let found = alert.events.iter().filter_map(|(position, name)| {
        let event = events.get(position).cloned();
        if event.is_none() {
            tracing::warn!(alert = alert.alert_id, name, "an event of this alert is no longer on the bus");
        }
        event
    });
    found.collect()
}

/// Partitions that cannot be read now, each with the reason.
type Failed = BTreeMap<u32, String>;

/// Every event that these alerts name, each place on the bus read once: a read brings its neighbours along.
async fn read_all(bus: &dyn Bus, alerts: &[MissingEvidence]) -> Result<(BTreeMap<Position, Bytes>, Failed), String> {
    let wanted: BTreeSet<Position> =
        alerts.iter().flat_map(|alert| &alert.events).map(|(position, _)| *position).collect();
    let (mut found, mut failed) = (BTreeMap::new(), Failed::new());
    let mut read_to = Position::default();
    for position in &wanted {
        let Position { partition, offset } = *position;
        if failed.contains_key(&partition) || (partition == read_to.partition && offset < read_to.offset) {
            continue;
        }
        let fetched = match bus.read(TopicPartition::new(Topic::Events, partition), offset, 1).await {
            Ok(fetched) => fetched,
            Err(BusError::Gone { .. }) => continue,
            Err(error) => {
                failed.insert(partition, error.to_string());
                continue;
            }
        };
        for record in fetched.records {
            let position = Position { partition, offset: record.offset };
            if wanted.contains(&position) {
                // A copy of its own: its neighbours need not stay in memory.
                found.insert(position, Bytes::copy_from_slice(&record.value));
            }
        }
        read_to = Position { partition, offset: fetched.next_offset };
    }
    let partitions: BTreeSet<u32> = wanted.iter().map(|position| position.partition).collect();
    match failed.first_key_value() {
        // The bus is away, for all of them.
        Some((_, why)) if failed.len() == partitions.len() && failed.len() > 1 => Err(why.clone()),
        _ => Ok((found, failed)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use diesel::Connection;
    use diesel::connection::SimpleConnection;

    use super::*;
    use crate::bus::NewRecord;
    use crate::bus::simulated::SimulatedBus;
    use crate::effect::{AlertRecord, Record};
    use crate::event::{AlertRaised, Id, Scope, Severity};
    use crate::store::Commit;
    use crate::time::Timestamp;

    fn alert(id: &str, partition: u32) -> Record {
        let id_of = |text: &str| Id::new(text).unwrap();
        let alert = AlertRaised {
            alert_id: id_of(id),
            rule_id: id_of("void-rate"),
            rule_revision: 1,
            severity: Severity::Low,
            scope: Scope::Terminal,
            entity: id_of("T1"),
            observed: 1.0,
            limit: 0.5,
            window_seconds: None,
            event_ids: vec![format!("/stores/S1/terminals/T1#{id}")],
            message: "voids too often".to_owned(),
        };
        Record::Alert(Box::new(AlertRecord {
            alert,
            at: Timestamp::from_millis(5),
            store_id: "S1".to_owned(),
            terminal_id: None,
            employee_id: None,
            evidence: vec![Position { partition, offset: 0 }],
            shadow: false,
        }))
    }

    #[tokio::test]
    async fn an_alert_that_cannot_be_read_or_whose_partition_is_away_keeps_no_other_from_its_evidence() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db").display().to_string();
        let store = Store::open(&format!("sqlite:{path}")).await.unwrap();
        let bus = SimulatedBus::new(4, 5);
        for partition in 0..2 {
            let (topic, partition) = (Topic::Events, Some(partition));
            let value = Bytes::from_static(b"event");
            bus.append(vec![NewRecord { topic, partition, key: None, value, headers: Vec::new() }]).await.unwrap();
        }
        // Those at fault are the oldest.
        let records = vec![alert("a-garbled", 0), alert("b-away", 1), alert("c", 0)];
        store.commit(Arc::new(Commit { settings_epoch: 1, records, ..Commit::default() })).await.unwrap();
        let mut database = diesel::SqliteConnection::establish(&path).unwrap();
        database.batch_execute("UPDATE alerts SET alert = '{' WHERE id = 'a-garbled'").unwrap();
        let away = TopicPartition::new(Topic::Events, 1);
        bus.set_away(away, true);
        let parked = Parked::default();
        let copied = async |id: &str| {
            while store.alert(id).await.unwrap().events.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            ended = run(&store, &bus, None, &parked) => panic!("{ended:?}"),
            () = copied("c") => {}
        }
        let names: Vec<_> = parked.list().into_iter().map(|item| item.name).collect();
        assert_eq!(names, ["a-garbled", "b-away"]);
        bus.set_away(away, false);
        tokio::select! {
            ended = run(&store, &bus, None, &parked) => panic!("{ended:?}"),
            () = copied("b-away") => {}
        }
        assert!(parked.list().iter().all(|item| item.name != "b-away"), "it goes on");
    }
}
