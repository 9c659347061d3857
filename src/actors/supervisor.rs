//! Watches every long-lived actor and starts a new one from a factory when it is gone.
//!
//! Needed because in actix 0.13 a panic in a handler or a spawned future ends an actor silently, and its own
//! `Supervisor` does not start it again then. A restart is counted, logged and shown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture, WeakRecipient,
    WrapFuture,
};
use futures_util::future::{LocalBoxFuture, join_all};

use super::panics;
use super::shard::Crash;
use crate::status::Status;

/// Waits before a restart, in milliseconds: doubling from the first to the last.
const BACKOFF_MS: (u64, u64) = (50, 5000);
/// An actor that lived this long starts again without waiting.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// Makes the work of a service: a future that runs until the service is stopped.
pub type Factory = Box<dyn Fn() -> LocalBoxFuture<'static, Result<(), String>> + Send>;

/// Starts services and starts them again.
pub struct Supervisor {
    status: Arc<Status>,
    crashes: Crashes,
    services: BTreeMap<String, Supervised>,
}

struct Supervised {
    factory: Factory,
    addr: Option<Addr<Service>>,
    started: Instant,
    backoff_ms: u64,
}

/// Where tests can make a long-lived actor crash, by name. The registry does not keep an actor alive: one whose owner lets go
/// of it ends, with all that it holds.
#[derive(Clone, Default)]
pub struct Crashes(Arc<Mutex<BTreeMap<String, WeakRecipient<Crash>>>>);

impl Crashes {
    /// Makes an actor known.
    pub fn register(&self, name: &str, actor: &Recipient<Crash>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), actor.downgrade());
    }

    /// The names of all actors that were made known, those that have ended since included: they may start again.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Makes an actor crash; false if no actor of that name was ever made known. One that has ended cannot crash.
    #[must_use]
    pub fn crash(&self, name: &str) -> bool {
        let actor = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        actor.is_some_and(|actor| {
            let Some(actor) = actor.upgrade() else { return true };
            actor.do_send(Crash);
            true
        })
    }
}

/// Start and watch a service.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Watch {
    /// Its name on the System page.
    pub name: &'static str,
    /// Makes its work.
    pub factory: Factory,
}

/// Stop every service, wherever its work stands, and start none again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopAll;

/// A service is gone.
#[derive(Message)]
#[rtype(result = "()")]
struct Down {
    name: String,
    why: String,
    finished: bool,
}

impl Supervisor {
    /// Watches nothing yet.
    #[must_use]
    pub fn new(status: Arc<Status>, crashes: Crashes) -> Self {
        panics::remember();
        Self { status, crashes, services: BTreeMap::new() }
    }

    fn start(&mut self, name: &str, ctx: &Context<Self>) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        service.started = Instant::now();
        self.status.actor(name).set_down(false);
        let watcher = Watcher { name: name.to_owned(), supervisor: ctx.address().recipient(), why: None };
        let addr = Service { work: Some((service.factory)()), watcher }.start();
        service.addr = Some(addr.clone());
        self.crashes.register(name, &addr.recipient());
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;
}

impl Handler<Watch> for Supervisor {
    type Result = ();

    fn handle(&mut self, watch: Watch, ctx: &mut Context<Self>) {
        let _ = self.status.actor(watch.name);
        let service =
            Supervised { factory: watch.factory, addr: None, started: Instant::now(), backoff_ms: BACKOFF_MS.0 };
        self.services.insert(watch.name.to_owned(), service);
        self.start(watch.name, ctx);
    }
}

impl Handler<StopAll> for Supervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopAll, _: &mut Context<Self>) -> Self::Result {
        let services = std::mem::take(&mut self.services);
        let stops = services.into_values().filter_map(|service| service.addr).map(|addr| addr.send(StopAll));
        let stops: Vec<_> = stops.collect();
        Box::pin(async move {
            // One that does not answer is gone already.
            let _ = join_all(stops).await;
        })
    }
}

impl Handler<Down> for Supervisor {
    type Result = ();

    fn handle(&mut self, down: Down, ctx: &mut Context<Self>) {
        let Some(service) = self.services.get_mut(&down.name) else {
            return;
        };
        if down.finished {
            self.services.remove(&down.name);
            return;
        }
        if service.started.elapsed() >= HEALTHY_AFTER {
            service.backoff_ms = BACKOFF_MS.0;
        }
        let wait = Duration::from_millis(service.backoff_ms);
        service.backoff_ms = (service.backoff_ms * 2).min(BACKOFF_MS.1);
        tracing::error!(
            actor = down.name,
            why = down.why,
            wait_ms = wait.as_millis(),
            "an actor is gone and starts again"
        );
        let status = self.status.actor(&down.name);
        status.restarted(down.why);
        status.set_down(true);
        ctx.run_later(wait, move |supervisor, ctx| supervisor.start(&down.name, ctx));
    }
}

