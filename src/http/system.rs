//! `GET /api/system`: what all processes are and do, as far as this one knows.

mod view;

use std::time::Duration;

use actix_web::HttpResponse;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::problem::Problem;
use super::{AppState, Local, State, health};
use crate::bus::{Topic, TopicPartition};
use crate::processes::{PartitionInfo, Process, TotalsInfo};
use crate::status;
use crate::store::model::PartitionRow;
use crate::time::Timestamp;
use view::{Actor, Delivery, FeedView, Kind, Parked, Partition, ProcessView, System, TillClock, Unready};

/// Bus or store are given up after this: an old figure is better than no page.
const PATIENCE: Duration = Duration::from_secs(1);
/// A partition holds the clock if it is the last one, and so far behind the first.
const BEHIND_MS: i64 = 1000;

/// What all processes are and do.
///
/// `partitions`, `delivery` and `totals` are about all processes that share bus and store; `actors` and `unready` name the
/// process where there are several. Of other processes it is what their last heartbeat told, at most some seconds ago.
#[utoipa::path(get, path = "/api/system", tag = "system", responses((status = 200, description = "The system", body = System)))]
pub(super) async fn show(state: State, local: actix_web::web::Data<Local>) -> Result<HttpResponse, Problem> {
    let processes = state.processes.all();
    let (partitions, delivery, checks) =
        tokio::join!(partitions(&state, &processes), delivery(&state, &local, &processes), health::checks(&state));
    let failed: Vec<_> = checks.iter().filter_map(health::Check::failure).collect();
    let alive = || processes.iter().filter(|process| process.is_alive);
    let this = &processes[0];
    let extent = state.feed.extent();
    // Of itself a process knows more than it tells the others: whether bus and store answer it now.
    let is_ready = |process: &Process| {
        if process.id == this.id { failed.is_empty() } else { process.is_alive && process.info.unready.is_empty() }
    };
    let view = |process| ProcessView::new(process, process.id == this.id, is_ready(process), &partitions);
    let views = processes.iter().map(view).collect();
    let is_alone = processes.len() == 1;
    let name = |process: &Process| (!is_alone).then(|| process.id.clone());
    Ok(HttpResponse::Ok().json(System {
        version: env!("CARGO_PKG_VERSION"),
        process: this.id.clone(),
        roles: state.status.roles().iter().map(|role| role.as_str()).collect(),
        uptime_seconds: state.status.uptime_seconds(),
        bus: Kind { kind: state.config.bus.kind.as_str() },
        store: Kind { kind: state.config.store.url.kind() },
        partitions,
        processes: views,
        actors: alive()
            .flat_map(|process| process.info.actors.iter().map(|actor| Actor::new(actor, name(process))))
            .collect(),
        totals: alive().fold(TotalsInfo::default(), |sum, process| sum.plus(process.info.totals)),
        delivery,
        feed: FeedView {
            feed_id: state.feed.id().to_owned(),
            clients: state.feed.readers(),
            oldest: extent.oldest,
            newest: extent.newest,
        },
        parked: alive()
            .flat_map(|process| process.info.parked.iter().map(|item| Parked::new(item, name(process))))
            .collect(),
        rss_bytes: status::rss_bytes(),
        clocks: alive().flat_map(|process| &process.info.clocks).filter_map(TillClock::new).collect(),
        unready: failed
            .iter()
            .map(|(part, message)| Unready::new(part, message, name(this)))
            .chain(alive().filter(|process| process.id != this.id).flat_map(|process| {
                let parts = process.info.unready.iter();
                parts.map(|part| Unready::new(&part.part, &part.message, name(process)))
            }))
            .collect(),
    }))
}

