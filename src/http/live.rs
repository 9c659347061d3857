//! `/ws/feed`: the live feed as a websocket.
//!
//! Two halves for each client: one listens (`incoming`), one speaks (`outgoing`). A client's queue is its place in the feed's
//! ring: a client that reads too slowly falls behind the ring and is sent a `gap`, which costs nobody else anything.

mod incoming;
mod outgoing;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_http::ws::{CloseCode, CloseReason};
use actix_web::body::{BodyStream, MessageBody};
use actix_web::{HttpRequest, HttpResponse, web};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::access::{Access, Actor};
use super::params::Params;
use super::problem::Problem;
use super::{Local, State};
use crate::feed::{Feed, FeedKind, Filter, Since, TypeGlob};
use incoming::{Heard, Incoming};
use outgoing::{Control, Outgoing};

const PING_INTERVAL: Duration = Duration::from_secs(15);
/// A client that says nothing for so long, not even an answer to a ping, is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);
/// How long the last word may wait for a client that takes nothing. The kernel gives such a connection up a little later.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pings and answers that wait to be sent; more are left out.
const CONTROLS_MAX: usize = 8;

/// Follows what is committed, as a websocket.
///
/// Messages: `{"type":"hello","feedId","oldest","newest"}` first, then `{"type":"events","items":[{seq, kind, at, event}]}`
/// and, where items were overwritten before they could be sent or `since` is not known, `{"type":"gap","dropped"}` (0 if
/// nobody can tell how many).
#[utoipa::path(
    get,
    path = "/ws/feed",
    tag = "events",
    params(
        ("type" = Option<Vec<String>>, Query, description = "Patterns such as `pos.basket.*`, repeated or with commas"),
        ("terminal" = Option<Vec<String>>, Query, description = "Terminals"),
        ("plugin" = Option<Vec<String>>, Query, description = "Plugins"),
        ("kind" = Option<Vec<String>>, Query, description = "event derived log http deadletter control"),
        ("since" = Option<u64>, Query, description = "Go on after this `seq`"),
        ("feedId" = Option<String>, Query, description = "The feed that `since` belongs to"),
    ),
    responses(
        (status = 101, description = "Websocket"),
        (status = 503, description = "As many follow the feed as may", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn follow(
    request: HttpRequest,
    body: web::Payload,
    actor: Actor,
    state: State,
    local: web::Data<Local>,
) -> Result<HttpResponse, actix_web::Error> {
    let (filter, since) = read(&request, &state.feed)?;
    let mut response = actix_http::ws::handshake(request.head())?;
    let Ok(place) = Arc::clone(&local.feed_places).try_acquire_owned() else {
        let detail = format!(
            "{} clients follow the live feed, as many as feed.clientsMax allows; try again later.",
            state.config.feed.clients_max
        );
        return Err(Problem::unavailable(detail).into());
    };
    let (said, control) = mpsc::channel(CONTROLS_MAX);
    let outgoing = Outgoing {
        hello: Some(hello(&state.feed)),
        subscription: state.feed.subscribe(filter, since),
        control,
        _place: place,
    };
    let access = Arc::clone(&local.access);
    actix_web::rt::spawn(listen(Incoming::new(body), said, local.stopping.clone(), access, actor));
    Ok(response.message_body(BodyStream::new(outgoing.into_stream()).boxed())?.into())
}

fn read(request: &HttpRequest, feed: &Feed) -> Result<(Filter, Since), Problem> {
    let params = Params::read(request, &["type", "terminal", "plugin", "kind", "since", "feedId"])?;
    let kinds = "must be event, derived, log, http, deadletter or control";
    let filter = Filter {
        types: params.parsed_list("type", "must be a pattern such as pos.basket.*", |t| TypeGlob::new(t).ok())?,
        terminals: params.list("terminal")?,
        plugins: params.list("plugin")?,
        kinds: params.parsed_list("kind", kinds, FeedKind::from_name)?,
    };
    let since = params.number("since", "must be a whole number, the seq of an item")?;
    let is_this_feed = params.text("feedId")?.is_none_or(|id| id == feed.id());
    let since = match since {
        None => Since::Now,
        Some(seq) if is_this_feed => Since::Seq(seq),
        Some(_) => Since::Unknown,
    };
    Ok((filter, since))
}

fn hello(feed: &Feed) -> String {
    let extent = feed.extent();
    format!(r#"{{"type":"hello","feedId":"{}","oldest":{},"newest":{}}}"#, feed.id(), extent.oldest, extent.newest)
}

/// Hears what the client says until one of the two ends it, the session of its login ends, or the server stops.
async fn listen(
    mut incoming: Incoming,
    control: mpsc::Sender<Control>,
    mut stopping: watch::Receiver<bool>,
    access: Arc<Access>,
    actor: Actor,
) {
    let mut ping = interval(PING_INTERVAL);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut session_ends = pin!(access.until_session_ends(&actor));
    let mut heard_at = Instant::now();
    let reason = loop {
        tokio::select! {
            heard = incoming.next() => {
                heard_at = Instant::now();
                match heard {
                    Heard::Anything => {}
                    // A client that asks faster than it reads is answered less often.
                    Heard::Ping(bytes) => drop(control.try_send(Control::Pong(bytes))),
                    Heard::Close(reason) => break reason,
                    Heard::Wrong(reason) => break Some(reason),
                    Heard::Gone => return,
                }
            }
            _ = ping.tick() => {
                if heard_at.elapsed() > IDLE_TIMEOUT {
                    break Some(reason(CloseCode::Policy, "no answer to pings"));
                }
                drop(control.try_send(Control::Ping));
            }
            () = &mut session_ends => break Some(reason(CloseCode::Policy, "the session has ended")),
            _ = stopping.wait_for(|stopping| *stopping) => break Some(reason(CloseCode::Restart, "the server stops")),
            () = control.closed() => return,
        }
    };
    let _ = timeout(CLOSE_TIMEOUT, control.send(Control::Close(reason))).await;
    // Outgoing ends the connection; until then what the client says is read, so that its end is not taken for a fault.
    let _ = timeout(CLOSE_TIMEOUT, control.closed()).await;
}

fn reason(code: CloseCode, description: &str) -> CloseReason {
    CloseReason { code, description: Some(description.to_owned()) }
}
