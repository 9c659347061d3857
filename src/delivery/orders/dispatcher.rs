//! The dispatcher of orders: claims those that are due, sends them to the third party, writes down what came of it.
//!
//! One transaction a turn settles what has ended and claims what comes next. Attempts run next to each other in
//! `Places`; nothing of them matters until their turn commits. While it is at work it renews its claims. A dispatcher that dies leaves
//! claims behind that run out soon, and the order is sent again under the same key. One that stops claims nothing more, settles
//! what is answered within a moment, and gives up the rest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::OrderContext;
use super::in_flight::Places;
use super::third_party::{Answer, ThirdParty};
use crate::control::Snapshot;
use crate::delivery::breaker::Breaker;
use crate::delivery::{Backoff, HttpNotice};
use crate::event::Event;
use crate::orders::order::{created_event, delivery_body};
use crate::plugins::Plugin;
use crate::plugins::order_delivery::{Next, OrderDelivery, Outcome, Settings, decide};
use crate::status::ConditionFailure;
use crate::store::{AttemptRecord, ClaimRequest, ClaimedOrder, Settled, Settlement, StoreError, Turn};
use crate::time::Timestamp;

/// How long a dispatcher that is no longer heard of keeps its orders from the others.
const HOLD_MS: i64 = 2_500;
/// How often a dispatcher that is at work renews its claims.
const RENEW: Duration = Duration::from_millis(700);
/// How long a dispatcher that stops waits for answers. What has none by then, somebody else sends again.
const DRAIN: Duration = Duration::from_millis(700);
/// How long an order rests whose outcome the store refuses.
const REFUSED_REST_MS: i64 = 60_000;
/// Pauses between the attempts of one order.
const RETRY: Backoff = Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(30) };
/// Its name among the parts of the process.
const PART: &str = "orders";
const STORE_AWAY: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };
/// How long to wait before looking whether the third party may be tried, at least.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// Sends orders to the third party.
pub struct OrderDispatcher {
    context: OrderContext,
    party: Option<Arc<ThirdParty>>,
    places: Places,
    breaker: Arc<Mutex<Breaker>>,
}

/// What a run is doing.
#[derive(Default)]
struct Work {
    attempts: JoinSet<Settled>,
    /// Orders that are being sent, with the claims under which they are held.
    held: HashMap<String, i64>,
    /// What has ended and is not written down.
    settled: Arc<Vec<Settled>>,
    failures: u32,
    renewed_at: Option<Instant>,
    /// Until when answers are waited for, once the process stops.
    stops_at: Option<Instant>,
}

impl Work {
    /// Takes in an attempt that has ended. Its claim is the latest one: it may have run out and been taken anew.
    fn ended(&mut self, mut one: Settled) {
        if let Some(claim) = self.held.remove(&one.claimed.order.id) {
            one.claim = claim;
        }
        Arc::make_mut(&mut self.settled).push(one);
    }

    fn claims(&self) -> Vec<(String, i64)> {
        self.held.iter().map(|(id, claim)| (id.clone(), *claim)).collect()
    }

    fn is_drained(&self) -> bool {
        let is_over = self.attempts.is_empty() || self.stops_at.is_some_and(|at| Instant::now() >= at);
        self.stops_at.is_some() && self.settled.is_empty() && is_over
    }
}

/// What an attempt needs.
struct Attempt {
    claimed: ClaimedOrder,
    claim: i64,
    settings: Settings,
    party: Arc<ThirdParty>,
    breaker: Arc<Mutex<Breaker>>,
    lookup: bool,
}

impl OrderDispatcher {
    /// A dispatcher that wakes when orders are due.
    #[must_use]
    pub fn new(context: OrderContext) -> Self {
        Self {
            party: context.url.clone().map(|url| Arc::new(ThirdParty::new(url))),
            places: Places::new(Arc::clone(&context.signals.due)),
            breaker: Arc::default(),
            context,
        }
    }

    /// Sends orders until the future is dropped, which is safe at any moment. Without `orders.url` it does nothing.
    ///
    /// # Errors
    /// If the store cannot be read at the start; a fresh start goes on.
    pub async fn run(&self) -> Result<(), String> {
        let Some(party) = &self.party else {
            return std::future::pending().await;
        };
        if !self.context.bus.is_shared() {
            // Nobody else can be at work on what the process before this one had claimed.
            self.context.store.release_order_claims().await.map_err(|error| error.to_string())?;
        }
        let mut work = Work::default();
        let mut stopping = self.context.stopping.clone();
        loop {
            if *stopping.borrow_and_update() && work.stops_at.is_none() {
                work.stops_at = Some(Instant::now() + DRAIN);
            }
            if work.is_drained() {
                self.give_up(work).await;
                return std::future::pending().await;
            }
            self.renew(&mut work).await;
            let wait = self.turn(party, &mut work).await;
            self.look_at_breaker();
            if let Some(wait) = wait {
                tokio::select! {
                    () = self.pause(wait, &mut work) => {}
                    _ = stopping.changed(), if work.stops_at.is_none() => {}
                }
            }
            while let Some(joined) = work.attempts.try_join_next() {
                // An attempt that panicked leaves its claim to run out.
                if let Ok(one) = joined {
                    work.ended(one);
                }
            }
        }
    }

