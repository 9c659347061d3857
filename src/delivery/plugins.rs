//! What plugins in other languages tell Tillstream over the bus: their manifests, and the events that they could not handle.
//!
//! Who owns a partition of `pos.events` reads the partition of that number of `pos.deadletters`, and who owns the first one
//! also the manifests, so that each is read by one process. Taking a place raises its epoch and a commit requires it, as
//! everywhere. A manifest that is read twice changes nothing the second time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::ownership::{self, Held};
use super::{Backoff, PassError, Resting};
use crate::actors::shard::ShardContext;
use crate::bus::{BusError, Record, Topic, TopicPartition};
use crate::control::{ManifestFault, ManifestOutcome, Snapshot};
use crate::event::{redact, stable_id};
use crate::store::StoreError;
use crate::store::model::{Commit, DeadLetter, DeadLetterStatus, OutboxRow, PartitionCommit, PartitionRow};
use crate::time::Timestamp;

/// Bytes of one partition that are read at once.
const READ_BYTES_MAX: usize = 1024 * 1024;
/// How often the ends are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Its name among the parts of the process.
const PART: &str = "plugins-intake";
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(5) };
/// The header by which a plugin says that it wrote a dead letter itself.
const WRITER: &str = "tillstream-plugin";
/// Offsets that are passed over at once where nothing can be decoded; more are taken up with the next pass.
const UNREADABLE_MAX: i64 = 1000;
/// Longest id of a dead letter, and longest message.
const ID_BYTES_MAX: usize = 64;
const MESSAGE_BYTES_MAX: usize = 2000;

/// Reads what plugins in other languages tell.
pub struct PluginIntake {
    context: ShardContext,
}

impl PluginIntake {
    /// An intake for the partitions that this process owns.
    #[must_use]
    pub const fn new(context: ShardContext) -> Self {
        Self { context }
    }

    /// Reads until the future is dropped, which is safe at any moment.
    pub async fn run(&self) {
        let mut held = Held::new();
        let mut resting = Resting::default();
        let mut failures = 0;
        loop {
            match self.pass(&mut held, &mut resting).await {
                Ok(true) => failures = 0,
                Ok(false) => {
                    failures = 0;
                    tokio::time::sleep(LOOK).await;
                }
                Err(PassError::Store(StoreError::Fenced(place))) => {
                    tracing::info!(%place, "another process reads this partition of what plugins tell now");
                    held.remove(&place);
                    tokio::time::sleep(BACKOFF.pause(1)).await;
                }
                Err(PassError::Store(StoreError::SettingsMoved)) => {
                    if let Err(error) = self.context.control.refresh().await {
                        tracing::warn!(%error, "the new settings cannot be read yet; trying again");
                        tokio::time::sleep(BACKOFF.pause(2)).await;
                    }
                }
                Err(error) => {
                    failures += 1;
                    // Where the store stands may be unknown: it is read again.
                    held.clear();
                    if failures == 1 {
                        tracing::warn!(%error, "what plugins in other languages tell cannot be read; trying again");
                    }
                    tokio::time::sleep(BACKOFF.pause(failures)).await;
                }
            }
        }
    }

    /// What this process reads. Without plugins in other languages nobody but Tillstream writes dead letters.
    fn wanted(&self) -> BTreeMap<TopicPartition, (u32, i64)> {
        let has_plugins = !self.context.control.snapshot().externals().is_empty();
        let owned = ownership::owned(&self.context.status);
        let manifests = owned.get(&0).map(|epoch| (TopicPartition::new(Topic::Manifests, 0), (0, *epoch)));
        let letters = owned.iter().filter(|_| has_plugins);
        let letters =
            letters.map(|(number, epoch)| (TopicPartition::new(Topic::DeadLetters, *number), (*number, *epoch)));
        manifests.into_iter().chain(letters).collect()
    }

