//! Opening, closing, and what a person reads when it does not work.

use super::*;

async fn refusal(url: &str) -> String {
    match Store::open(url).await {
        Err(StoreError::Misconfigured(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_second_process_is_told_who_holds_the_file() {
    let fixture = Fixture::sqlite().await;
    let text = refusal(&fixture.url).await;
    assert!(text.contains("another Tillstream process uses") && text.contains("store.db.lock"), "{text}");
    fixture.store.close().await;
    Store::open(&fixture.url).await.unwrap();
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "no database").unwrap();
    let below = refusal(&format!("sqlite:{}/store.db", file.display())).await;
    assert!(below.contains("cannot be created") && below.contains("file"), "{below}");
    let kernel = refusal("sqlite:/proc/store.db").await;
    assert!(kernel.contains("/proc/store.db.lock is not writable"), "{kernel}");
    let other = directory.path().join("other.db");
    std::fs::write(&other, "this is something else than a database, and long enough to be read").unwrap();
    let foreign = refusal(&format!("sqlite:{}", other.display())).await;
    assert!(foreign.contains("other.db cannot be used as a SQLite database"), "{foreign}");
    let scheme = refusal("postgres://localhost").await;
    assert!(scheme.contains("sqlite:PATH"), "{scheme}");
}

#[tokio::test]
async fn a_store_belongs_to_one_bus() {
    for Fixture { store, .. } in fixtures().await {
        store.bind_bus("bus-a", 8).await.unwrap();
        store.bind_bus("bus-a", 8).await.unwrap();
        let Err(StoreError::Misconfigured(other)) = store.bind_bus("bus-b", 8).await else { panic!() };
        assert!(other.contains("bus-a") && other.contains("bus-b"), "{other}");
        let Err(StoreError::Misconfigured(count)) = store.bind_bus("bus-a", 16).await else { panic!() };
        assert!(count.contains("bus.partitions = 8") && count.contains("16"), "{count}");
    }
}

#[tokio::test]
async fn a_store_from_a_newer_version_is_refused() {
    for fixture in fixtures().await {
        let statement = "INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')";
        fixture.execute(statement).await;
        fixture.store.close().await;
        assert!(refusal(&fixture.url).await.contains("newer Tillstream"));
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_kill() {
    let fixture = Fixture::sqlite().await;
    let mut commit = taken(&fixture.store, 10).await;
    commit.entities = vec![entity(EVENTS_0, "E7", "state")];
    commit_now(&fixture.store, commit).await;
    // What a killed process leaves behind: the files as they are, the write-ahead log not copied.
    let Target::Sqlite(path) = &fixture.target else { panic!() };
    let killed = fixture.directory.path().join("killed.db");
    for suffix in ["", "-wal"] {
        let name = |path: &std::path::Path| format!("{}{suffix}", path.display());
        std::fs::copy(name(path), name(&killed)).unwrap();
    }
    let store = Store::open(&format!("sqlite:{}", killed.display())).await.unwrap();
    assert_eq!(store.partitions().await.unwrap()[0].next_offset, 10);
    assert_eq!(store.load_entities(vec![key(EVENTS_0, "E7")]).await.unwrap(), [entity(EVENTS_0, "E7", "state")]);
}

#[tokio::test]
async fn a_closed_store_says_so_and_opens_again() {
    for Fixture { store, url, directory, .. } in fixtures().await {
        commit_now(&store, taken(&store, 10).await).await;
        store.close().await;
        assert!(matches!(store.partitions().await, Err(StoreError::Unavailable(_))));
        assert!(matches!(store.take(vec![EVENTS_0]).await, Err(StoreError::Unavailable(_))));
        assert!(!directory.path().join("data").join("store.db-wal").exists());
        let again = Store::open(&url).await.unwrap();
        assert_eq!(again.partitions().await.unwrap()[0].next_offset, 10);
    }
}

#[tokio::test]
async fn a_copy_made_while_the_store_is_open_is_a_whole_store_and_not_the_same_one() {
    let fixture = Fixture::sqlite().await;
    commit_now(&fixture.store, taken(&fixture.store, 10).await).await;
    let copy = fixture.directory.path().join("backup.db");
    let identity = fixture.store.identity().await.unwrap();
    let store = fixture.directory.path().join("data").join("store.db");
    Store::backup(&store, &copy).unwrap();
    let again = Store::backup(&store, &copy);
    assert!(matches!(&again, Err(StoreError::Misconfigured(text)) if text.contains("exists")), "{again:?}");
    let restored = Store::open(&format!("sqlite:{}", copy.display())).await.unwrap();
    assert_eq!(restored.partitions().await.unwrap()[0].next_offset, 10);
    assert_ne!(restored.identity().await.unwrap(), identity);
}

#[tokio::test]
async fn a_store_from_before_dead_letters_had_headers_is_brought_up_to_date_and_keeps_them() {
    const FORGET: &str = "DELETE FROM __diesel_schema_migrations WHERE version = '20261122085000'";
    for fixture in fixtures().await {
        let mut commit = taken(&fixture.store, 10).await;
        let letter = DeadLetter { headers: Vec::new(), ..dead_letter("old", 1) };
        commit.dead_letters = vec![letter.clone()];
        commit_now(&fixture.store, commit).await;
        fixture.store.close().await;
        fixture.execute(&format!("ALTER TABLE dead_letters DROP COLUMN headers; {FORGET}")).await;
        let store = Store::open(&fixture.url).await.unwrap();
        assert_eq!(store.dead_letter("old").await.unwrap().letter, letter);
        let new = dead_letter("new", 2);
        let commit = taken(&store, 20).await;
        commit_now(&store, Commit { dead_letters: vec![new.clone()], ..commit }).await;
        assert_eq!(store.dead_letter("new").await.unwrap().letter, new);
        store.close().await;
        if matches!(fixture.target, Target::Mysql(_)) {
            // As after a process that was killed between the change of the table and the note that it was done.
            fixture.execute(FORGET).await;
            let store = Store::open(&fixture.url).await.unwrap();
            assert_eq!(store.dead_letter("new").await.unwrap().letter, new);
        }
    }
}
