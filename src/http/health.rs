//! Probes: is the process alive, and can it do what its roles ask of it.
//!
//! Every role has its own check, and only what a role needs counts: a dispatcher can work while the bus is away. What is
//! not well but leaves the process useful (a parked lane, an open breaker, a disk that is nearly full) is `degraded` and no reason to send it no work.

use std::time::Duration;

use actix_web::HttpResponse;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{AppState, State};
use crate::bus::{Surplus, Topic, TopicPartition};
use crate::config::Role;
use crate::delivery::dispatcher::DispatcherFigures;
use crate::delivery::relay::RelayFigures;
use crate::processes::parked_items;
use crate::sqlite::Files;
use crate::status::ParkedItem;
use crate::status::StandingPlace;

/// Places that stand still which are named one by one.
const STANDING_MAX: usize = 20;
/// Bus or store count as away if they take longer; whoever probes waits little longer than that.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a part of the process fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Condition {
    /// It works.
    Ok,
    /// It works, but a person should look.
    Degraded,
    /// It cannot work.
    Failed,
}

/// A part of the process and how it fares.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Check {
    /// `bus`, `store`, a role, a part of the pipeline, or a place that stands still, such as `pos.events/3`.
    pub(super) name: String,
    /// Whether it can work.
    pub(super) ok: bool,
    /// How it fares.
    state: Condition,
    /// What is wrong, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl Check {
    fn new(name: &str, state: Condition, message: Option<String>) -> Self {
        Self { name: name.to_owned(), ok: state != Condition::Failed, state, message }
    }

    /// Its name and what is wrong, if it cannot work.
    pub(super) fn failure(&self) -> Option<(&str, &str)> {
        (!self.ok).then(|| (self.name.as_str(), self.message.as_deref().unwrap_or_default()))
    }

    fn of<T, E: std::fmt::Display>(name: &str, what_to_do: &str, result: Option<Result<T, E>>) -> Self {
        let why = match result {
            Some(Ok(_)) => return Self::new(name, Condition::Ok, None),
            Some(Err(error)) => error.to_string(),
            None => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        Self::new(name, Condition::Failed, Some(format!("{why}; {what_to_do}")))
    }

    /// As it is, or worse if the files that it answers from are gone or run out of room.
    fn with_files(self, files: Option<&Files>) -> Self {
        let Some(files) = files else { return self };
        if let Some(fault) = files.fault() {
            return Self::new(&self.name, Condition::Failed, Some(fault));
        }
        match files.warning() {
            Some(warning) if self.ok => Self::new(&self.name, Condition::Degraded, Some(warning)),
            _ => self,
        }
    }
}

/// Whether the process can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`, `degraded` if it works but a person should look, or `unavailable` if any check fails.
    status: &'static str,
    /// What the process takes on.
    roles: Vec<&'static str>,
    /// What was looked at.
    checks: Vec<Check>,
}

fn health(state: &AppState, checks: Vec<Check>) -> Health {
    let status = match checks.iter().map(|check| check.state).max().unwrap_or(Condition::Ok) {
        Condition::Ok => "ok",
        Condition::Degraded => "degraded",
        Condition::Failed => "unavailable",
    };
    Health { status, roles: state.status.roles().iter().map(|role| role.as_str()).collect(), checks }
}

/// The process answers.
#[utoipa::path(get, path = "/health/live", tag = "system", responses((status = 200, description = "Alive", body = Health)))]
pub(super) async fn live(state: State) -> HttpResponse {
    HttpResponse::Ok().json(health(&state, Vec::new()))
}

/// The process can do its work: what its roles need answers, and no part of it has given up.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "system",
    responses((status = 200, description = "Ready", body = Health), (status = 503, description = "Not ready", body = Health))
)]
pub(super) async fn ready(state: State) -> HttpResponse {
    let checks = checks(&state).await;
    let is_ready = checks.iter().all(|check| check.ok);
    let health = health(&state, checks);
    if is_ready { HttpResponse::Ok().json(health) } else { HttpResponse::ServiceUnavailable().json(health) }
}

