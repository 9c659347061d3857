//! The stages of an order's journey as services, by the process's roles.

use std::sync::Arc;

use actix::Addr;
use tokio::sync::watch;

use super::Parts;
use crate::actors::supervisor::{Factory, Supervisor, Watch};
use crate::config::{Config, Role};
use crate::delivery::orders::OrderContext;
use crate::delivery::orders::dispatcher::OrderDispatcher;
use crate::delivery::orders::intake::Intake;
use crate::delivery::orders::publisher::Publisher;
use crate::orders::OrderSignals;

/// What the stages of one process have in common.
pub(super) struct Orders<'a> {
    /// Wakes them.
    pub(super) signals: &'a OrderSignals,
    /// Which process this is.
    pub(super) owner: &'a str,
    /// True once the process stops.
    pub(super) stopping: &'a watch::Receiver<bool>,
}

impl Orders<'_> {
    /// Starts the stages that belong to the process's roles. What is answered turns true once no order is being sent any more,
    /// after the process was told to stop.
    pub(super) fn start(&self, supervisor: &Addr<Supervisor>, parts: &Parts, config: &Config) -> watch::Receiver<bool> {
        let has = |role| parts.roles.contains(&role);
        let sends = has(Role::Dispatcher) && config.orders.url.is_some();
        let (drained, is_drained) = watch::channel(!sends);
        let context = self.context(parts, config, drained);
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
        is_drained
    }

    fn context(&self, parts: &Parts, config: &Config, drained: watch::Sender<bool>) -> OrderContext {
        let context = parts.context.clone();
        OrderContext {
            store: context.store,
            bus: context.bus,
            control: context.control,
            feed: context.feed,
            status: context.status,
            signals: self.signals.clone(),
            outbox: context.outbox,
            url: config.orders.url.clone(),
            lookup: config.orders.lookup,
            owner: self.owner.to_owned(),
            stopping: self.stopping.clone(),
            drained: Arc::new(drained),
        }
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
