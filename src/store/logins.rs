//! Sessions of people who have logged in, known to every process that uses this store.
//!
//! A row holds digests only: whoever reads the store cannot log in with what stands there. Times are those of the database,
//! so that processes whose clocks differ agree on when a session ends.

use std::time::Duration;

use super::Store;
use super::audit::NewEntry;
use super::connection::{on, queries};
use super::cursor::{Cut, Page};
use super::model::StoreError;
use super::schema::login_sessions;
use crate::time::Timestamp;

/// Sessions that one token may have at the same time; the oldest ends when one more begins.
pub const LOGINS_OF_TOKEN_MAX: usize = 100;

/// A session that begins.
#[derive(Debug, Clone)]
pub struct NewLogin {
    /// Names it in lists; no secret.
    pub id: String,
    /// SHA-256 of the secret that its cookie holds.
    pub secret: [u8; 32],
    /// The name of the token.
    pub token_name: String,
    /// A digest of the token's configured hash: with another hash it is another token.
    pub token_digest: [u8; 32],
    /// Where the login came from.
    pub address: String,
    /// The browser, as it names itself.
    pub agent: String,
    /// How long it lasts at most.
    pub lasts: Duration,
}

/// A session as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Names it in lists; no secret.
    pub id: String,
    /// SHA-256 of the secret that its cookie holds.
    pub secret: Vec<u8>,
    /// The name of the token.
    pub token_name: String,
    /// A digest of the token's configured hash.
    pub token_digest: Vec<u8>,
    /// Where the login came from.
    pub address: String,
    /// The browser, as it names itself.
    pub agent: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was used last, to the minute or so.
    pub seen_at: Timestamp,
    /// When it ends, however much it is used.
    pub ends_at: Timestamp,
    /// The database's clock when this was read.
    pub now: Timestamp,
}

#[derive(diesel::Queryable)]
struct Row {
    id: String,
    secret: Vec<u8>,
    token_name: String,
    token_digest: Vec<u8>,
    address: String,
    agent: String,
    created_at: i64,
    seen_at: i64,
    ends_at: i64,
}

impl Row {
    fn into_login(self, now: i64) -> Login {
        Login {
            id: self.id,
            secret: self.secret,
            token_name: self.token_name,
            token_digest: self.token_digest,
            address: self.address,
            agent: self.agent,
            created_at: Timestamp::from_millis(self.created_at),
            seen_at: Timestamp::from_millis(self.seen_at),
            ends_at: Timestamp::from_millis(self.ends_at),
            now: Timestamp::from_millis(now),
        }
    }
}

impl Store {
    /// Begins a session, with an entry in the audit log.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn begin_login(&self, login: NewLogin) -> Result<(), StoreError> {
        self.write(move |database| on!(database, begin(&login))).await
    }

    /// The session of that id, whether it has ended or not.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn login(&self, id: &str) -> Result<Option<Login>, StoreError> {
        let id = id.to_owned();
        self.read(move |database| on!(database, find(&id))).await
    }

    /// The session was used just now.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn login_seen(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.write_repeatable(move |database| on!(database, seen(&id))).await
    }

    /// Ends a session, with an entry in the audit log. False if there is none of that id.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn end_login(&self, id: &str, actor: &str) -> Result<bool, StoreError> {
        let (id, actor) = (id.to_owned(), actor.to_owned());
        self.write(move |database| on!(database, end(&id, &actor))).await
    }

    /// Sessions of one token, or of all, the newest first. Those that have ended may be among them.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a cursor or limit that makes no sense.
    pub async fn logins(
        &self,
        token_name: Option<&str>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<Login>, StoreError> {
        let cut = Cut::new(cursor, limit)?;
        let token_name = token_name.map(ToOwned::to_owned);
        self.read(move |database| on!(database, page(token_name.as_deref(), &cut))).await
    }

    /// Writes down that logins failed: how many times, and from where.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn logins_failed(&self, address: &str, attempts: u64, refused_unread: u64) -> Result<(), StoreError> {
        let address = address.to_owned();
        self.write_repeatable(move |database| on!(database, failed(&address, attempts, refused_unread))).await
    }
}