/// Looks at everything that the process's roles need.
pub(super) async fn checks(state: &AppState) -> Vec<Check> {
    let has = |role| state.status.roles().contains(&role);
    let needs_bus = has(Role::Api) || has(Role::Processor) || has(Role::Relay);
    let bus = async {
        if needs_bus {
            Some(timeout(PATIENCE, state.bus.bounds(TopicPartition::new(Topic::Events, 0))).await.ok())
        } else {
            None
        }
    };
    let store = timeout(PATIENCE, state.store.settings_epoch());
    let surplus = async {
        if has(Role::Api) || has(Role::Processor) { timeout(PATIENCE, state.bus.surplus()).await.ok() } else { None }
    };
    let (bus, store, surplus) = tokio::join!(bus, store, surplus);
    let mut checks = Vec::new();
    checks.extend(bus.map(|result| {
        let check = Check::of("bus", "events wait until it is back: look at the brokers", result);
        check.with_files(state.bus.files())
    }));
    let check = Check::of("store", "nothing is lost meanwhile: look at the database", store.ok());
    checks.push(check.with_files(state.store.files()));
    // Whether the bus answers at all, its own check says.
    if let Some(Ok(Some(surplus))) = surplus {
        checks.push(surplus_check(&surplus, has(Role::Processor)));
    }
    let unready = state.status.unready();
    if has(Role::Processor) && unready.iter().all(|(part, _)| *part != "processor") {
        checks.push(Check::new("processor", Condition::Ok, None));
    }
    for (part, why) in unready {
        // What the work came across says more than whether the part answers.
        checks.retain(|check| check.name != part);
        checks.push(Check::new(part, Condition::Failed, Some(why)));
    }
    let delivery = state.processes.delivery();
    checks.extend(delivery.relay.as_ref().map(|relay| relay_check(&relay.figures())));
    checks.extend(delivery.dispatcher.as_ref().map(|dispatcher| dispatcher_check(&dispatcher.figures())));
    checks.extend(actors_down(state));
    checks.extend(parked_checks(&parked_items(&state.status, delivery)));
    // Without bus or store nothing moves, and that is said already.
    if checks.iter().all(|check| check.ok || !matches!(check.name.as_str(), "bus" | "store")) {
        checks.extend(standing(&state.status.standing.for_longer_than(state.config.health.standstill)));
    }
    checks
}

/// Partitions that somebody added. What stands on them waits for a person; who only appends can go on.
fn surplus_check(surplus: &Surplus, is_processor: bool) -> Check {
    let condition = if is_processor && surplus.records > 0 { Condition::Failed } else { Condition::Degraded };
    Check::new("partitions", condition, Some(surplus.to_string()))
}

/// One check for each part that has set something aside.
fn parked_checks(items: &[ParkedItem]) -> Vec<Check> {
    let parts = items.chunk_by(|a, b| a.part == b.part).filter_map(|items| Some((items.first()?, items.len())));
    parts
        .map(|(first, count)| {
            let message = format!(
                "{count} set aside, the others go on; {} since {}: {}. The System page names them all; each is tried again every \
                 minute",
                first.name, first.since, first.reason
            );
            Check::new(first.part, Condition::Degraded, Some(message))
        })
        .collect()
}

/// Places that do not move although there is something to do: each by name, up to a number that a person can read.
fn standing(places: &[StandingPlace]) -> Vec<Check> {
    let mut checks: Vec<_> = places.iter().take(STANDING_MAX).map(stands_still).collect();
    if let Some(more) = places.len().checked_sub(STANDING_MAX).filter(|more| *more > 0) {
        checks.push(Check::new("standing", Condition::Failed, Some(format!("{more} more places stand still"))));
    }
    checks
}

fn stands_still(StandingPlace { place, position, since, cause }: &StandingPlace) -> Check {
    let cause = cause.as_deref().unwrap_or("the cause is not known: read the log of this process, then restart it");
    let message = format!("it stands still at {position} since {since} although more waits behind that: {cause}");
    Check::new(place, Condition::Failed, Some(message))
}

fn relay_check(figures: &RelayFigures) -> Check {
    if let Some(error) = &figures.error {
        let message = format!("the outbox is not being sent: {error}; it is tried again all the time");
        return Check::new("relay", Condition::Failed, Some(message));
    }
    let Some(first) = figures.parked.first() else {
        return Check::new("relay", Condition::Ok, None);
    };
    let message = format!(
        "{} lanes of the outbox are parked; {} since {}: {}. Make the bus take the record (size, rights); the lane goes on by itself",
        figures.parked.len(),
        first.lane,
        first.since,
        first.reason
    );
    Check::new("relay", Condition::Degraded, Some(message))
}

fn dispatcher_check(figures: &DispatcherFigures) -> Check {
    if let Some(error) = &figures.error {
        let message = format!("no HTTP calls are being made: {error}; it is tried again all the time");
        return Check::new("dispatcher", Condition::Failed, Some(message));
    }
    let open = figures.breakers.iter().filter(|(_, state)| *state == "open").map(|(name, _)| *name);
    let open: Vec<_> = open.collect();
    if open.is_empty() {
        return Check::new("dispatcher", Condition::Ok, None);
    }
    let message = format!("too many calls to {} failed and are paused; look at that system", open.join(", "));
    Check::new("dispatcher", Condition::Degraded, Some(message))
}

/// Long-lived actors that are gone at this moment. Those without which a role does nothing are a failure.
fn actors_down(state: &AppState) -> Vec<Check> {
    let down = state.status.actors().into_iter().filter(|(_, actor)| actor.is_down());
    down.map(|(name, actor)| {
        let is_vital = matches!(name.as_str(), "ingress" | "relay" | "dispatcher");
        let why = actor.last_error().unwrap_or_default();
        let message = format!("it is gone ({why}) and starts again in a moment; if it keeps going, read the log");
        Check::new(&name, if is_vital { Condition::Failed } else { Condition::Degraded }, Some(message))
    })
    .collect()
}
