//! The dispatcher of orders: claims those that are due, sends them to the third party, writes down what came of it.
//!
//! One transaction a turn settles what has ended and claims what comes next. Attempts run next to each other in
//! `Places`; nothing of them matters until their turn commits. A dispatcher that dies leaves claims behind that run out
//! by themselves, and the order is sent again under the same key.

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

/// How much longer than its time-out an attempt may take until it is settled, before its order may be claimed again.
const LEASE_MARGIN_MS: i64 = 10_000;
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
    /// Marks the claims of this run; another run, here or elsewhere, has another.
    claim: i64,
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
            claim: rand::random::<i64>(),
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
        let mut attempts: JoinSet<Settled> = JoinSet::new();
        let mut settled: Arc<Vec<Settled>> = Arc::default();
        let mut failures = 0;
        loop {
            let snapshot = self.context.control.snapshot();
            let claim = self.claim_request(&snapshot);
            let wait = if settled.is_empty() && claim.is_none() {
                Some(self.idle_wait())
            } else {
                match self.context.store.order_turn(Arc::clone(&settled), claim).await {
                    Ok(turn) => {
                        failures = 0;
                        self.tell(&settled, &turn);
                        settled = Arc::default();
                        self.wait_after(&self.begin(turn, &snapshot, party, &mut attempts).await)
                    }
                    // One of them is at fault: the others must not wait for it.
                    Err(error @ StoreError::Refused(_)) if !settled.is_empty() => {
                        self.settle_apart(std::mem::take(&mut settled), &error).await;
                        None
                    }
                    Err(error) => {
                        failures += 1;
                        if failures == 1 {
                            tracing::warn!(%error, "what became of orders cannot be written; trying again");
                        }
                        Some(STORE_AWAY.pause(failures))
                    }
                }
            };
            self.look_at_breaker();
            if let Some(wait) = wait {
                self.pause(wait, failures > 0, &mut attempts, &mut settled).await;
            }
            let done = Arc::make_mut(&mut settled);
            while let Some(Ok(one)) = attempts.try_join_next() {
                done.push(one);
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
                }
                // Of the others nothing is known; those that are claimed are sent again when their claims run out.
                Err(error) => tracing::warn!(%error, order = id, "what became of an order could not be written"),
            }
        }
    }

    /// Waits until something has happened.
    async fn pause(
        &self,
        wait: Duration,
        store_is_away: bool,
        attempts: &mut JoinSet<Settled>,
        settled: &mut Arc<Vec<Settled>>,
    ) {
        tokio::select! {
            Some(finished) = attempts.join_next(), if !store_is_away => {
                // An attempt that panicked leaves its claim to run out.
                if let Ok(one) = finished {
                    Arc::make_mut(settled).push(one);
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
        let requests = if self.context.lookup { 2 } else { 1 };
        let timeout_ms = i64::try_from(settings.timeout_ms).unwrap_or(i64::MAX / 4);
        (limit > 0).then(|| ClaimRequest {
            limit,
            claim: self.claim,
            lease_ms: timeout_ms.saturating_mul(requests).saturating_add(LEASE_MARGIN_MS),
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
        let until = |at: Timestamp| {
            let millis = u64::try_from(at.millis_since(Timestamp::now())).unwrap_or(0);
            Duration::from_millis(millis).clamp(SHORTEST_WAIT, self.context.poll())
        };
        match (turn.rate_free_at, turn.next_due) {
            (Some(at), _) | (None, Some(at)) => Some(until(at)),
            (None, None) if turn.claimed.is_empty() => Some(self.context.poll()),
            // Others may be due as well, unless all places are taken now.
            (None, None) => (self.places.free() == 0).then_some(self.context.poll()),
        }
    }

    /// Starts the attempts at what was claimed.
    async fn begin(
        &self,
        mut turn: Turn,
        snapshot: &Snapshot,
        party: &Arc<ThirdParty>,
        attempts: &mut JoinSet<Settled>,
    ) -> Turn {
        let claimed = turn.claimed.clone();
        for claimed in claimed {
            if let Some(held) = self.held(&claimed, snapshot) {
                attempts.spawn(std::future::ready(held));
                continue;
            }
            let attempt = Attempt {
                claimed,
                claim: self.claim,
                settings: snapshot.compiled::<OrderDelivery>().clone(),
                party: Arc::clone(party),
                breaker: Arc::clone(&self.breaker),
                lookup: self.context.lookup,
            };
            let (places, place) = (self.places.clone(), self.places.take().await);
            attempts.spawn(async move { places.run(place, attempt.make()).await });
        }
        turn.claimed.truncate(usize::from(!turn.claimed.is_empty()));
        turn
    }

    /// An order that the plugin's eligibility does not let through.
    fn held(&self, claimed: &ClaimedOrder, snapshot: &Snapshot) -> Option<Settled> {
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
        Some(Settled { claimed: claimed.clone(), claim: self.claim, attempt: None, settlement })
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
                let until = Timestamp::now().plus_millis(millis(wait.unwrap_or_default()));
                return self.settled(None, Settlement::Released { until });
            }
            probing
        };
        let (at, begun) = (Timestamp::now(), Instant::now());
        let answer = self.ask(timeout).await;
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        // A failure that opens the breaker, or comes while it is open, says nothing about this order.
        let host_is_away = self.report(&answer.outcome, begun);
        let record = AttemptRecord { at, status: answer.status, duration_ms };
        let settlement = self.settlement(answer, probing || host_is_away);
        self.settled(Some(record), settlement)
    }

    async fn ask(&self, timeout: Duration) -> Answer {
        let order = &self.claimed.order;
        if self.lookup
            && (order.attempts > 0 || self.claimed.may_have_arrived)
            && let Some(answer) = self.party.look_up(&order.id, timeout).await
        {
            return answer;
        }
        let body = delivery_body(&order.document, &order.id, order.created_at);
        self.party.post(&order.id, body, timeout).await
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
        match decide(&answer.outcome, counted, host_is_away, &self.settings) {
            Next::Success => Settlement::Delivered,
            Next::Fail(reason) => Settlement::Failed { reason, error: answer.error },
            Next::Retry { counted: counts, not_before_ms } => {
                let pause = millis(RETRY.pause(counted.saturating_add(1)));
                let asked = i64::try_from(not_before_ms.unwrap_or(0)).unwrap_or(i64::MAX);
                // Those that were asked for patience together do not come back together.
                let wait = if asked > 0 { asked.saturating_add(pause / 4) } else { pause };
                Settlement::Retry { at: Timestamp::now().plus_millis(wait), counted: counts, error: answer.error }
            }
        }
    }

    fn settled(self, attempt: Option<AttemptRecord>, settlement: Settlement) -> Settled {
        Settled { claimed: self.claimed, claim: self.claim, attempt, settlement }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
