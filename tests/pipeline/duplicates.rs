//! The same event again: at once, after a restart, after the till's counter began anew.

use serde_json::json;

use crate::shop::{Shop, drawer, until};

#[actix::test]
async fn an_event_counts_once_whether_it_comes_again_at_once_or_after_a_restart() {
    let shop = Shop::new();
    let open = shop.open().await;
    let mut unnumbered = drawer("T2", 1, 0);
    unnumbered.as_object_mut().expect("an object").remove("sequence");
    let events = [drawer("T1", 1, 0), unnumbered.clone(), drawer("T1", 2, 10)];
    open.append(&events).await;
    open.append(&events).await;
    open.settled().await;
    until("all are decided on", async || open.alerted().await.len() == 3).await;
    assert_eq!((open.app.status.totals.events.get(), open.app.status.totals.duplicates.get()), (3, 3));
    open.stop().await;

    let open = shop.open().await;
    open.append(&events).await;
    open.append(&[drawer("T1", 3, 20)]).await;
    open.settled().await;
    until("the new one is decided on", async || open.alerted().await.len() == 4).await;
    assert_eq!((open.app.status.totals.events.get(), open.app.status.totals.duplicates.get()), (1, 3));
    assert_eq!(open.alerted().await, ["T1-1", "T1-2", "T1-3", "T2-1"]);
    open.stop().await;
}

#[actix::test]
async fn a_counter_that_begins_anew_is_no_repetition_and_what_is_far_behind_it_is_a_dead_letter() {
    let shop = Shop::new();
    let open = shop.open().await;
    open.append(&[drawer("T1", 5000, 0)]).await;
    let mut old = drawer("T1", 3, -60);
    old["id"] = json!("from long ago");
    open.append(&[old, drawer("T1", 1, 60), drawer("T1", 2, 70), drawer("T1", 1, 60)]).await;
    open.settled().await;
    until("all are decided on", async || open.alerted().await.len() == 3).await;
    assert_eq!(open.alerted().await, ["T1-1", "T1-2", "T1-5000"]);
    assert_eq!(open.query("SELECT reason AS value FROM dead_letters"), ["below_window"]);
    assert_eq!(open.app.status.totals.duplicates.get(), 1);
    open.stop().await;
}