    /// One turn with the store; how long to wait after it.
    async fn turn(&self, party: &Arc<ThirdParty>, work: &mut Work) -> Option<Duration> {
        let snapshot = self.context.control.snapshot();
        let claim = if work.stops_at.is_none() { self.claim_request(&snapshot) } else { None };
        if work.settled.is_empty() && claim.is_none() {
            return Some(self.idle_wait());
        }
        match self.context.store.order_turn(Arc::clone(&work.settled), claim).await {
            Ok(turn) => {
                work.failures = 0;
                self.tell(&work.settled, &turn);
                work.settled = Arc::default();
                let claim = claim.map_or(0, |request| request.claim);
                self.wait_after(&self.begin(turn, claim, &snapshot, party, work).await)
            }
            // One of them is at fault: the others must not wait for it.
            Err(error @ StoreError::Refused(_)) if !work.settled.is_empty() => {
                self.settle_apart(std::mem::take(&mut work.settled), &error).await;
                None
            }
            Err(error) => {
                work.failures += 1;
                if work.failures == 1 {
                    tracing::warn!(%error, "what became of orders cannot be written; trying again");
                }
                Some(STORE_AWAY.pause(work.failures))
            }
        }
    }

    /// Writes down one by one what became of orders. One that the store refuses is named; its claim runs out, and it is sent again
    /// under the same key.
    async fn settle_apart(&self, settled: Arc<Vec<Settled>>, error: &StoreError) {
        tracing::debug!(%error, orders = settled.len(), "what became of orders is written down one by one");
        for one in settled.iter() {
            let (id, alone) = (one.claimed.order.id.clone(), Arc::new(vec![one.clone()]));
            match self.context.store.order_turn(Arc::clone(&alone), None).await {
                Ok(turn) => self.tell(&alone, &turn),
                Err(error @ StoreError::Refused(_)) => {
                    self.context.status.parked.park(PART, &id, &format!("its outcome is refused: {error}"));
                    // Nobody sends it again at once.
                    let _ = self.context.store.renew_order_claims(vec![(id, one.claim)], REFUSED_REST_MS).await;
                }
                // Of the others nothing is known; those that are claimed are sent again when their claims run out.
                Err(error) => tracing::warn!(%error, order = id, "what became of an order could not be written"),
            }
        }
    }

    /// Keeps the orders that are being sent.
    async fn renew(&self, work: &mut Work) {
        if work.held.is_empty() {
            work.renewed_at = None;
            return;
        }
        let since = *work.renewed_at.get_or_insert_with(Instant::now);
        if since.elapsed() < RENEW {
            return;
        }
        // Should it fail, others send the same orders again under the same keys.
        if let Err(error) = self.context.store.renew_order_claims(work.claims(), HOLD_MS).await {
            tracing::debug!(%error, "claims of orders could not be renewed");
        }
        work.renewed_at = Some(Instant::now());
    }

    /// The process stops: what has no answer yet is due at once, for whoever is there.
    async fn give_up(&self, mut work: Work) {
        work.attempts.shutdown().await;
        if !work.held.is_empty()
            && let Err(error) = self.context.store.give_up_order_claims(work.claims()).await
        {
            tracing::warn!(%error, "claims of orders could not be given up; they run out by themselves");
        }
        self.context.drained.send_replace(true);
    }

