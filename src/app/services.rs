//! Which long-lived services a process runs, by its roles, each under the supervisor.

use std::sync::Arc;

use actix::Addr;
use tokio::sync::watch;

use super::Parts;
use crate::actors::ingress::{self, IngressOptions, IngressSignals};
use crate::actors::supervisor::{Crashes, Factory, Supervisor, Watch};
use crate::config::{Config, Role};
use crate::delivery::dispatcher::{Dispatcher, Endpoints};
use crate::delivery::expiry::{self, Keep};
use crate::delivery::plugins::PluginIntake;
use crate::delivery::relay::Relay;
use crate::delivery::standing::PlaceWatch;
use crate::delivery::{Delivery, evidence, retention};
use crate::feed::{Feed, remote};
use crate::processes::{Identity, Processes};

/// Makes what delivers in this process. Where others share the work, each takes a part of it.
pub(super) fn delivery(parts: &Parts, identity: &Identity, config: &Config) -> Delivery {
    let context = &parts.context;
    let leases = |role, prefix| parts.is_shared.then(|| identity.leases(&context.store, role, prefix));
    let relay = parts.roles.contains(&Role::Relay).then(|| {
        let leases = leases(Role::Relay, "relay:");
        Relay::new(context.store.clone(), Arc::clone(&context.bus), Arc::clone(&context.outbox), leases)
    });
    let dispatcher = parts.roles.contains(&Role::Dispatcher).then(|| {
        let feed = context.feed.clone();
        Dispatcher::new(
            context.store.clone(),
            Endpoints { customers: config.customers.url.clone() },
            Arc::clone(&context.calls),
            Arc::clone(&context.outbox),
            leases(Role::Dispatcher, "calls:"),
            move |notice| feed.publish(vec![notice.into()]),
        )
    });
    Delivery { relay, dispatcher }
}

/// Everything but ingress, which the process starts last.
pub(super) fn start(
    supervisor: &Addr<Supervisor>,
    parts: &Parts,
    identity: &Identity,
    processes: &Arc<Processes>,
    feed_shown: Option<&Feed>,
    config: &Config,
) {
    let has = |role| parts.roles.contains(&role);
    watch_processes(supervisor, processes);
    watch_places(supervisor, parts, processes.delivery());
    watch_delivery(supervisor, processes.delivery());
    if parts.is_shared {
        watch_control(supervisor, parts);
        if has(Role::Processor) || has(Role::Dispatcher) {
            watch_feed_forward(supervisor, parts);
        }
        if let Some(feed) = feed_shown.filter(|_| has(Role::Api)) {
            watch_feed_follow(supervisor, parts, feed);
        }
    }
    if has(Role::Processor) {
        watch_evidence(supervisor, parts, identity);
        watch_retention(supervisor, parts);
        watch_expiry(supervisor, parts, expiry::configured(config));
        watch_plugin_intake(supervisor, parts);
    }
    if has(Role::Api) {
        watch_members(supervisor, parts);
    }
}

fn ended(what: &str) -> Result<(), String> {
    Err(format!("{what} ended"))
}

fn watch_processes(supervisor: &Addr<Supervisor>, processes: &Arc<Processes>) {
    let processes = Arc::clone(processes);
    let factory: Factory = Box::new(move || {
        let processes = Arc::clone(&processes);
        Box::pin(async move {
            processes.run().await;
            ended("the list of processes")
        })
    });
    supervisor.do_send(Watch { name: "processes", factory });
}

fn watch_places(supervisor: &Addr<Supervisor>, parts: &Parts, delivery: &Delivery) {
    let (context, delivery, roles) = (parts.context.clone(), delivery.clone(), parts.roles.clone());
    let factory: Factory = Box::new(move || {
        let watch = PlaceWatch::new(context.clone(), delivery.clone(), roles.clone());
        Box::pin(async move {
            watch.run().await;
            ended("the watch over places that stand still")
        })
    });
    supervisor.do_send(Watch { name: "standing", factory });
}

fn watch_delivery(supervisor: &Addr<Supervisor>, delivery: &Delivery) {
    if let Some(relay) = delivery.relay.clone() {
        let factory: Factory = Box::new(move || {
            let relay = Arc::clone(&relay);
            Box::pin(async move { Err(relay.run().await.to_string()) })
        });
        supervisor.do_send(Watch { name: "relay", factory });
    }
    if let Some(dispatcher) = delivery.dispatcher.clone() {
        let factory: Factory = Box::new(move || {
            let dispatcher = Arc::clone(&dispatcher);
            Box::pin(async move {
                dispatcher.run().await;
                ended("the dispatcher")
            })
        });
        supervisor.do_send(Watch { name: "dispatcher", factory });
    }
}

