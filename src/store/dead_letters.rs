//! Dead letters: what could not be processed or delivered, until a person replays or discards it.

mod row;

use self::row::{NewRow, Row};
use super::Store;
use super::audit::{Decision, NewEntry};
use super::connection::{ROWS_PER_STATEMENT, on, queries, statements};
use super::cursor::{Cut, Page};
use super::model::{DeadLetter, DeadLetterStatus, StoreError};
use super::outbox::lane;
use super::schema::dead_letters;
use crate::bus::{NewRecord, Topic};
use crate::plugins::Plugin;
use crate::plugins::order_delivery::OrderDelivery;
use crate::time::Timestamp;

/// Most dead letters that one call decides on.
pub const DECISION_LETTERS_MAX: usize = 10_000;
/// Bytes of the dead letters that one call applies again: it copies them into the outbox, in one transaction.
const REPLAY_BYTES_MAX: usize = 64 << 20;
/// Bytes of the dead letters of one page. A page ends before its limit rather than hold more; a larger letter comes alone.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// What the audit calls these decisions.
const DISCARD: &str = "deadletter.discard";
const REPLAY: &str = "deadletter.replay";
/// Ids that an audit entry names.
const AUDITED_IDS_MAX: usize = 100;

/// A dead letter with what a person decided about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// The letter.
    pub letter: DeadLetter,
    /// When its replay was asked for; the status stays `open` until the replay has been applied.
    pub replay_requested_at: Option<Timestamp>,
}

/// Which dead letters; absent fields match all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Where they stand.
    pub status: Option<DeadLetterStatus>,
    /// Machine-readable reason.
    pub reason: Option<String>,
    /// The plugin that failed.
    pub plugin: Option<String>,
    /// Those about this terminal: the key of their records.
    pub terminal: Option<String>,
    /// Found at or after this time.
    pub from: Option<Timestamp>,
    /// Found before this time.
    pub to: Option<Timestamp>,
}

/// What is known of a dead letter without reading it whole.
#[derive(Debug, Clone)]
pub(super) struct Head {
    id: String,
    plugin: Option<String>,
    /// About the bytes that it takes.
    bytes: usize,
}

/// Which dead letters a decision is about. Those that are not open, or already wait for their replay, are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterSelection {
    /// These.
    Ids(Vec<String>),
    /// All that match, at most [`DECISION_LETTERS_MAX`] in one call, the oldest first. A replay also ends at 64 MB.
    Filter(DeadLetterFilter),
}

impl DeadLetterStatus {
    /// The status as it stands in the store and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }
}

/// Tells the audit trail about one letter or about many.
fn audited(ids: &[String]) -> (String, serde_json::Value) {
    let subject = if let [id] = ids { id.clone() } else { format!("{} dead letters", ids.len()) };
    let named = &ids[..ids.len().min(AUDITED_IDS_MAX)];
    (subject, serde_json::json!({"count": ids.len(), "ids": named}))
}

impl Store {
    /// Dead letters, newest first.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a cursor or limit that makes no sense.
    pub async fn dead_letters(
        &self,
        filter: DeadLetterFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<StoredDeadLetter>, StoreError> {
        let cut = Cut::new(cursor, limit)?;
        self.read(move |database| on!(database, page(&filter, &cut))).await
    }

    /// One dead letter.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none of that id.
    pub async fn dead_letter(&self, id: &str) -> Result<StoredDeadLetter, StoreError> {
        let id = id.to_owned();
        self.read(move |database| on!(database, one(&id))).await
    }

    /// Discards open dead letters and answers how many.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn discard(&self, selection: DeadLetterSelection, actor: &str) -> Result<usize, StoreError> {
        let (actor, decision) = (actor.to_owned(), Decision::new());
        self.write(move |database| {
            decision.begin();
            on!(database, discard(&selection, &actor, &decision))
        })
        .await
    }

