//! The stages of an order's journey as services, by the process's roles.

use actix::Addr;

use super::Parts;
use crate::actors::supervisor::{Factory, Supervisor, Watch};
use crate::config::{Config, Role};
use crate::delivery::orders::OrderContext;
use crate::delivery::orders::dispatcher::OrderDispatcher;
use crate::delivery::orders::intake::Intake;
use crate::delivery::orders::publisher::Publisher;
use crate::orders::OrderSignals;

/// Starts the stages that belong to the process's roles.
pub(super) fn start(supervisor: &Addr<Supervisor>, parts: &Parts, config: &Config, signals: &OrderSignals) {
    let context = context(parts, config, signals);
    let has = |role| parts.roles.contains(&role);
    let watch = |name, factory| supervisor.do_send(Watch { name, factory });
    if has(Role::Relay) {
        watch("orders-relay", publisher(context.clone()));
    }
    if has(Role::Processor) {
        watch("orders-intake", intake(context.clone()));
    }
    if has(Role::Dispatcher) {
        watch("orders-dispatcher", dispatcher(context));
    }
}

fn context(parts: &Parts, config: &Config, signals: &OrderSignals) -> OrderContext {
    let context = parts.context.clone();
    OrderContext {
        store: context.store,
        bus: context.bus,
        control: context.control,
        feed: context.feed,
        status: context.status,
        signals: signals.clone(),
        outbox: context.outbox,
        url: config.orders.url.clone(),
        lookup: config.orders.lookup,
    }
}

fn publisher(context: OrderContext) -> Factory {
    Box::new(move || {
        let publisher = Publisher::new(context.clone());
        Box::pin(async move {
            publisher.run().await;
            Err("the publisher of orders ended".to_owned())
        })
    })
}

fn intake(context: OrderContext) -> Factory {
    Box::new(move || {
        let intake = Intake::new(context.clone());
        Box::pin(async move {
            intake.run().await;
            Err("the consumer of orders ended".to_owned())
        })
    })
}

fn dispatcher(context: OrderContext) -> Factory {
    Box::new(move || {
        let dispatcher = OrderDispatcher::new(context.clone());
        Box::pin(async move { dispatcher.run().await })
    })
}