    /// Reads and commits what there is. True if there may be more.
    async fn pass(&self, held: &mut Held, resting: &mut Resting) -> Result<bool, PassError> {
        let ShardContext { store, status, .. } = &self.context;
        ownership::keep_up(store, status, held, self.wanted()).await?;
        let mut read = false;
        let parked = &self.context.status.parked;
        let places: Vec<_> = held.keys().copied().filter(|place| !resting.rests(*place)).collect();
        let (mut failed, mut goes_on) = (Vec::new(), false);
        for place in places {
            match self.read(&held[&place]).await {
                Ok(row) => {
                    goes_on = true;
                    resting.goes_on(parked, PART, place);
                    if let Some(row) = row {
                        held.insert(place, row);
                        read = true;
                    }
                }
                Err(error @ PassError::Store(StoreError::Fenced(_) | StoreError::SettingsMoved)) => return Err(error),
                Err(error) => failed.push((place, error)),
            }
        }
        // Where nothing goes on it is the bus or the store that is away.
        if let (false, Some((_, error))) = (goes_on, failed.first()) {
            let why = error.to_string();
            if matches!(error, PassError::Bus(BusError::Unavailable(_)) | PassError::Store(StoreError::Unavailable(_)))
            {
                return Err(failed.swap_remove(0).1);
            }
            tracing::debug!(why, "no partition of what plugins tell can be read");
        }
        for (place, error) in failed {
            // Where its commit stands may be unknown: it is read again.
            held.remove(&place);
            resting.set_aside(parked, PART, place, &error);
        }
        Ok(read)
    }

    /// Takes in what is new on one partition. Answers where it stands then, if anything was new.
    async fn read(&self, row: &PartitionRow) -> Result<Option<PartitionRow>, PassError> {
        let bus = &self.context.bus;
        let bounds = bus.bounds(row.partition).await?;
        bounds.require(row.partition, row.next_offset)?;
        if bounds.high <= row.next_offset {
            return Ok(None);
        }
        let from = row.next_offset.max(bounds.low);
        let fetched = match bus.read(row.partition, from, READ_BYTES_MAX).await {
            Err(BusError::Gone { low, .. }) => bus.read(row.partition, low, READ_BYTES_MAX).await?,
            Err(BusError::Unreadable { why, .. }) => {
                return self.pass_over(row, from, bounds.high, &why).await.map(Some);
            }
            other => other?,
        };
        if fetched.next_offset <= row.next_offset {
            return Ok(None);
        }
        let mut letters = Vec::new();
        let settings = if row.partition.topic == Topic::Manifests {
            for record in &fetched.records {
                letters.extend(self.take_manifest(row.partition, record).await?);
            }
            // Taking manifests moves the settings, and refusing one does not depend on them.
            self.context.control.snapshot()
        } else {
            // All are judged by the settings that the commit then asks for: a plugin that is withdrawn, or comes back, meanwhile has
            // them judged again.
            let settings = self.context.control.snapshot();
            letters.extend(fetched.records.iter().filter_map(|record| failure(&settings, record)));
            settings
        };
        let mut row = PartitionRow { next_offset: fetched.next_offset, ..row.clone() };
        self.commit(&row, letters, settings.epoch()).await?;
        row.version += 1;
        Ok(Some(row))
    }

