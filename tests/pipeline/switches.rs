//! A switch under load: what is appended after the answer obeys it, and what is appended before is nobody's loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use tillstream::bus::Bus;

use crate::shop::{Open, Shop, append, drawer, drawer_rule, until};

const FRAUD: &str = "fraud-detection";
const TERMINALS: [&str; 3] = ["T1", "T2", "T3"];

/// Tills that open their drawers without end. Every round, each of them does so once.
struct Rounds {
    begun: Arc<AtomicU64>,
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Rounds {
    fn start(bus: Arc<dyn Bus>) -> Self {
        let (begun, done, stop) =
            (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (first, last, halt) = (Arc::clone(&begun), Arc::clone(&done), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            while !halt.load(Ordering::SeqCst) {
                let round = first.fetch_add(1, Ordering::SeqCst) + 1;
                let second = i64::try_from(round).expect("few rounds");
                append(&*bus, &TERMINALS.map(|terminal| drawer(terminal, round, second))).await;
                last.store(round, Ordering::SeqCst);
            }
        });
        Self { begun, done, stop, task }
    }

    /// The last round whose append has begun.
    fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// The last round that is durable.
    fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// Waits for some more of them.
    async fn more(&self) {
        let goal = self.begun() + 20;
        until("more events are appended", async || self.done() >= goal).await;
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("it ends in good order");
        self.done.load(Ordering::SeqCst)
    }
}

/// Rounds between two moments that no change happened in.
struct Stretch {
    /// First round whose append began after the answer.
    from: u64,
    /// Last round that was durable before the next change was asked for.
    to: u64,
    /// Terminals whose events reach the plugin.
    reached: &'static [&'static str],
}

/// Makes the changes one after the other while tills are at work, and checks what reached the plugin between them.
async fn obeys_under_load(changes: &[(Value, &'static [&'static str])]) {
    let shop = Shop::new();
    let open = shop.open().await;
    let rounds = Rounds::start(Arc::clone(&open.app.bus));
    rounds.more().await;
    let mut stretches = Vec::new();
    for (index, (patch, reached)) in changes.iter().enumerate() {
        if index % 2 == 0 {
            open.change(FRAUD, patch.clone()).await;
        } else {
            let (status, body) = open.call("PATCH", &format!("/api/plugins/{FRAUD}"), Some(patch.clone())).await;
            assert_eq!(status, 200, "{body}");
        }
        let from = rounds.begun() + 1;
        rounds.more().await;
        stretches.push(Stretch { from, to: rounds.done(), reached });
        // What has not been read when a switch is flipped obeys it already.
        open.has_read_all().await;
    }
    let last = rounds.stop().await;
    open.settled().await;
    check(&open, &stretches, last).await;
    open.stop().await;
}

async fn check(open: &Open, stretches: &[Stretch], last: u64) {
    let alerted = open.alerted().await;
    for stretch in stretches {
        assert!(stretch.from < stretch.to && stretch.to <= last);
        for round in stretch.from..=stretch.to {
            for terminal in TERMINALS {
                let id = format!("{terminal}-{round}");
                let reached = alerted.binary_search(&id).is_ok();
                assert_eq!(
                    reached,
                    stretch.reached.contains(&terminal),
                    "{id} after the change before {}",
                    stretch.from
                );
            }
        }
    }
}

#[actix::test]
async fn a_plugin_that_is_switched_off_gets_nothing_more_and_goes_on_when_it_is_on_again() {
    let (off, on) = (json!({"active": false}), json!({"active": true}));
    let none: &[&str] = &[];
    obeys_under_load(&[
        (off.clone(), none),
        (on.clone(), &TERMINALS),
        (on.clone(), &TERMINALS),
        (off, none),
        (on, &TERMINALS),
    ])
    .await;
}

#[actix::test]
async fn a_changed_limit_holds_for_the_next_event() {
    let limit = |limit| json!({"settings": {"rules": [drawer_rule(limit)]}});
    let none: &[&str] = &[];
    obeys_under_load(&[(limit(499), none), (limit(0), &TERMINALS), (limit(499), none), (limit(0), &TERMINALS)]).await;
}

#[actix::test]
async fn a_changed_eligibility_holds_for_the_next_event() {
    let only = |terminals: &[&str]| json!({"eligibility": {"terminals": terminals}});
    obeys_under_load(&[(only(&["T2"]), &["T2"]), (only(&[]), &TERMINALS), (only(&["T1", "T3"]), &["T1", "T3"])]).await;
}

/// Decisions across tills wait until every till has said as much. What was appended while the plugin was off must not
/// reach it afterwards because of that.
#[actix::test]
async fn what_waits_for_other_tills_when_a_plugin_is_switched_on_again_is_not_for_it() {
    let mut rule = drawer_rule(0);
    rule["scope"] = json!("employee");
    let shop = Shop::with_plugins(&json!({"plugins": {FRAUD: {"active": true, "settings": {"rules": [rule]}}}}));
    let open = shop.open().await;
    open.append(&[drawer("T1", 1, 0)]).await;
    // Time that has moved on releases what stands before it.
    open.append(&[drawer("T2", 1, 60)]).await;
    until("the first is decided on", async || open.alerted().await == ["T1-1"]).await;
    open.change(FRAUD, json!({"active": false})).await;
    open.append(&[drawer("T1", 2, 120), drawer("T3", 1, 130)]).await;
    open.has_read_all().await;
    open.change(FRAUD, json!({"active": true})).await;
    open.append(&[drawer("T1", 3, 140), drawer("T2", 2, 200)]).await;
    until("the next one is decided on", async || open.alerted().await.contains(&"T1-3".to_owned())).await;
    assert_eq!(open.alerted().await, ["T1-1", "T1-3"]);
    open.stop().await;
}