    /// Waits until something has happened.
    async fn pause(&self, wait: Duration, work: &mut Work) {
        let store_is_away = work.failures > 0;
        // Claims are renewed and the end of a drain is seen in time.
        let until_renewal = work.renewed_at.map_or(RENEW, |at| RENEW.saturating_sub(at.elapsed()));
        let until_stop = work.stops_at.map(|at| at.saturating_duration_since(Instant::now()));
        let mut wait = if work.held.is_empty() { wait } else { wait.min(until_renewal) };
        if let Some(left) = until_stop.filter(|left| !left.is_zero()) {
            wait = wait.min(left);
        }
        tokio::select! {
            Some(finished) = work.attempts.join_next(), if !store_is_away => {
                if let Ok(one) = finished {
                    work.ended(one);
                }
            }
            () = self.context.signals.due.notified(), if !store_is_away => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        lock(&self.breaker)
    }

    /// How many orders may be sent now; none while the plugin is off, all places are taken, or the third party is away.
    fn claim_request(&self, snapshot: &Snapshot) -> Option<ClaimRequest> {
        if !snapshot.is_active::<OrderDelivery>() {
            return None;
        }
        let settings = snapshot.compiled::<OrderDelivery>();
        let limit = match self.breaker().probes_at() {
            None => self.places.free(),
            Some(at) if at <= Instant::now() => self.places.free().min(1),
            Some(_) => 0,
        };
        (limit > 0).then(|| ClaimRequest {
            limit,
            // Each turn has a mark of its own, by which it finds what it has claimed if its answer was lost.
            claim: rand::random::<i64>(),
            lease_ms: HOLD_MS,
            rate_per_second: settings.rate_per_second,
            settings_epoch: snapshot.epoch(),
        })
    }

    fn idle_wait(&self) -> Duration {
        let breaker = self.breaker().probes_at().map(|at| at.saturating_duration_since(Instant::now()));
        breaker.unwrap_or(self.context.poll()).clamp(SHORTEST_WAIT, self.context.poll())
    }

    /// How long to wait after a turn; `None`: go on at once.
    fn wait_after(&self, turn: &Turn) -> Option<Duration> {
        match (turn.rate_free_in, turn.next_due_in) {
            (Some(wait), _) | (None, Some(wait)) => Some(wait.clamp(SHORTEST_WAIT, self.context.poll())),
            (None, None) if turn.claimed.is_empty() => Some(self.context.poll()),
            // Others may be due as well, unless all places are taken now.
            (None, None) => (self.places.free() == 0).then_some(self.context.poll()),
        }
    }

    /// Starts the attempts at what was claimed.
    async fn begin(
        &self,
        mut turn: Turn,
        claim: i64,
        snapshot: &Snapshot,
        party: &Arc<ThirdParty>,
        work: &mut Work,
    ) -> Turn {
        let claimed = turn.claimed.clone();
        for claimed in claimed {
            if work.held.insert(claimed.order.id.clone(), claim).is_some() {
                // Its claim had run out, and the attempt is still under way.
                continue;
            }
            if let Some(held) = self.held(&claimed, claim, snapshot) {
                work.attempts.spawn(std::future::ready(held));
                continue;
            }
            let attempt = Attempt {
                claimed,
                claim,
                settings: snapshot.compiled::<OrderDelivery>().clone(),
                party: Arc::clone(party),
                breaker: Arc::clone(&self.breaker),
                lookup: self.context.lookup,
            };
            let (places, place) = (self.places.clone(), self.places.take().await);
            work.attempts.spawn(async move { places.run(place, attempt.make()).await });
        }
        turn.claimed.truncate(usize::from(!turn.claimed.is_empty()));
        turn
    }

    /// An order that the plugin's eligibility does not let through.
    fn held(&self, claimed: &ClaimedOrder, claim: i64, snapshot: &Snapshot) -> Option<Settled> {
        let plugin = self.context.status.plugin(OrderDelivery::NAME);
        match Event::parse(&created_event(&claimed.order)) {
            Ok(event) => match snapshot.eligibility::<OrderDelivery>().qualifies(&event, snapshot.stores()) {
                Ok(true) => return None,
                Ok(false) => {}
                Err(failure) => {
                    tracing::error!(order = claimed.order.id, %failure, "order-delivery's eligibility cannot judge");
                    plugin.condition_failed(ConditionFailure::of_eligibility(failure, &event));
                }
            },
            // It was an event when it was read from the bus; should it be none in this version, people must see it.
            Err(error) => {
                let why = format!("it is no event in this version: {error}; it is held until settings change");
                self.context.status.parked.park(PART, &claimed.order.id, &why);
            }
        }
        plugin.skipped.add(1);
        let settlement = Settlement::Held { settings_epoch: snapshot.epoch() };
        Some(Settled { claimed: claimed.clone(), claim, attempt: None, settlement })
    }

    fn look_at_breaker(&self) {
        let away = self.breaker().probes_at().is_some();
        self.context.status.orders.breaker_open.set(i64::from(away));
        self.context.status.orders.in_flight.set(i64::try_from(self.places.taken()).unwrap_or(i64::MAX));
    }

    /// Tells the rest of the process what is written down now.
    fn tell(&self, settled: &[Settled], turn: &Turn) {
        let status = &self.context.status;
        for (id, reason) in &turn.unreadable {
            status.parked.park(PART, id, reason);
        }
        let plugin = status.plugin(OrderDelivery::NAME);
        let mut notices = Vec::new();
        for one in settled {
            let Some(attempt) = one.attempt else { continue };
            let taken = one.settlement == Settlement::Delivered;
            plugin.effects.add(1);
            if taken { &status.orders.attempts_taken } else { &status.orders.attempts_failed }.add(1);
            notices.push(notice(one, attempt).into());
        }
        let ended = |wanted: fn(&Settlement) -> bool| {
            let of = settled.iter().filter(|one| wanted(&one.settlement));
            of.filter(|one| turn.ended.contains(&one.claimed.order.id)).count() as u64
        };
        let failed = ended(|settlement| matches!(settlement, Settlement::Failed { .. }));
        status.orders.delivered.add(ended(|settlement| matches!(settlement, Settlement::Delivered)));
        status.orders.failed.add(failed);
        status.totals.dead_letters.add(failed);
        plugin.errors.add(failed);
        if !notices.is_empty() {
            self.context.feed.publish(notices);
        }
        if !turn.ended.is_empty() {
            self.context.outbox.notify_one();
        }
    }
}

fn lock(breaker: &Mutex<Breaker>) -> MutexGuard<'_, Breaker> {
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
}

