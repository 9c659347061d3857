//! A customer system that is slow, dead or talkative: nobody else waits for it, nobody is asked for twice, and nothing of
//! what nobody may keep is kept.

use std::fs;

use serde_json::{Value, json};
use tillstream::bus::Topic;
use tillstream::delivery::stub_customers::{Behaviour, StubCustomers};

use crate::process::Process;
use crate::shop::{Open, Shop, drawer, event, until};

const ENRICHED: &str = "pos.customer.enriched";
const FAILED: &str = "pos.customer.lookup_failed";

fn identified(terminal: &str, sequence: u64, customer: &str) -> Value {
    let data = json!({"basketId": format!("B{sequence}"), "employeeId": "E1", "customerId": customer});
    event("pos.customer.identified", terminal, sequence, 0, data)
}

async fn answers(open: &Open) -> usize {
    open.published(ENRICHED).await.len() + open.published(FAILED).await.len()
}

#[actix::test]
async fn a_customer_system_that_is_slow_or_dead_holds_up_nobody_else() {
    let customers = StubCustomers::start(0, Behaviour { latency_ms: 20_000, ..Behaviour::default() }).expect("a port");
    let shop = Shop::new().with_customers(&customers.url());
    let open = shop.open().await;
    for sequence in 1..=40 {
        open.append(&[identified("T1", sequence, &format!("C{sequence}")), drawer("T2", sequence, 0)]).await;
    }
    open.append(&[drawer("T1", 41, 0)]).await;
    until("everybody else is served", async || open.alerted().await.len() == 41).await;
    assert_eq!(open.published(ENRICHED).await.len(), 0, "the customer system still thinks");
    until("each look-up has come to an end", async || answers(&open).await == 40).await;
    let errors: Vec<Value> = open.published(FAILED).await.iter().map(|event| event["data"]["error"].clone()).collect();
    assert!(errors.iter().all(|error| error == "timeout" || error == "circuit_open"), "{errors:?}");
    customers.stop().await;
    open.append(&[identified("T1", 42, "C99"), drawer("T1", 43, 0)]).await;
    until("everybody else is served", async || open.alerted().await.len() == 42).await;
    until("the look-up has come to an end", async || answers(&open).await == 41).await;
    open.stop().await;
}

#[actix::test]
async fn killed_in_the_middle_of_its_calls_it_answers_each_of_them_once() {
    let customers = StubCustomers::start(0, Behaviour { latency_ms: 150, ..Behaviour::default() }).expect("a port");
    let shop = Shop::new().with_customers(&customers.url());
    let mut asked = 0;
    for _ in 0..3 {
        let process = Process::start(&shop);
        let batch: Vec<_> =
            (1..=30).map(|next| identified("T1", asked + next, &format!("C{}", asked + next))).collect();
        // Before the events are sent: afterwards all calls may have begun already, and no more would come.
        let begun = customers.received().len();
        process.post(&batch).await;
        asked += 30;
        until("some calls are under way", async || customers.received().len() > begun).await;
        drop(process);
    }
    customers.set_behaviour(Behaviour::default());
    let open = shop.open().await;
    until("each customer is known or unknown", async || answers(&open).await as u64 == asked).await;
    open.settled().await;
    let mut baskets: Vec<String> = Vec::new();
    for kind in [ENRICHED, FAILED] {
        let events = open.published(kind).await;
        baskets.extend(events.iter().map(|event| event["data"]["basketId"].as_str().expect("a text").to_owned()));
    }
    baskets.sort_unstable();
    baskets.dedup();
    assert_eq!(baskets.len() as u64, asked);
    open.stop().await;
}

/// What the stub tells of customers and nobody asked for.
const PRIVATE: [&str; 3] = ["Musterstadt", "example.com", "memberSince"];

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[actix::test]
async fn of_a_customer_only_the_chosen_fields_are_kept_anywhere() {
    let customers = StubCustomers::start(0, Behaviour::default()).expect("a port");
    let shop = Shop::new().with_customers(&customers.url());
    let open = shop.open().await;
    let events: Vec<_> = (1..=30).map(|next| identified("T1", next, &format!("C{next}"))).collect();
    open.append(&events).await;
    // A till that says what no event may say; and one whose message is no event at all.
    let mut forbidden = drawer("T1", 31, 0);
    forbidden["data"]["dateOfBirth"] = json!("1999-12-31");
    open.append(&[forbidden]).await;
    until("each customer is known or unknown", async || answers(&open).await == 30).await;
    open.settled().await;
    let enriched = open.published(ENRICHED).await;
    assert!(enriched.len() > 20, "{} are known", enriched.len());
    for event in &enriched {
        let keys: Vec<&String> = event["data"]["customer"].as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["firstName"]);
    }
    assert_eq!(open.query("SELECT reason AS value FROM dead_letters"), ["forbidden_data"]);
    let letters = open.records(Topic::DeadLetters).await;
    assert!(letters.iter().all(|letter| !contains(&letter.value, "1999-12-31")));
    for topic in Topic::ALL {
        for record in open.records(topic).await {
            assert!(PRIVATE.iter().all(|secret| !contains(&record.value, secret)), "on {}", topic.name());
        }
    }
    open.stop().await;
    for file in fs::read_dir(shop.path("")).expect("the directory") {
        let path = file.expect("an entry").path();
        let bytes = fs::read(&path).expect("a file");
        assert!(PRIVATE.iter().all(|secret| !contains(&bytes, secret)), "in {}", path.display());
        // The bus keeps what tills put there; the store does not.
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("store.db")) {
            assert!(!contains(&bytes, "1999-12-31"), "in {}", path.display());
        }
    }
}
