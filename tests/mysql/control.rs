//! Two processes with one database: what is changed through one holds for the other, and nothing is overwritten unseen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tillstream::bus::Bus;
use tillstream::bus::simulated::SimulatedBus;
use tillstream::config::Role;
use tillstream::control::{Change, ChangeError, Control};
use tillstream::feed::Feed;
use tillstream::plugins::defaults::Defaults;
use tillstream::status::Status;
use tillstream::store::Store;

use crate::alone;
use crate::shop::until;
use crate::support::database::Database;

const PLUGIN: &str = "purchase-recommender";

/// The part of a process that knows the plugins.
async fn control(database: &Database) -> Arc<Control> {
    let store = Store::open(&database.url()).await.expect("the database");
    let status = Arc::new(Status::new(Role::ALL.to_vec()));
    Control::start(store, Feed::new(10), status, &Defaults::built_in()).await.expect("the plugins")
}

fn patch(patch: Value, if_match: Option<i64>) -> Change {
    Change { patch, if_match, actor: "ann".to_owned(), reason: None }
}

#[actix::test]
async fn two_people_who_change_one_plugin_through_two_processes_cannot_overwrite_each_other_unseen() {
    let _alone = alone();
    let Some(database) = Database::on_server("two processes that change one plugin") else { return };
    let (one, other) = (control(&database).await, control(&database).await);
    let seen = one.view(PLUGIN).expect("a plugin").revision;
    let maximum = |maximum: u32| json!({"settings": {"maximum": maximum}});

    let first = one.change(PLUGIN, patch(maximum(2), Some(seen))).await.expect("it is the first");
    assert_eq!(first.revision, seen + 1);
    // The other process has not looked since, and shows its person what holds now.
    let second = other.change(PLUGIN, patch(maximum(3), Some(seen))).await;
    let Err(ChangeError::Conflict(now)) = second else { panic!("{second:?}") };
    assert_eq!((now.revision, &now.settings["maximum"]), (seen + 1, &json!(2)));
    let again = other.change(PLUGIN, patch(maximum(3), Some(now.revision))).await.expect("it has seen the newer one");
    assert_eq!(again.revision, seen + 2);

    // At the very same time, again and again: one is heard, the other is told.
    for round in 0..10 {
        one.refresh().await.expect("the store");
        other.refresh().await.expect("the store");
        let revision = one.view(PLUGIN).expect("a plugin").revision;
        let (a, b) = tokio::join!(
            one.change(PLUGIN, patch(json!({"settings": {"maximum": 1 + round % 2}}), Some(revision))),
            other.change(PLUGIN, patch(json!({"active": round % 2 == 0}), Some(revision))),
        );
        let heard = [&a, &b].into_iter().filter(|result| result.is_ok()).count();
        assert_eq!(heard, 1, "{a:?} {b:?}");
        assert!([a, b].into_iter().any(|result| matches!(result, Err(ChangeError::Conflict(_)))));
    }
}

#[actix::test]
async fn a_change_is_seen_by_another_process_within_a_second_without_any_message() {
    let _alone = alone();
    let Some(database) = Database::on_server("a change seen by another process") else { return };
    let (one, other) = (control(&database).await, control(&database).await);
    // Nothing is ever sent on this bus.
    let bus: Arc<dyn Bus> = Arc::new(SimulatedBus::shared(4, 1));
    let watching = Arc::clone(&other);
    let watch = tokio::spawn(async move { watching.watch(bus).await });
    for active in [false, true, false] {
        one.change(PLUGIN, patch(json!({"active": active}), None)).await.expect("a change");
        let begun = Instant::now();
        until("the other process knows", async || other.view(PLUGIN).expect("a plugin").active == active).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "it took {:?}", begun.elapsed());
    }
    watch.abort();
}

#[actix::test]
async fn where_a_plugin_was_switched_on_again_is_known_to_other_processes_and_after_a_restart() {
    let _alone = alone();
    let Some(database) = Database::on_server("where a plugin was switched on") else { return };
    let (one, other) = (control(&database).await, control(&database).await);
    let bus = SimulatedBus::shared(2, 1);
    crate::shop::append(&bus, &[crate::shop::drawer("T1", 1, 0), crate::shop::drawer("T1", 2, 0)]).await;
    one.follow(Arc::new(bus.clone()));
    one.change(PLUGIN, patch(json!({"active": false}), None)).await.expect("off");
    one.change(PLUGIN, patch(json!({"active": true}), None)).await.expect("on");
    other.refresh().await.expect("the store");
    let starts = |control: &Control| control.snapshot().plugin(PLUGIN).expect("a plugin").row.starts.clone();
    let ends = starts(&one).expect("it was switched on again");
    assert_eq!(ends.iter().sum::<i64>(), 2, "{ends:?}");
    assert_eq!(starts(&other), Some(ends.clone()));
    let restarted = control(&database).await;
    assert_eq!(starts(&restarted), Some(ends));
}