    /// Sifts the dead letters of a selection on which a decision can still be made: the ids of those that `is_wanted`, and how
    /// many are not. They are read a few at a time.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn sift_dead_letters(
        &self,
        selection: DeadLetterSelection,
        is_wanted: impl Fn(&DeadLetter) -> bool + Send,
    ) -> Result<(Vec<String>, usize), StoreError> {
        let heads = self.read(move |database| on!(database, open_heads(&selection))).await?;
        let (mut wanted, mut others) = (Vec::new(), 0);
        for group in statements(heads, |head| head.bytes) {
            let ids: Vec<String> = group.into_iter().map(|head| head.id).collect();
            for letter in self.read(move |database| on!(database, letters(&ids))).await? {
                if is_wanted(&letter) {
                    wanted.push(letter.id);
                } else {
                    others += 1;
                }
            }
        }
        Ok((wanted, others))
    }

    /// Queues open dead letters for being applied again, each as the record that `make` makes of it, on lane `deadletters`,
    /// and answers how many. They stay open until the commit that applies them; orders that failed are pending again at once.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn replay(
        &self,
        selection: DeadLetterSelection,
        actor: &str,
        make: impl Fn(&DeadLetter) -> NewRecord + Send + 'static,
    ) -> Result<usize, StoreError> {
        let (actor, decision) = (actor.to_owned(), Decision::new());
        self.write(move |database| {
            decision.begin();
            on!(database, replay(&selection, &actor, &make, &decision))
        })
        .await
    }
}