/// Every partition of `pos.events` and `pos.events.rekeyed` that somebody has ever taken.
async fn partitions(state: &AppState, processes: &[Process]) -> Vec<Partition> {
    let rows = timeout(PATIENCE, state.store.partitions()).await.ok().and_then(Result::ok).unwrap_or_default();
    let topics = [Topic::Events, Topic::Rekeyed];
    let places = topics.iter().flat_map(|&topic| {
        (0..topic.partitions(state.bus.partitions())).map(move |number| TopicPartition::new(topic, number))
    });
    let known = places.map(|place| {
        let row = rows.iter().find(|row| row.partition == place);
        (place, row, owner(place, row, processes))
    });
    let known: Vec<_> = known.filter(|(_, row, owner)| row.is_some() || owner.is_some()).collect();
    let ends = join_all(known.iter().map(|(place, ..)| timeout(PATIENCE, state.bus.bounds(*place)))).await;
    let is_alone = processes.len() == 1;
    let mut partitions: Vec<Partition> = known
        .into_iter()
        .zip(ends)
        .map(|((place, row, owner), end)| {
            let end = end.ok().and_then(Result::ok).map(|bounds| bounds.high);
            partition(place, row, owner, end, is_alone)
        })
        .collect();
    mark_who_holds_the_clock(&mut partitions);
    partitions
}

/// The living process that took the partition last, and what it says of it.
fn owner<'a>(
    place: TopicPartition,
    row: Option<&PartitionRow>,
    processes: &'a [Process],
) -> Option<(&'a Process, &'a PartitionInfo)> {
    let claims = processes.iter().filter(|process| process.is_alive).flat_map(|process| {
        let of_process = process.info.partitions.iter().filter(|info| info.place() == Some(place));
        of_process.map(move |info| (process, info))
    });
    let newest = claims.max_by_key(|(_, info)| info.epoch)?;
    row.is_none_or(|row| row.epoch <= newest.1.epoch).then_some(newest)
}

fn partition(
    place: TopicPartition,
    row: Option<&PartitionRow>,
    owner: Option<(&Process, &PartitionInfo)>,
    end: Option<i64>,
    is_alone: bool,
) -> Partition {
    let (told_next, told_end, told_clock) =
        owner.map_or((0, 0, 0), |(_, info)| (info.next_offset, info.end_offset, info.clock));
    let next_offset = row.map_or(told_next, |row| row.next_offset.max(told_next));
    // While the bus is away, what was seen last is better than no page.
    let end_offset = end.unwrap_or(0).max(told_end).max(next_offset);
    let clock = row.map_or(told_clock, |row| row.clock.as_millis().max(told_clock));
    Partition {
        topic: place.topic.name(),
        partition: place.partition,
        owner: owner.map(|(process, info)| {
            let shard = format!("shard-{}", info.shard);
            if is_alone { shard } else { format!("{}/{shard}", process.id) }
        }),
        process: owner.map(|(process, _)| process.id.clone()),
        next_offset,
        end_offset,
        lag: end_offset - next_offset,
        clock: (clock > 0).then(|| Timestamp::from_millis(clock)),
        holds_clock: false,
    }
}

fn mark_who_holds_the_clock(partitions: &mut [Partition]) {
    let clocks = || partitions.iter().filter(|one| one.topic == Topic::Events.name()).filter_map(|one| one.clock);
    let (Some(lowest), Some(highest)) = (clocks().min(), clocks().max()) else {
        return;
    };
    if highest.millis_since(lowest) < BEHIND_MS {
        return;
    }
    for one in partitions.iter_mut().filter(|one| one.topic == Topic::Events.name()) {
        one.holds_clock = one.clock == Some(lowest);
    }
}

/// What waits for delivery, and how relays and dispatchers fare.
async fn delivery(state: &AppState, local: &Local, processes: &[Process]) -> Delivery {
    let asked = async { tokio::join!(state.store.outbox_backlog(), state.store.counts()) };
    let (backlog, counts) = match timeout(PATIENCE, asked).await {
        Ok((backlog, counts)) => (backlog.ok(), counts.ok()),
        Err(_) => (None, None),
    };
    let oldest = backlog.as_ref().map(|backlog| local.metrics.outbox_age(backlog));
    Delivery::new(processes, backlog.as_deref(), oldest, counts)
}
