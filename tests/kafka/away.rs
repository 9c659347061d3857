//! The brokers go away while tills post orders: each is accepted all the same, and published in order once they are back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::json;
use tillstream::bus::Topic;
use tillstream::bus::partitioner::partition_of;
use tillstream::delivery::stub_orders::{Behaviour, StubOrders};

use crate::chain::{Chain, PARTITIONS, PATIENCE, say, until};
use crate::process::Process;
use crate::tills::{keys, order, post};

const TILLS: usize = 10;
/// A till has a customer about as often; it need not be quick for what is tested here.
const BETWEEN_ORDERS: Duration = Duration::from_millis(50);
/// An API that waited for the bus would take longer.
const ANSWER_AFTER: Duration = Duration::from_secs(2);

/// Posts orders from several tills for so long, each till one after the other, and returns their ids by till. Every one of
/// them must be accepted at its first try.
async fn post_for(api: &Process, begin: usize, time: Duration) -> Vec<Vec<String>> {
    let client = reqwest::Client::builder().timeout(ANSWER_AFTER).build().expect("a client");
    let work = (0..TILLS).map(|till| {
        let (client, url) = (client.clone(), api.url().to_owned());
        async move {
            let (terminal, until) = (format!("T{till}"), Instant::now() + time);
            let mut ids = Vec::new();
            while Instant::now() < until {
                let number = begin + ids.len();
                let order = order(&terminal, 100 + i64::try_from(number).expect("small"));
                let answer = post(&client, &url, &format!("{terminal}-{number}"), &order).await;
                let (status, id) = answer.expect("an answer in time");
                assert_eq!(status, 201);
                ids.push(id.expect("an id"));
                tokio::time::sleep(BETWEEN_ORDERS).await;
            }
            ids
        }
    });
    futures_util::future::join_all(work).await
}

async fn unpublished(api: &Process) -> usize {
    let count = api.get("/api/orders/stats").await.1["unpublished"].as_u64().expect("a number");
    usize::try_from(count).expect("small")
}

/// Tills that post orders before, while and after the brokers are away, with the order system as it is after that.
pub(crate) struct Orders {
    chain: Chain,
    party: StubOrders,
    api: Process,
    others: [Process; 2],
    posted: Vec<Vec<Vec<String>>>,
}

impl Orders {
    /// Everything works.
    pub(crate) async fn before(what: &str) -> Option<Self> {
        let mut chain = Chain::new(what)?;
        let party = StubOrders::start(0, Behaviour::default(), 1, StubOrders::REMEMBER_DEFAULT).expect("a free port");
        chain.environment.push(("TILLSTREAM__ORDERS__URL", party.url()));
        let api = chain.start("api");
        let others = [chain.start("relay"), chain.start("processor,dispatcher")];
        let posted = vec![post_for(&api, 0, Duration::from_secs(1)).await];
        until("they have arrived", PATIENCE, async || party.received().len() == posted[0].concat().len()).await;
        Some(Self { chain, party, api, others, posted })
    }

    /// The brokers are away for so long.
    pub(crate) async fn during(&mut self, away: Duration) {
        let begin = self.posted[0].iter().map(Vec::len).max().expect("several tills");
        self.posted.push(post_for(&self.api, begin, away).await);
        assert_eq!(unpublished(&self.api).await, self.posted[1].concat().len(), "all of them wait for the brokers");
    }

    /// They are back.
    pub(crate) async fn after(self) {
        let Self { chain, party, api, others, mut posted } = self;
        let accepted = posted[1].concat().len();
        let back = until("all are published", PATIENCE, async || unpublished(&api).await == 0).await;
        let begin = posted.iter().map(|part| part.iter().map(Vec::len).max().expect("several tills")).sum();
        posted.push(post_for(&api, begin, Duration::from_secs(1)).await);
        let all: Vec<String> = posted.iter().flat_map(|part| part.concat()).collect();
        until("all have ended", PATIENCE, async || {
            let (_, stats) = api.get("/api/orders/stats").await;
            stats["counts"] == json!({"PENDING": 0, "SUCCESS": all.len(), "FAILED": 0})
        })
        .await;
        drop((api, others));

        let published = keys(&chain.records(Topic::OrderCreated).await);
        assert_eq!(published.len(), all.len(), "each once");
        assert_eq!(published.iter().collect::<BTreeSet<_>>(), all.iter().collect::<BTreeSet<_>>());
        // Partitions are read one after the other: orders of a till that share one stand in the order in which it posted them.
        let places: BTreeMap<&String, usize> = (0..).zip(&published).map(|(place, id)| (id, place)).collect();
        for till in 0..TILLS {
            let of_till: Vec<&String> = posted.iter().flat_map(|part| &part[till]).collect();
            for partition in 0..PARTITIONS {
                let of_partition = of_till.iter().filter(|id| partition_of(id.as_bytes(), PARTITIONS) == partition);
                let places: Vec<usize> = of_partition.map(|id| places[*id]).collect();
                assert!(places.is_sorted(), "till {till}, partition {partition}: {places:?}");
            }
        }
        assert_eq!(party.conflicts(), []);
        say(&format!("{accepted} orders were accepted without brokers, and published {back:?} after those were back"));
        party.stop().await;
    }
}