queries! {
    use diesel::prelude::*;

    use diesel::dsl::sql;
    use diesel::sql_types::BigInt;

    type Boxed<'a> = dead_letters::BoxedQuery<'a, <Db as Connection>::Backend>;

    /// SQLite knows the length of a value without reading it.
    const BYTES: &str = "LENGTH(bytes) + COALESCE(LENGTH(headers), 0)";

    fn bytes_of(length: i64) -> usize {
        usize::try_from(length).unwrap_or(usize::MAX / 4)
    }

    fn filtered(filter: &DeadLetterFilter) -> Boxed<'_> {
        let mut query = dead_letters::table.into_boxed();
        if let Some(status) = filter.status {
            query = query.filter(dead_letters::status.eq(status.as_str()));
        }
        if let Some(reason) = &filter.reason {
            query = query.filter(dead_letters::reason.eq(reason));
        }
        if let Some(plugin) = &filter.plugin {
            query = query.filter(dead_letters::plugin.eq(plugin));
        }
        if let Some(terminal) = &filter.terminal {
            query = query.filter(dead_letters::key.eq(terminal.as_bytes()));
        }
        if let Some(from) = filter.from {
            query = query.filter(dead_letters::at.ge(from.as_millis()));
        }
        if let Some(to) = filter.to {
            query = query.filter(dead_letters::at.lt(to.as_millis()));
        }
        query
    }

    pub(in crate::store) fn page(
        db: &mut Db,
        filter: &DeadLetterFilter,
        cut: &Cut<(i64, String)>,
    ) -> Result<Page<StoredDeadLetter>, StoreError> {
        let mut query = filtered(filter).order((dead_letters::at.desc(), dead_letters::id.desc())).limit(cut.rows());
        if let Some((at, id)) = &cut.after {
            query = query.filter(dead_letters::at.le(*at).and(dead_letters::at.lt(*at).or(dead_letters::id.lt(id))));
        }
        let heads: Vec<(String, i64)> = query.select((dead_letters::id, sql::<BigInt>(BYTES))).load(db)?;
        let mut room = PAGE_BYTES_MAX;
        let fitting = heads.iter().enumerate().take_while(|(index, (_, bytes))| {
            let fits = *index == 0 || bytes_of(*bytes) <= room;
            room = room.saturating_sub(bytes_of(*bytes));
            fits
        });
        let ids: Vec<&String> = fitting.map(|(_, (id, _))| id).collect();
        let ids = &ids[..ids.len().min(cut.items())];
        let rows: Vec<Row> = dead_letters::table.filter(dead_letters::id.eq_any(ids)).load(db)?;
        // One that cannot be read hides none of the others.
        let unreadable = |error: &StoreError| tracing::warn!(%error, "a dead letter cannot be read and is not listed");
        let items = rows.into_iter().filter_map(|row| row.into_stored().inspect_err(unreadable).ok());
        let mut items: Vec<StoredDeadLetter> = items.collect();
        let place = |item: &StoredDeadLetter| ids.iter().position(|id| **id == item.letter.id);
        items.sort_by_cached_key(place);
        let more = heads.len() > ids.len();
        Ok(cut.page_with(items, more, |item| (item.letter.at.as_millis(), item.letter.id.clone())))
    }

    pub(in crate::store) fn one(db: &mut Db, id: &str) -> Result<StoredDeadLetter, StoreError> {
        dead_letters::table.find(id).first::<Row>(db)?.into_stored()
    }

    /// Letters on which a decision can still be made, in the order in which they were found.
    pub(in crate::store) fn open_heads(
        db: &mut Db,
        selection: &DeadLetterSelection,
    ) -> Result<Vec<Head>, StoreError> {
        let open = |query: Boxed<'_>, db: &mut Db| -> QueryResult<Vec<(String, Option<String>, i64)>> {
            query
                .filter(dead_letters::status.eq(DeadLetterStatus::Open.as_str()))
                .filter(dead_letters::replay_requested_at.is_null())
                .order((dead_letters::at, dead_letters::id))
                .limit(i64::try_from(DECISION_LETTERS_MAX).expect("a small constant"))
                .select((dead_letters::id, dead_letters::plugin, sql::<BigInt>(BYTES)))
                .load(db)
        };
        let rows = match selection {
            DeadLetterSelection::Filter(filter) => open(filtered(filter), db)?,
            DeadLetterSelection::Ids(ids) => {
                let mut rows = Vec::new();
                for chunk in ids[..ids.len().min(DECISION_LETTERS_MAX)].chunks(ROWS_PER_STATEMENT) {
                    rows.extend(open(dead_letters::table.into_boxed().filter(dead_letters::id.eq_any(chunk)), db)?);
                }
                rows
            }
        };
        Ok(rows.into_iter().map(|(id, plugin, bytes)| Head { id, plugin, bytes: bytes_of(bytes) }).collect())
    }

    /// These letters whole, in the order in which they were found.
    pub(in crate::store) fn letters(db: &mut Db, ids: &[String]) -> Result<Vec<DeadLetter>, StoreError> {
        let rows: Vec<Row> = dead_letters::table
            .filter(dead_letters::id.eq_any(ids))
            .order((dead_letters::at, dead_letters::id))
            .load(db)?;
        rows.into_iter().map(|row| Ok(row.into_stored()?.letter)).collect()
    }

    pub(in crate::store) fn discard(
        db: &mut Db,
        selection: &DeadLetterSelection,
        actor: &str,
        decision: &Decision,
    ) -> Result<usize, StoreError> {
        db.transaction(|db| {
            // Nobody else decides until the end of the transaction: what is found open here is still so when it is written.
            queries::outbox::hold(db, lane::DEAD_LETTERS)?;
            if let Some(count) = decided_before(db, decision)? {
                return Ok(count);
            }
            let ids: Vec<_> = open_heads(db, selection)?.into_iter().map(|head| head.id).collect();
            for chunk in ids.chunks(ROWS_PER_STATEMENT) {
                diesel::update(dead_letters::table.filter(dead_letters::id.eq_any(chunk)))
                    .set(dead_letters::status.eq(DeadLetterStatus::Discarded.as_str()))
                    .execute(db)?;
            }
            decided(db, (DISCARD, decision), actor, &ids)
        })
    }

    pub(in crate::store) fn replay(
        db: &mut Db,
        selection: &DeadLetterSelection,
        actor: &str,
        make: &impl Fn(&DeadLetter) -> NewRecord,
        decision: &Decision,
    ) -> Result<usize, StoreError> {
        db.transaction(|db| {
            // Nobody else decides until the end of the transaction: what is found open here is still so when it is written.
            queries::outbox::hold(db, lane::DEAD_LETTERS)?;
            if let Some(count) = decided_before(db, decision)? {
                return Ok(count);
            }
            let mut heads = open_heads(db, selection)?;
            let mut bytes = 0;
            heads.truncate(heads.iter().take_while(|head| {
                let fits = bytes < REPLAY_BYTES_MAX;
                bytes += head.bytes;
                fits
            }).count());
            let ids: Vec<_> = heads.iter().map(|head| head.id.clone()).collect();
            let (orders, heads): (Vec<_>, Vec<_>) =
                heads.into_iter().partition(|head| head.plugin.as_deref() == Some(OrderDelivery::NAME));
            for chunk in orders.chunks(ROWS_PER_STATEMENT) {
                resend_orders(db, chunk, actor)?;
            }
            for group in statements(heads, |head| head.bytes) {
                let ids: Vec<String> = group.into_iter().map(|head| head.id).collect();
                let letters = letters(db, &ids)?;
                queue_again(db, &letters, make)?;
            }
            decided(db, (REPLAY, decision), actor, &ids)
        })
    }

    /// An order is on the bus already: it is sent to the third party again, at once and in this transaction.
    fn resend_orders(db: &mut Db, heads: &[Head], actor: &str) -> Result<(), StoreError> {
        let keys: Vec<Option<Vec<u8>>> = dead_letters::table
            .filter(dead_letters::id.eq_any(heads.iter().map(|head| &head.id)))
            .order((dead_letters::at, dead_letters::id))
            .select(dead_letters::key)
            .load(db)?;
        for id in keys.iter().filter_map(|key| std::str::from_utf8(key.as_deref()?).ok()) {
            queries::orders::hand_over::resend(db, id, actor)?;
        }
        Ok(())
    }

    /// Puts letters into the outbox. A plugin in another language reads its input in its own time: what is on the way to it
    /// counts as replayed, and opens again if the plugin fails on it again.
    fn queue_again(
        db: &mut Db,
        letters: &[DeadLetter],
        make: &impl Fn(&DeadLetter) -> NewRecord,
    ) -> Result<(), StoreError> {
        let (told, others): (Vec<_>, Vec<_>) =
            letters.iter().partition(|letter| matches!(letter.partition.topic, Topic::Input(_)));
        let told: Vec<String> = told.into_iter().map(|letter| letter.id.clone()).collect();
        set_replayed(db, &told)?;
        if !others.is_empty() {
            let others = others.into_iter().map(|letter| &letter.id);
            diesel::update(dead_letters::table.filter(dead_letters::id.eq_any(others)))
                .set(dead_letters::replay_requested_at.eq(Timestamp::now().as_millis()))
                .execute(db)?;
        }
        let records: Vec<_> = letters.iter().map(make).collect();
        queries::outbox::append(db, lane::DEAD_LETTERS, &records)
    }

    fn decided(
        db: &mut Db,
        (action, decision): (&str, &Decision),
        actor: &str,
        ids: &[String],
    ) -> Result<usize, StoreError> {
        if !ids.is_empty() {
            let (subject, new) = audited(ids);
            let (new, decision) = (Some(new), Some(decision.id()));
            let entry = NewEntry { actor, action, subject: &subject, new, decision, ..NewEntry::default() };
            queries::audit::write(db, &entry)?;
        }
        Ok(ids.len())
    }

    /// On how many letters an earlier try of this decision has decided, if it did.
    fn decided_before(db: &mut Db, decision: &Decision) -> Result<Option<usize>, StoreError> {
        let count = queries::audit::done(db, decision)?.and_then(|entry| entry.new?["count"].as_u64());
        Ok(count.and_then(|count| usize::try_from(count).ok()))
    }

    /// Inserts dead letters. One that is there already was applied again and failed again: it is open once more and has
    /// one attempt more.
    pub(in crate::store) fn replace(db: &mut Db, letters: &[DeadLetter]) -> Result<(), StoreError> {
        for chunk in letters.chunks(ROWS_PER_STATEMENT) {
            let known: Vec<(String, i32)> = dead_letters::table
                .filter(dead_letters::id.eq_any(chunk.iter().map(|letter| &letter.id)))
                .select((dead_letters::id, dead_letters::attempts))
                .load(db)?;
            let attempts = |id: &str| known.iter().find(|(known, _)| known == id).map_or(-1, |(_, attempts)| *attempts);
            let rows = chunk.iter().map(|letter| NewRow::new(letter, attempts(&letter.id)));
            for values in statements(rows.collect::<Result<Vec<_>, _>>()?, NewRow::bytes) {
                diesel::replace_into(dead_letters::table).values(values).execute(db)?;
            }
        }
        Ok(())
    }

    /// The replay of these letters has been applied. Letters that are no longer open stay as they are.
    pub(in crate::store) fn set_replayed(db: &mut Db, ids: &[String]) -> Result<(), StoreError> {
        for chunk in ids.chunks(ROWS_PER_STATEMENT) {
            diesel::update(dead_letters::table.filter(dead_letters::id.eq_any(chunk)))
                .filter(dead_letters::status.eq(DeadLetterStatus::Open.as_str()))
                .set(dead_letters::status.eq(DeadLetterStatus::Replayed.as_str()))
                .execute(db)?;
        }
        Ok(())
    }
}