/// Runs one service's work; ends with it.
struct Service {
    work: Option<LocalBoxFuture<'static, Result<(), String>>>,
    watcher: Watcher,
}

/// Tells the supervisor when it is dropped, which also happens when a panic unwinds the actor.
struct Watcher {
    name: String,
    supervisor: Recipient<Down>,
    why: Option<Result<(), String>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let finished = matches!(self.why, Some(Ok(())));
        let why = match self.why.take() {
            Some(Err(why)) => why,
            Some(Ok(())) => "finished".to_owned(),
            None => panics::why_gone("it"),
        };
        self.supervisor.do_send(Down { name: std::mem::take(&mut self.name), why, finished });
    }
}

impl Actor for Service {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let work = self.work.take().expect("an actor starts once");
        ctx.spawn(actix::ActorFutureExt::map(work.into_actor(self), |result, service: &mut Self, ctx| {
            service.watcher.why = Some(result);
            ctx.stop();
        }));
    }
}

impl Handler<StopAll> for Service {
    type Result = ();

    fn handle(&mut self, _: StopAll, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl Handler<Crash> for Service {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Context<Self>) {
        panic!("crashed on request");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[actix::test]
    async fn a_service_that_panics_fails_or_is_crashed_starts_again_and_one_that_finishes_does_not() {
        let status = Arc::new(Status::new(Role::ALL.to_vec()));
        let crashes = Crashes::default();
        let supervisor = Supervisor::new(Arc::clone(&status), crashes.clone()).start();
        let starts = Arc::new(AtomicU32::new(0));
        let (running, mut is_running) = tokio::sync::mpsc::unbounded_channel();
        let counter = Arc::clone(&starts);
        let factory: Factory = Box::new(move || {
            let round = counter.fetch_add(1, Ordering::SeqCst);
            let running = running.clone();
            Box::pin(async move {
                match round {
                    0 => panic!("the first one panics"),
                    1 => Err("the second one fails".to_owned()),
                    2 => {
                        running.send(round).expect("the test waits for it");
                        std::future::pending().await
                    }
                    _ => {
                        running.send(round).expect("the test waits for it");
                        Ok(())
                    }
                }
            })
        });
        supervisor.send(Watch { name: "worker", factory }).await.unwrap();
        assert_eq!(is_running.recv().await, Some(2));
        assert!(crashes.crash("worker"));
        assert_eq!(is_running.recv().await, Some(3));
        assert_eq!((starts.load(Ordering::SeqCst), status.actor("worker").restarts.get()), (4, 3));
        let why = status.actor("worker").last_error().expect("it was started again");
        assert!(why.starts_with("it panicked: crashed on request (at "), "{why}");
    }

    /// An actor with something that goes when the actor goes.
    struct Holder {
        _holds: tokio::sync::mpsc::UnboundedSender<()>,
    }

    impl Actor for Holder {
        type Context = Context<Self>;
    }

    impl Handler<Crash> for Holder {
        type Result = ();

        fn handle(&mut self, _: Crash, _: &mut Context<Self>) {}
    }

    #[actix::test]
    async fn an_actor_that_its_owner_lets_go_of_ends_although_it_was_made_known() {
        let crashes = Crashes::default();
        let (holds, mut is_held) = tokio::sync::mpsc::unbounded_channel();
        let owner = Holder { _holds: holds }.start();
        crashes.register("holder", &owner.clone().recipient());
        drop(owner);
        assert_eq!(is_held.recv().await, None, "what it held is gone");
        assert_eq!((crashes.crash("holder"), crashes.crash("nobody")), (true, false));
    }

    #[actix::test]
    async fn services_that_are_told_to_stop_drop_their_work_and_do_not_start_again() {
        let status = Arc::new(Status::new(Role::ALL.to_vec()));
        let supervisor = Supervisor::new(Arc::clone(&status), Crashes::default()).start();
        let (alive, mut is_alive) = tokio::sync::mpsc::unbounded_channel();
        let factory: Factory = Box::new(move || {
            let alive = alive.clone();
            Box::pin(async move {
                alive.send(()).expect("the test waits for it");
                std::future::pending().await
            })
        });
        supervisor.send(Watch { name: "worker", factory }).await.unwrap();
        assert_eq!(is_alive.recv().await, Some(()));
        supervisor.send(StopAll).await.unwrap();
        // The sender went with the work and with the factory.
        assert_eq!(is_alive.recv().await, None);
        assert_eq!(status.actor("worker").restarts.get(), 0);
    }
}
