//! A dispatcher that stops, or is killed, keeps its orders from the others no longer than it must.

use std::time::Duration;

use serde_json::json;
use tillstream::delivery::stub_orders::{Behaviour, StubOrders};

use crate::chain::{Chain, until};
use crate::process::Process;
use crate::tills::{order, post};

const PATIENCE: Duration = Duration::from_mins(1);

/// An order that hangs at the third party, sent by the only dispatcher there is.
async fn hanging(chain: &Chain, key: &str, party: &StubOrders, api: &Process) {
    let before = times(party);
    party.set_behaviour(Behaviour { hang: 1.0, ..Behaviour::default() });
    let posted = post(&reqwest::Client::new(), api.url(), key, &order("T1", 150)).await.expect("an answer");
    assert_eq!(posted.0, 201);
    until("it is being sent", PATIENCE, async || times(party) == before + 1).await;
    until("it is claimed", PATIENCE, async || {
        chain.database.texts("SELECT order_id AS value FROM order_deliveries WHERE claim IS NOT NULL").len() == 1
    })
    .await;
    party.set_behaviour(Behaviour::default());
}

fn times(party: &StubOrders) -> u64 {
    party.received().iter().map(|order| order.times).sum()
}

#[actix::test]
async fn what_a_dispatcher_was_sending_goes_to_the_next_one_whether_it_is_stopped_or_killed() {
    let Some(mut chain) = Chain::new("the handover of orders") else { return };
    let party = StubOrders::start(0, Behaviour::default(), 7, StubOrders::REMEMBER_DEFAULT).expect("a free port");
    chain.environment.push(("TILLSTREAM__ORDERS__URL", party.url()));
    let api = chain.start("api,processor,relay");
    // Far longer than this test waits: nobody learns of it by a time-out.
    let settings = json!({"settings": {"timeoutMs": 120_000}});
    assert_eq!(api.patch("/api/plugins/order-delivery", settings).await.0, 200);
    let succeeded = async |count: u64| {
        until("it arrived", PATIENCE, async || {
            api.get("/api/orders/stats").await.1["counts"] == json!({"PENDING": 0, "SUCCESS": count, "FAILED": 0})
        })
        .await
    };
    for (count, signal) in [(1, "TERM"), (2, "KILL")] {
        let first = chain.start("dispatcher");
        hanging(&chain, signal, &party, &api).await;
        let second = chain.start("dispatcher");
        first.stop_by(signal);
        let took = succeeded(count).await;
        crate::chain::say(&format!("after SIG{signal} the order arrived within {took:?}"));
        drop(second);
    }
    party.stop().await;
}