    /// Goes on behind records that cannot be decoded, and names them in a dead letter: one of them must not keep every later plugin
    /// from being seen. How far a batch reaches that cannot be decoded only trying tells.
    async fn pass_over(&self, row: &PartitionRow, from: i64, end: i64, why: &str) -> Result<PartitionRow, PassError> {
        let (place, bus) = (row.partition, &self.context.bus);
        let mut next = from + 1;
        while next < end && next - from < UNREADABLE_MAX {
            match bus.read(place, next, 1).await {
                Err(BusError::Unreadable { .. }) => next += 1,
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        tracing::error!(%place, from, next, why, "records of a control topic cannot be decoded and are passed over");
        let now = Timestamp::now();
        let message = shortened(&format!("offsets {from} to {} are passed over: {why}", next - 1), MESSAGE_BYTES_MAX);
        let record = Record { offset: from, timestamp: now, key: None, value: Bytes::new(), headers: Vec::new() };
        let letter = DeadLetter::of_record(place, &record, now, ("unreadable", None, message));
        let mut row = PartitionRow { next_offset: next, ..row.clone() };
        self.commit(&row, vec![letter], self.context.control.snapshot().epoch()).await?;
        row.version += 1;
        Ok(row)
    }

    async fn commit(
        &self,
        row: &PartitionRow,
        mut letters: Vec<DeadLetter>,
        settings_epoch: i64,
    ) -> Result<(), PassError> {
        self.keep_known_ids(&mut letters).await?;
        // What plugins wrote is on its topic already; what Tillstream refuses is told like all else.
        let copies: Vec<_> = letters.iter().filter(|letter| letter.plugin.is_none()).map(DeadLetter::copy).collect();
        let lane = row.partition.to_string();
        let outbox = (!copies.is_empty()).then(|| OutboxRow { lane, seq: row.version + 1, records: copies });
        let count = letters.len() as u64;
        let commit = Commit {
            partitions: vec![PartitionCommit { row: row.clone() }],
            settings_epoch,
            dead_letters: letters,
            outbox: outbox.into_iter().collect(),
            ..Commit::default()
        };
        self.context.store.commit(Arc::new(commit)).await?;
        self.context.status.totals.dead_letters.add(count);
        if count > 0 {
            self.context.outbox.notify_one();
        }
        Ok(())
    }

    /// A replay that failed again opens its dead letter again, if that is one of the same plugin.
    async fn keep_known_ids(&self, letters: &mut [DeadLetter]) -> Result<(), StoreError> {
        for letter in letters {
            let Some(replayed) = letter.field.take_if(|_| letter.plugin.is_some()) else {
                continue;
            };
            match self.context.store.dead_letter(&replayed).await {
                Ok(known) if known.letter.plugin == letter.plugin => letter.id = replayed,
                Ok(_) | Err(StoreError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hands a manifest to control; one that is refused is a dead letter.
    async fn take_manifest(&self, place: TopicPartition, record: &Record) -> Result<Option<DeadLetter>, PassError> {
        let control = &self.context.control;
        let outcome = control.take_manifest(&*self.context.bus, record).await;
        let errors = match outcome? {
            ManifestOutcome::Taken => return Ok(None),
            ManifestOutcome::Refused(errors) => errors,
        };
        let first = errors.first().map(|error| error.field.clone()).filter(|field| !field.is_empty());
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let fault = ("manifest_refused", first, shortened(&texts.join("; "), MESSAGE_BYTES_MAX));
        Ok(Some(DeadLetter::of_record(place, record, record.timestamp, fault)))
    }
}

impl From<ManifestFault> for PassError {
    fn from(fault: ManifestFault) -> Self {
        match fault {
            ManifestFault::Store(error) => Self::Store(error),
            ManifestFault::Bus(error) => Self::Bus(error),
        }
    }
}

fn shortened(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

/// The dead letter that a plugin wrote, if it is one of a plugin that is known. Its `field` holds the id of the dead letter
/// whose replay failed, until that has been looked up.
fn failure(settings: &Snapshot, record: &Record) -> Option<DeadLetter> {
    let header = |name: &str| {
        let (_, value) = record.headers.iter().find(|(known, _)| known == name)?;
        std::str::from_utf8(value).ok()
    };
    let plugin = settings.external(header(WRITER)?)?;
    let input = Topic::Input(plugin.manifest.input);
    let partition = header("partition").and_then(|number| number.parse().ok()).unwrap_or_default();
    let place = TopicPartition::new(input, partition);
    let offset: i64 = header("offset").and_then(|number| number.parse().ok()).unwrap_or(record.offset);
    let entity = header("tillstream-entity").map_or_else(
        || record.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned(),
        ToOwned::to_owned,
    );
    let entity = format!("{}:{entity}", plugin.manifest.document.scope.as_str());
    Some(DeadLetter {
        id: stable_id(&["dead_letter", &place.to_string(), &offset.to_string(), &plugin.row.name, &entity]),
        at: record.timestamp,
        status: DeadLetterStatus::Open,
        reason: "plugin_failed".to_owned(),
        field: header("tillstream-dead-letter").map(|id| shortened(id, ID_BYTES_MAX)),
        message: shortened(header("message").unwrap_or("the plugin does not say why"), MESSAGE_BYTES_MAX),
        plugin: Some(plugin.row.name.clone()),
        entity: Some(entity),
        partition: place,
        offset,
        clock: Timestamp::MIN,
        key: record.key.clone(),
        // The input's headers are made anew for a replay.
        headers: Vec::new(),
        bytes: Bytes::from(redact(&record.value)),
        attempts: 1,
    })
}
