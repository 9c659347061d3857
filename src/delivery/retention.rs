//! Lets the embedded bus forget what nobody here waits for: topics that are written for other consumers only.
//!
//! The floors of `pos.events` and `pos.events.rekeyed` follow the commits; `order.created` keeps all until it is consumed.

use std::time::Duration;

use crate::bus::{Bus, Topic, TopicPartition};
use crate::status::Parked;

const TOPICS: [Topic; 4] = [Topic::Plugins, Topic::DeadLetters, Topic::Feed, Topic::Heartbeats];
const EVERY: Duration = Duration::from_mins(1);

/// Its name among the parts of the process.
const PART: &str = "retention";

/// Moves the floors of these topics to their ends, now and then, until the future is dropped. A partition that fails holds up no
/// other.
pub async fn run(bus: &dyn Bus, parked: &Parked) {
    if bus.is_shared() {
        // Its retention follows the settings of its topics.
        return std::future::pending().await;
    }
    loop {
        for topic in TOPICS {
            for partition in 0..topic.partitions(bus.partitions()) {
                let place = TopicPartition::new(topic, partition);
                match bus.bounds(place).await {
                    Ok(bounds) => {
                        bus.set_floor(place, bounds.high);
                        parked.unpark(PART, &place.to_string());
                    }
                    Err(error) => parked.park(PART, &place.to_string(), &error.to_string()),
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
