//! `GET /api/system`: what this process is and does.

use actix_web::{HttpResponse, get};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use super::{AppState, State};
use crate::bus::TopicPartition;
use crate::status::{self, PartitionStatus};
use crate::time::Timestamp;

/// What this process is and does.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct System {
    /// Tillstream's version.
    version: &'static str,
    /// What this process takes on.
    roles: Vec<&'static str>,
    /// Since it started.
    uptime_seconds: u64,
    /// The bus.
    bus: Kind,
    /// The store.
    store: Kind,
    /// Partitions that this process owns.
    partitions: Vec<Partition>,
    /// Long-lived actors.
    actors: Vec<Actor>,
    /// Sums since the process started.
    totals: Totals,
    /// The live feed.
    feed: FeedView,
    /// Resident memory; null where the system does not tell.
    rss_bytes: Option<u64>,
    /// Parts that cannot work now, with the reason.
    unready: Vec<Unready>,
}

/// Which implementation it is.
#[derive(Debug, Serialize, ToSchema)]
struct Kind {
    /// `embedded`, `kafka`, `sqlite` or `mysql`.
    kind: &'static str,
}

/// One partition.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the API's name")]
struct Partition {
    /// `pos.events` or `pos.events.rekeyed`.
    topic: &'static str,
    /// Its number.
    partition: u32,
    /// Who applies it, such as `shard-0`.
    owner: String,
    /// First offset that is not committed.
    next_offset: i64,
    /// One past the last offset on the bus.
    end_offset: i64,
    /// Records that are not committed.
    lag: i64,
    /// The partition's clock; null before the first event.
    #[schema(value_type = Option<String>, format = DateTime)]
    clock: Option<Timestamp>,
}

/// One long-lived actor.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Actor {
    /// Its name.
    name: String,
    /// How often it was started again.
    restarts: u64,
    /// Why, the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// Sums since the process started.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Totals {
    /// Distinct valid events from terminals.
    events: u64,
    /// Duplicates that were dropped.
    duplicates: u64,
    /// Jumps in a terminal's sequence.
    gaps: u64,
    /// Dead letters.
    dead_letters: u64,
    /// Events that plugins published.
    derived: u64,
    /// Transactions.
    commits: u64,
}

/// The live feed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FeedView {
    /// Another one for every start of the process.
    feed_id: String,
    /// Who reads along.
    clients: usize,
    /// First `seq` that is still there.
    oldest: u64,
    /// Last `seq`.
    newest: u64,
}

/// A part that cannot work now.
#[derive(Debug, Serialize, ToSchema)]
struct Unready {
    /// Which.
    part: &'static str,
    /// Why, and what to do.
    message: String,
}

/// What this process is and does.
#[utoipa::path(tag = "system", responses((status = 200, description = "The process", body = System)))]
#[get("/api/system")]
pub(super) async fn show(state: State) -> Result<HttpResponse, Problem> {
    let mut partitions = Vec::new();
    for (partition, figures) in state.status.partitions() {
        partitions.push(partition_view(&state, partition, &figures).await);
    }
    let status = &state.status;
    let extent = state.feed.extent();
    let totals = &status.totals;
    Ok(HttpResponse::Ok().json(System {
        version: env!("CARGO_PKG_VERSION"),
        roles: status.roles().iter().map(|role| role.as_str()).collect(),
        uptime_seconds: status.uptime_seconds(),
        bus: Kind { kind: state.config.bus.kind.as_str() },
        store: Kind { kind: state.config.store.url.kind() },
        partitions,
        actors: status
            .actors()
            .into_iter()
            .map(|(name, actor)| Actor { name, restarts: actor.restarts.get(), last_error: actor.last_error() })
            .collect(),
        totals: Totals {
            events: totals.events.get(),
            duplicates: totals.duplicates.get(),
            gaps: totals.gaps.get(),
            dead_letters: totals.dead_letters.get(),
            derived: totals.derived.get(),
            commits: totals.commits.get(),
        },
        feed: FeedView {
            feed_id: state.feed.id().to_owned(),
            clients: state.feed.readers(),
            oldest: extent.oldest,
            newest: extent.newest,
        },
        rss_bytes: status::rss_bytes(),
        unready: status.unready().into_iter().map(|(part, message)| Unready { part, message }).collect(),
    }))
}

async fn partition_view(state: &AppState, partition: TopicPartition, figures: &PartitionStatus) -> Partition {
    // While the bus is away, what was seen last is better than no page.
    let seen = figures.end_offset.get();
    let end_offset = state.bus.bounds(partition).await.map_or(seen, |bounds| bounds.high.max(seen));
    let next_offset = figures.next_offset.get();
    Partition {
        topic: partition.topic.name(),
        partition: partition.partition,
        owner: format!("shard-{}", figures.shard.get()),
        next_offset,
        end_offset,
        lag: (end_offset - next_offset).max(0),
        clock: status::time_of(&figures.clock),
    }
}
