//! Dead letters: what could not be processed or delivered, until a person replays or discards it.

mod row;

use self::row::{NewRow, Row};
use super::Store;
use super::audit::{FirstTry, NewEntry};
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
    /// Found at or after this time.
    pub from: Option<Timestamp>,
    /// Found before this time.
    pub to: Option<Timestamp>,
}

/// Which dead letters a decision is about. Those that are not open, or already wait for their replay, are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterSelection {
    /// These.
    Ids(Vec<String>),
    /// All that match, at most [`DECISION_LETTERS_MAX`] in one call, the oldest first.
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
        let (actor, first_try) = (actor.to_owned(), FirstTry::default());
        self.write(move |database| {
            if let Some(since) = first_try.before()
                && let Some(count) = on!(database, decided_since(DISCARD, &actor, since))?
            {
                return Ok(count);
            }
            first_try.ended(on!(database, discard(&selection, &actor)))
        })
        .await
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
        let (actor, first_try) = (actor.to_owned(), FirstTry::default());
        self.write(move |database| {
            if let Some(since) = first_try.before()
                && let Some(count) = on!(database, decided_since(REPLAY, &actor, since))?
            {
                return Ok(count);
            }
            first_try.ended(on!(database, replay(&selection, &actor, &make)))
        })
        .await
    }
}

queries! {
    use diesel::prelude::*;

    type Boxed<'a> = dead_letters::BoxedQuery<'a, <Db as Connection>::Backend>;

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
            let same_time = dead_letters::at.eq(*at).and(dead_letters::id.lt(id));
            query = query.filter(dead_letters::at.lt(*at).or(same_time));
        }
        let rows: Vec<Row> = query.load(db)?;
        let items = rows.into_iter().map(Row::into_stored).collect::<Result<Vec<_>, _>>()?;
        Ok(cut.page(items, |item| (item.letter.at.as_millis(), item.letter.id.clone())))
    }

    pub(in crate::store) fn one(db: &mut Db, id: &str) -> Result<StoredDeadLetter, StoreError> {
        dead_letters::table.find(id).first::<Row>(db)?.into_stored()
    }

    /// Letters on which a decision can still be made. Nobody else decides until the end of the transaction: what is found
    /// open here is still so when it is written.
    fn select(db: &mut Db, selection: &DeadLetterSelection) -> Result<Vec<DeadLetter>, StoreError> {
        queries::outbox::hold(db, lane::DEAD_LETTERS)?;
        let open = |query: Boxed<'_>, db: &mut Db| -> QueryResult<Vec<Row>> {
            query
                .filter(dead_letters::status.eq(DeadLetterStatus::Open.as_str()))
                .filter(dead_letters::replay_requested_at.is_null())
                .order((dead_letters::at, dead_letters::id))
                .limit(i64::try_from(DECISION_LETTERS_MAX).expect("a small constant"))
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
        rows.into_iter().map(|row| Ok(row.into_stored()?.letter)).collect()
    }

    pub(in crate::store) fn discard(
        db: &mut Db,
        selection: &DeadLetterSelection,
        actor: &str,
    ) -> Result<usize, StoreError> {
        db.transaction(|db| {
            let ids: Vec<_> = select(db, selection)?.into_iter().map(|letter| letter.id).collect();
            for chunk in ids.chunks(ROWS_PER_STATEMENT) {
                diesel::update(dead_letters::table.filter(dead_letters::id.eq_any(chunk)))
                    .set(dead_letters::status.eq(DeadLetterStatus::Discarded.as_str()))
                    .execute(db)?;
            }
            decided(db, DISCARD, actor, &ids)
        })
    }

    pub(in crate::store) fn replay(
        db: &mut Db,
        selection: &DeadLetterSelection,
        actor: &str,
        make: &impl Fn(&DeadLetter) -> NewRecord,
    ) -> Result<usize, StoreError> {
        db.transaction(|db| {
            let letters = select(db, selection)?;
            let ids: Vec<_> = letters.iter().map(|letter| letter.id.clone()).collect();
            let (orders, letters): (Vec<_>, Vec<_>) =
                letters.into_iter().partition(|letter| letter.plugin.as_deref() == Some(OrderDelivery::NAME));
            // An order is on the bus already: it is sent to the third party again, at once and in this transaction.
            for id in orders.iter().filter_map(|letter| std::str::from_utf8(letter.key.as_deref()?).ok()) {
                queries::orders::hand_over::resend(db, id, actor)?;
            }
            // A plugin in another language reads its input in its own time: what is on the way to it counts as replayed, and
            // opens again if the plugin fails on it again.
            let (told, letters): (Vec<_>, Vec<_>) =
                letters.into_iter().partition(|letter| matches!(letter.partition.topic, Topic::Input(_)));
            for chunk in told.chunks(ROWS_PER_STATEMENT) {
                let ids: Vec<_> = chunk.iter().map(|letter| letter.id.clone()).collect();
                set_replayed(db, &ids)?;
                let records: Vec<_> = chunk.iter().map(make).collect();
                queries::outbox::append(db, lane::DEAD_LETTERS, &records)?;
            }
            for chunk in letters.chunks(ROWS_PER_STATEMENT) {
                let chunk_ids = chunk.iter().map(|letter| &letter.id);
                diesel::update(dead_letters::table.filter(dead_letters::id.eq_any(chunk_ids)))
                    .set(dead_letters::replay_requested_at.eq(Timestamp::now().as_millis()))
                    .execute(db)?;
                let records: Vec<_> = chunk.iter().map(make).collect();
                queries::outbox::append(db, lane::DEAD_LETTERS, &records)?;
            }
            decided(db, REPLAY, actor, &ids)
        })
    }

    fn decided(db: &mut Db, action: &str, actor: &str, ids: &[String]) -> Result<usize, StoreError> {
        if !ids.is_empty() {
            let (subject, new) = audited(ids);
            queries::audit::write(
                db,
                &NewEntry { actor, action, subject: &subject, new: Some(new), ..NewEntry::default() },
            )?;
        }
        Ok(ids.len())
    }

    /// On how many letters this actor has decided in this way since then, if a decision was made.
    pub(in crate::store) fn decided_since(
        db: &mut Db,
        action: &str,
        actor: &str,
        since: Timestamp,
    ) -> Result<Option<usize>, StoreError> {
        let done = queries::audit::done_since(db, actor, action, since)?;
        let count = done.and_then(|entry| entry.new?["count"].as_u64());
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
