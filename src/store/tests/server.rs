//! What only a database server can do to us: other sessions, locks, lost connections, limits, rights.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::*;
use crate::store::connection::Database;
use crate::store::{StoreOptions, StoreReport};

#[derive(QueryableByName)]
struct Variable {
    #[diesel(sql_type = Text, column_name = "Variable_name")]
    name: String,
    #[diesel(sql_type = Text, column_name = "Value")]
    value: String,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// Another session on the database of a fixture.
struct Other(Database);

impl Other {
    fn on(target: &Target) -> Self {
        Self(target.connect(Purpose::Write).unwrap())
    }

    fn execute(&mut self, statements: &str) {
        self.0.batch_execute(statements).unwrap();
    }

    fn load<T: QueryableByName<diesel::mysql::Mysql> + 'static>(&mut self, query: &str) -> Vec<T> {
        let Database::Mysql(session) = &mut self.0 else { panic!() };
        diesel::sql_query(query).load(session.connection()).unwrap()
    }
}

/// Runs what waits for a server outside of the test's runtime.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test]
async fn a_session_is_set_by_us_and_not_by_the_server() {
    let Some(fixture) = on_server().await else { return };
    let target = fixture.target.clone();
    let variables: Vec<Variable> = apart(move || {
        let Database::Mysql(mut session) = target.connect(Purpose::Read).unwrap() else { panic!() };
        let wanted = "SHOW SESSION VARIABLES WHERE Variable_name IN ('time_zone', 'sql_mode', 'tx_isolation', \
                      'transaction_isolation', 'character_set_client', 'character_set_results', 'autocommit')";
        diesel::sql_query(wanted).load(session.connection()).unwrap()
    })
    .await;
    let value = |name: &str| variables.iter().find(|one| one.name == name).map(|one| one.value.as_str());
    assert_eq!(value("time_zone"), Some("+00:00"));
    assert_eq!(value("transaction_isolation").or(value("tx_isolation")), Some("READ-COMMITTED"));
    assert_eq!((value("character_set_client"), value("character_set_results")), (Some("utf8mb4"), Some("utf8mb4")));
    assert_eq!(value("autocommit"), Some("ON"));
    assert!(value("sql_mode").is_some_and(|modes| modes.contains("STRICT_ALL_TABLES")));
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_refused_and_never_cut() {
    let Some(fixture) = on_server().await else { return };
    let store = &fixture.store;
    let base = taken(store, 10).await;
    let mut wide_alert = alert("a", 1, Severity::Low);
    wide_alert.store_id = "S".repeat(300);
    let too_wide = [
        Commit { entities: vec![entity(EVENTS_0, &"é".repeat(200), "state")], ..base.clone() },
        Commit { records: vec![crate::effect::Record::Alert(Box::new(wide_alert))], ..base.clone() },
    ];
    for commit in too_wide {
        let refused = store.commit(Arc::new(commit)).await;
        assert!(matches!(&refused, Err(StoreError::Refused(text)) if text.contains("too long")), "{refused:?}");
    }
    assert_eq!(store.counts().await.unwrap(), crate::store::Counts::default());
    commit_now(store, base).await;
}

#[tokio::test]
async fn every_letter_of_any_script_comes_back() {
    let Some(fixture) = on_server().await else { return };
    let store = &fixture.store;
    let text = "Kaße 🧾 日本語 \u{1F469}\u{200D}\u{1F692} عربى";
    let mut commit = taken(store, 10).await;
    commit.dead_letters = vec![DeadLetter { message: text.to_owned(), ..dead_letter("d", 1) }];
    commit_now(store, commit).await;
    assert_eq!(store.dead_letter("d").await.unwrap().letter.message, text);
}

/// Commits while connections are killed.
const ROUNDS: i64 = 100;

#[tokio::test]
async fn commits_go_through_although_connections_are_killed_all_the_time() {
    let Some(fixture) = on_server().await else { return };
    let store = fixture.store.clone();
    let first = taken(&store, 1).await;
    let commits = tokio::spawn(async move {
        let mut next = first;
        for round in 1..=ROUNDS {
            let following = after(&next, round + 1);
            next.entities = (0..50).map(|i| entity(EVENTS_0, &format!("E{i}"), &round.to_string())).collect();
            next.outbox = vec![OutboxRow { lane: "pos.events/0".to_owned(), seq: round, records: vec![record("one")] }];
            let commit = Arc::new(next);
            // As a shard does: the same commit again until it is known to be done.
            while let Err(error) = store.commit(Arc::clone(&commit)).await {
                assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
            }
            next = following;
        }
    });
    let (target, name) = (fixture.target.clone(), fixture.url.rsplit('/').next().unwrap().to_owned());
    let killed = apart(move || {
        let Target::Mysql(url) = target else { panic!() };
        let server = Target::Mysql(format!("{}/mysql", url.rsplit_once('/').unwrap().0));
        let mut other = Other::on(&server);
        let mut killed = 0;
        let begun = std::time::Instant::now();
        while !commits.is_finished() {
            assert!(begun.elapsed().as_secs() < 300, "the commits do not come to an end");
            let sessions =
                format!("SELECT CAST(id AS SIGNED) AS number FROM information_schema.processlist WHERE db = '{name}'");
            for Number { number } in other.load(&sessions) {
                // It may have ended by itself.
                killed += i32::from(other.0.batch_execute(&format!("KILL {number}")).is_ok());
            }
            // Long enough for a commit or two, so that the kills fall into different places of it.
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        (killed, commits)
    })
    .await;
    killed.1.await.unwrap();
    assert!(killed.0 > 5, "{} connections were killed", killed.0);
    assert_eq!(fixture.store.partitions().await.unwrap()[0].version, ROUNDS);
    assert_eq!(fixture.store.counts().await.unwrap().outbox_records, ROUNDS);
    let states = fixture.store.load_entities(vec![key(EVENTS_0, "E7")]).await.unwrap();
    assert_eq!(states, [entity(EVENTS_0, "E7", &ROUNDS.to_string())]);
}

#[tokio::test]
async fn a_commit_that_lost_a_deadlock_is_done_again() {
    let Some(fixture) = on_server().await else { return };
    let store = &fixture.store;
    let mut commit = Commit { settings_epoch: 1, ..Commit::default() };
    for row in store.take(vec![EVENTS_0, REKEYED_0]).await.unwrap() {
        commit.partitions.push(PartitionCommit { row: PartitionRow { next_offset: 5, ..row } });
    }
    let hold = |topic: &str| format!("SELECT * FROM offsets WHERE topic = '{topic}' FOR UPDATE");
    let mut other = {
        let (target, last) = (fixture.target.clone(), hold("pos.events.rekeyed"));
        apart(move || {
            let mut other = Other::on(&target);
            // Much work done: the server gives the other transaction up.
            let rows: Vec<String> = (0..500).map(|row| format!("('row {row}', '')")).collect();
            other.execute("BEGIN");
            other.execute(&format!("INSERT INTO meta (name, value) VALUES {}", rows.join(", ")));
            other.execute(&last);
            other
        })
        .await
    };
    let (committing, commit) = (store.clone(), Arc::new(commit));
    let committed = tokio::spawn(async move { committing.commit(commit).await });
    let first = hold("pos.events");
    apart(move || {
        let waiting = "SELECT COUNT(*) AS number FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'";
        // MariaDB answers this from a cache that is renewed only where nobody has read it for 100 ms.
        while other.load::<Number>(waiting)[0].number == 0 {
            std::thread::sleep(std::time::Duration::from_millis(150));
        }
        other.execute(&first);
        other.execute("ROLLBACK");
    })
    .await;
    committed.await.unwrap().unwrap();
    assert!(store.partitions().await.unwrap().iter().all(|row| (row.version, row.next_offset) == (1, 5)));
}

#[tokio::test]
async fn statements_fit_the_smallest_packet_and_a_row_that_does_not_is_refused() {
    let Some(fixture) = on_server().await else { return };
    let mut other = {
        let target = fixture.target.clone();
        apart(move || Other::on(&target)).await
    };
    let (mut other, before) = apart(move || {
        let before = other.load::<Number>("SELECT CAST(@@GLOBAL.max_allowed_packet AS SIGNED) AS number")[0].number;
        other.execute("SET GLOBAL max_allowed_packet = 1048576");
        (other, before)
    })
    .await;
    let store = Store::open(&fixture.url).await.unwrap();
    let base = taken(&store, 10).await;
    let large = "x".repeat(20_000);
    let commit = Commit {
        entities: (0..600).map(|i| entity(EVENTS_0, &format!("E{i}"), &large)).collect(),
        dead_letters: (0..200)
            .map(|i| DeadLetter { bytes: Bytes::from(large.clone()), ..dead_letter(&format!("d{i}"), i) })
            .collect(),
        ..base.clone()
    };
    let following = after(&base, 20);
    let done = store.commit(Arc::new(commit)).await;
    let huge = Commit { entities: vec![entity(EVENTS_0, "huge", &"x".repeat(2 << 20))], ..following };
    let refused = store.commit(Arc::new(huge)).await;
    let evidence = store.store_evidence(vec![("a".to_owned(), vec![Bytes::from(vec![b'x'; 2 << 20])])]).await;
    apart(move || other.execute(&format!("SET GLOBAL max_allowed_packet = {before}"))).await;
    done.unwrap();
    for refused in [refused, evidence] {
        assert!(
            matches!(&refused, Err(StoreError::Refused(text)) if text.contains("max_allowed_packet")),
            "{refused:?}"
        );
    }
    assert_eq!(store.counts().await.unwrap().dead_letters_open, 200);
}

#[tokio::test]
async fn processes_that_start_at_once_on_an_empty_database_migrate_it_once() {
    let Some(fixture) = on_server().await else { return };
    let url = fixture.empty_database("_many").await;
    let empty = Store::schema_state(&url).await.unwrap();
    assert!(empty.applied.is_empty() && !empty.pending.is_empty());
    assert_eq!(Store::schema_state(&url).await.unwrap(), empty, "looking changes nothing");
    let strict = StoreOptions { migrate: false, ..StoreOptions::default() };
    let behind = Store::open_with(&url, strict).await;
    assert!(
        matches!(&behind, Err(StoreError::Misconfigured(text)) if text.contains("tillstream migrate") && text.contains(&empty.pending[0])),
        "{behind:?}"
    );
    let opened = futures_util::future::join_all((0..6).map(|_| Store::open(&url))).await;
    assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    let full = Store::schema_state(&url).await.unwrap();
    assert_eq!((full.applied, full.pending), (empty.pending, Vec::new()));
    Store::open_with(&url, strict).await.unwrap();
    assert_eq!(Store::migrate(&url).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_migration_that_was_interrupted_is_run_again() {
    let Some(fixture) = on_server().await else { return };
    fixture.execute("DELETE FROM __diesel_schema_migrations").await;
    let names = Store::schema_state(&fixture.url).await.unwrap().pending;
    assert_eq!(Store::migrate(&fixture.url).await.unwrap(), names);
    commit_now(&fixture.store, taken(&fixture.store, 10).await).await;
}

async fn inspected(url: &str) -> Result<StoreReport, String> {
    match Store::inspect(url, true).await {
        Err(StoreError::Misconfigured(text)) => Err(text),
        other => Ok(other.unwrap()),
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_server_is_said_in_a_sentence_without_the_password() {
    let Some(fixture) = on_server().await else { return };
    let report = inspected(&fixture.url).await.unwrap();
    assert!(report.schema.pending.is_empty() && report.server.contains(' '), "{report:?}");
    let url = |user: &str, database: &str| {
        let (_, place) = fixture.url.rsplit_once('@').unwrap();
        let (host, known) = place.split_once('/').unwrap();
        format!("mysql://{user}@{host}/{}", if database.is_empty() { known } else { database })
    };
    let wrong = inspected(&url("tillstream:gehe1m", "")).await.unwrap_err();
    assert!(wrong.contains("check user and password") && !wrong.contains("gehe1m"), "{wrong}");
    let reader = format!("reader_{}", std::process::id());
    let database = fixture.url.rsplit('/').next().unwrap();
    fixture
        .execute(&format!(
            "CREATE USER {reader} IDENTIFIED BY 'gehe1m'; GRANT SELECT ON {database}.* TO {reader}; \
             CREATE USER {reader}_none IDENTIFIED BY 'gehe1m'"
        ))
        .await;
    let lacking = inspected(&url(&format!("{reader}:gehe1m"), "")).await;
    let none = inspected(&url(&format!("{reader}_none:gehe1m"), "")).await;
    let unknown = inspected(&url("tillstream:tillstream", "no_such_shop")).await;
    fixture.execute(&format!("DROP USER {reader}; DROP USER {reader}_none")).await;
    let lacking = lacking.unwrap_err();
    assert!(lacking.contains("lacks a right") && lacking.contains("INSERT"), "{lacking}");
    assert!(none.as_ref().is_err_and(|text| text.contains("has no rights on database")), "{none:?}");
    let unknown = unknown.unwrap_err();
    assert!(unknown.contains("CREATE DATABASE no_such_shop") || unknown.contains("has no rights"), "{unknown}");
    let nobody = Store::inspect("mysql://tillstream:gehe1m@127.0.0.1:1/shop", true).await;
    let Err(StoreError::Unavailable(text)) = nobody else { panic!("{nobody:?}") };
    assert!(text.contains("127.0.0.1:1") && text.contains("check that it runs") && !text.contains("gehe1m"), "{text}");
}

/// Words that MySQL 8.4 reserves and MariaDB does not: as names they must stand in quotes.
const RESERVED_BY_MYSQL: [&str; 23] = [
    "cube",
    "cume_dist",
    "dense_rank",
    "empty",
    "first_value",
    "function",
    "grouping",
    "groups",
    "json_table",
    "lag",
    "last_value",
    "lateral",
    "lead",
    "library",
    "nth_value",
    "ntile",
    "of",
    "parallel",
    "percent_rank",
    "qualify",
    "rank",
    "row_number",
    "system",
];
/// What only MariaDB understands.
const ONLY_MARIADB: [&str; 14] = [
    "returning",
    "add column if not exists",
    "drop column if exists",
    "create or replace table",
    "create index if not exists",
    "create sequence",
    "nextval",
    "inet6",
    "uuid not null",
    "persistent",
    "aria",
    "value(",
    "page_compressed",
    "for portion of",
];

#[test]
fn migrations_and_queries_say_nothing_that_only_mariadb_understands() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders = vec![root.join("migrations/mysql"), root.join("src/store")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    let migrations = files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "sql"));
    let mut seen = 0;
    for path in migrations {
        let text = std::fs::read_to_string(path).unwrap().to_lowercase();
        let statements: String = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        for word in statements.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '`') {
            assert!(!RESERVED_BY_MYSQL.contains(&word), "{}: `{word}` is reserved by MySQL", path.display());
        }
        for table in statements.split(';').filter(|statement| statement.contains("create table")) {
            // Whatever the database's default is, every text keeps every letter.
            let texts = ["text", "varchar", " char("].iter().any(|kind| table.contains(kind));
            assert!(!texts || table.contains("charset=utf8mb4"), "{}: {table}", path.display());
        }
        for construct in ONLY_MARIADB {
            assert!(!statements.contains(construct), "{}: {construct}", path.display());
        }
        seen += 1;
    }
    assert!(seen > 1, "the migrations are not found");
    for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let text = std::fs::read_to_string(path).unwrap();
        let is_this = path.ends_with("tests/server.rs");
        assert!(is_this || !text.contains(".returning(") && !text.contains("RETURNING"), "{}", path.display());
    }
}
