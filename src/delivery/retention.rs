//! Lets the embedded bus forget what nobody here waits for: topics that are written for other consumers only.
//!
//! The floors of `pos.events` and `pos.events.rekeyed` follow the commits; `order.created` keeps all until it is consumed.

use std::time::Duration;

use crate::bus::{Bus, Topic, TopicPartition};

const TOPICS: [Topic; 4] = [Topic::Plugins, Topic::DeadLetters, Topic::Feed, Topic::Heartbeats];
const EVERY: Duration = Duration::from_mins(1);

/// Moves the floors of these topics to their ends, now and then, until the process ends.
///
/// # Errors
/// If the bus fails; a fresh start goes on.
pub async fn run(bus: &dyn Bus) -> Result<(), String> {
    if bus.is_shared() {
        // Its retention follows the settings of its topics.
        return std::future::pending().await;
    }
    loop {
        for topic in TOPICS {
            for partition in 0..topic.partitions(bus.partitions()) {
                let place = TopicPartition::new(topic, partition);
                let bounds = bus.bounds(place).await.map_err(|error| error.to_string())?;
                bus.set_floor(place, bounds.high);
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