fn watch_control(supervisor: &Addr<Supervisor>, parts: &Parts) {
    let context = parts.context.clone();
    let factory: Factory = Box::new(move || {
        let (control, bus) = (Arc::clone(&context.control), Arc::clone(&context.bus));
        Box::pin(async move {
            control.watch(bus).await;
            ended("the watch over settings")
        })
    });
    supervisor.do_send(Watch { name: "control", factory });
}

fn watch_feed_forward(supervisor: &Addr<Supervisor>, parts: &Parts) {
    let context = parts.context.clone();
    let factory: Factory = Box::new(move || {
        let (feed, bus) = (context.feed.clone(), Arc::clone(&context.bus));
        Box::pin(async move {
            remote::forward(&feed, &*bus).await;
            ended("what the feed tells others")
        })
    });
    supervisor.do_send(Watch { name: "feed-out", factory });
}

fn watch_feed_follow(supervisor: &Addr<Supervisor>, parts: &Parts, public_feed: &Feed) {
    let (bus, feed) = (Arc::clone(&parts.context.bus), public_feed.clone());
    let factory: Factory = Box::new(move || {
        let (bus, feed) = (Arc::clone(&bus), feed.clone());
        Box::pin(async move {
            remote::follow(&feed, bus).await;
            ended("the feed of all processes")
        })
    });
    supervisor.do_send(Watch { name: "feed-in", factory });
}

fn watch_evidence(supervisor: &Addr<Supervisor>, parts: &Parts, identity: &Identity) {
    let (context, identity, is_shared) = (parts.context.clone(), identity.clone(), parts.is_shared);
    let factory: Factory = Box::new(move || {
        let (store, bus) = (context.store.clone(), Arc::clone(&context.bus));
        let leases = is_shared.then(|| identity.leases(&store, Role::Processor, "task:"));
        let parked = context.status.parked.clone();
        Box::pin(async move { evidence::run(&store, &*bus, leases.as_ref(), &parked).await })
    });
    supervisor.do_send(Watch { name: "evidence", factory });
}

fn watch_retention(supervisor: &Addr<Supervisor>, parts: &Parts) {
    let context = parts.context.clone();
    let factory: Factory = Box::new(move || {
        let (bus, parked) = (Arc::clone(&context.bus), context.status.parked.clone());
        Box::pin(async move {
            retention::run(&*bus, &parked).await;
            ended("the floors of topics")
        })
    });
    supervisor.do_send(Watch { name: "retention", factory });
}

fn watch_expiry(supervisor: &Addr<Supervisor>, parts: &Parts, keep: Keep) {
    let context = parts.context.clone();
    let factory: Factory = Box::new(move || {
        let (store, status, keep) = (context.store.clone(), Arc::clone(&context.status), keep.clone());
        Box::pin(async move {
            expiry::run(&store, &keep, &status).await;
            ended("the removal of what is old")
        })
    });
    supervisor.do_send(Watch { name: "expiry", factory });
}

fn watch_plugin_intake(supervisor: &Addr<Supervisor>, parts: &Parts) {
    let context = parts.context.clone();
    let factory: Factory = Box::new(move || {
        let intake = PluginIntake::new(context.clone());
        Box::pin(async move {
            intake.run().await;
            ended("the reader of what plugins tell")
        })
    });
    supervisor.do_send(Watch { name: "plugins-intake", factory });
}

fn watch_members(supervisor: &Addr<Supervisor>, parts: &Parts) {
    let context = parts.context.clone();
    let factory: Factory = Box::new(move || {
        let (members, bus) = (Arc::clone(context.control.members()), Arc::clone(&context.bus));
        Box::pin(async move {
            members.listen(bus).await;
            ended("the reader of heartbeats")
        })
    });
    supervisor.do_send(Watch { name: "plugins-members", factory });
}

/// Reading and applying events, for role `processor`.
pub(super) fn watch_ingress(
    supervisor: &Addr<Supervisor>,
    parts: &Parts,
    options: IngressOptions,
    signals: IngressSignals,
    crashes: &Crashes,
    gone: Arc<watch::Sender<bool>>,
) {
    let (context, crashes) = (parts.context.clone(), crashes.clone());
    let factory: Factory = Box::new(move || {
        let run = ingress::run(context.clone(), options.clone(), signals.clone(), crashes.clone());
        let gone = Arc::clone(&gone);
        Box::pin(async move {
            let result = run.await;
            if result.is_ok() {
                gone.send_replace(true);
            }
            result
        })
    });
    supervisor.do_send(Watch { name: "ingress", factory });
}