queries! {
    use diesel::prelude::*;
    use serde_json::json;

    pub(in crate::store) fn begin(db: &mut Db, login: &NewLogin) -> Result<(), StoreError> {
        db.transaction(|db| {
            if find(db, &login.id)?.is_some() {
                // A try before this one has done it, and its answer was lost.
                return Ok(());
            }
            let now = queries::leases::now(db)?;
            let lasts = i64::try_from(login.lasts.as_millis()).unwrap_or(i64::MAX);
            diesel::insert_into(login_sessions::table)
                .values((
                    login_sessions::id.eq(&login.id),
                    login_sessions::secret.eq(login.secret.as_slice()),
                    login_sessions::token_name.eq(&login.token_name),
                    login_sessions::token_digest.eq(login.token_digest.as_slice()),
                    (login_sessions::address.eq(&login.address), login_sessions::agent.eq(&login.agent)),
                    (login_sessions::created_at.eq(now), login_sessions::seen_at.eq(now)),
                    login_sessions::ends_at.eq(now.saturating_add(lasts)),
                ))
                .execute(db)?;
            let newest: Vec<String> = login_sessions::table
                .filter(login_sessions::token_name.eq(&login.token_name))
                .order((login_sessions::created_at.desc(), login_sessions::id))
                .limit(i64::try_from(LOGINS_OF_TOKEN_MAX + 100).unwrap_or(i64::MAX))
                .select(login_sessions::id)
                .load(db)?;
            if let Some(too_many) = newest.get(LOGINS_OF_TOKEN_MAX..).filter(|ids| !ids.is_empty()) {
                diesel::delete(login_sessions::table.filter(login_sessions::id.eq_any(too_many))).execute(db)?;
            }
            queries::audit::write(db, &NewEntry {
                actor: &login.token_name,
                action: "session.begin",
                subject: &login.id,
                new: Some(json!({"address": login.address})),
                ..NewEntry::default()
            })
        })
    }

    pub(in crate::store) fn find(db: &mut Db, id: &str) -> Result<Option<Login>, StoreError> {
        let row: Option<Row> = login_sessions::table.find(id).first(db).optional()?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(row.into_login(queries::leases::now(db)?)))
    }

    pub(in crate::store) fn seen(db: &mut Db, id: &str) -> Result<(), StoreError> {
        let now = queries::leases::now(db)?;
        diesel::update(login_sessions::table.find(id)).set(login_sessions::seen_at.eq(now)).execute(db)?;
        Ok(())
    }

    pub(in crate::store) fn end(db: &mut Db, id: &str, actor: &str) -> Result<bool, StoreError> {
        db.transaction(|db| {
            let Some(login) = find(db, id)? else { return Ok(false) };
            diesel::delete(login_sessions::table.find(id)).execute(db)?;
            queries::audit::write(db, &NewEntry {
                actor,
                action: "session.end",
                subject: id,
                old: Some(json!({"name": login.token_name, "address": login.address})),
                ..NewEntry::default()
            })?;
            Ok(true)
        })
    }

    pub(in crate::store) fn page(
        db: &mut Db,
        token_name: Option<&str>,
        cut: &Cut<(i64, String)>,
    ) -> Result<Page<Login>, StoreError> {
        let now = queries::leases::now(db)?;
        let mut query = login_sessions::table
            .order((login_sessions::created_at.desc(), login_sessions::id))
            .limit(cut.rows())
            .into_boxed();
        if let Some(name) = token_name {
            query = query.filter(login_sessions::token_name.eq(name));
        }
        if let Some((at, id)) = &cut.after {
            let same_time = login_sessions::created_at.eq(*at).and(login_sessions::id.gt(id));
            query = query.filter(login_sessions::created_at.lt(*at).or(same_time));
        }
        let rows: Vec<Row> = query.load(db)?;
        let logins = rows.into_iter().map(|row| row.into_login(now)).collect();
        Ok(cut.page(logins, |login: &Login| (login.created_at.as_millis(), login.id.clone())))
    }

    pub(in crate::store) fn failed(
        db: &mut Db,
        address: &str,
        attempts: u64,
        refused_unread: u64,
    ) -> Result<(), StoreError> {
        queries::audit::write(db, &NewEntry {
            actor: "unknown",
            action: "login.failed",
            subject: address,
            new: Some(json!({"attempts": attempts, "refusedUnread": refused_unread})),
            ..NewEntry::default()
        })
    }
}