fn notice(one: &Settled, attempt: AttemptRecord) -> HttpNotice {
    let order = &one.claimed.order;
    let error = match &one.settlement {
        Settlement::Retry { error, .. } | Settlement::Failed { error, .. } => Some(error.clone()),
        _ => None,
    };
    HttpNotice {
        service: "orders",
        id: order.id.clone(),
        plugin: OrderDelivery::NAME.to_owned(),
        terminal: format!("/stores/{}/terminals/{}", order.store_id, order.terminal_id),
        at: attempt.at,
        path: order.id.clone(),
        status: attempt.status,
        error,
        attempts: order.attempts + 1,
        cached: false,
        duration_ms: attempt.duration_ms,
    }
}

impl Attempt {
    /// Makes the attempt, if the breaker lets it through.
    async fn make(self) -> Settled {
        let timeout = Duration::from_millis(self.settings.timeout_ms);
        let probing = {
            let mut breaker = lock(&self.breaker);
            let probing = breaker.probes_at().is_some();
            if !breaker.admits(Instant::now(), timeout * 2) {
                let wait = breaker.probes_at().map(|at| at.saturating_duration_since(Instant::now()));
                drop(breaker);
                return self.settled(None, Settlement::Released { wait: wait.unwrap_or_default() });
            }
            probing
        };
        let (at, begun) = (Timestamp::now(), Instant::now());
        let (answer, was_sent) = self.ask(timeout).await;
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        // A failure that opens the breaker, or comes while it is open, says nothing about this order.
        let host_is_away = self.report(&answer.outcome, begun);
        let record = AttemptRecord { at, status: answer.status, duration_ms };
        let may_have_arrived = was_sent && answer.outcome.may_have_arrived();
        let settlement = self.settlement(answer, probing || host_is_away);
        let mut settled = self.settled(Some(record), settlement);
        settled.claimed.may_have_arrived |= may_have_arrived;
        settled
    }

    /// The answer, and whether the order itself was sent for it.
    async fn ask(&self, timeout: Duration) -> (Answer, bool) {
        let order = &self.claimed.order;
        if self.lookup
            && (order.attempts > 0 || self.claimed.may_have_arrived)
            && let Some(answer) = self.party.look_up(&order.id, timeout).await
        {
            return (answer, false);
        }
        let body = delivery_body(&order.document, &order.id, order.created_at);
        (self.party.post(&order.id, body, timeout).await, true)
    }

    /// True if the third party counts as away now.
    fn report(&self, outcome: &Outcome, begun: Instant) -> bool {
        let mut breaker = lock(&self.breaker);
        if !outcome.is_fault_of_host() {
            breaker.succeeded(Instant::now());
        } else if breaker.failed(begun, Instant::now()) {
            tracing::warn!(?outcome, "the third party for orders does not work: paused, no attempts are spent");
        }
        breaker.probes_at().is_some()
    }

    fn settlement(&self, answer: Answer, host_is_away: bool) -> Settlement {
        let counted = self.claimed.counted;
        match decide(&answer.outcome, counted, host_is_away, self.claimed.may_have_arrived, &self.settings) {
            Next::Success => Settlement::Delivered,
            Next::Fail(reason) => Settlement::Failed { reason, error: answer.error },
            Next::Retry { counted: counts, not_before_ms } => {
                let pause = RETRY.pause(counted.saturating_add(1));
                let asked = Duration::from_millis(not_before_ms.unwrap_or(0));
                // Those that were asked for patience together do not come back together.
                let wait = if asked.is_zero() { pause } else { asked.saturating_add(pause / 4) };
                Settlement::Retry { wait, counted: counts, error: answer.error }
            }
        }
    }

    fn settled(self, attempt: Option<AttemptRecord>, settlement: Settlement) -> Settled {
        Settled { claimed: self.claimed, claim: self.claim, attempt, settlement }
    }
}
