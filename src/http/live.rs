//! `/ws/feed`: the live feed as a websocket.
//!
//! One task per client. A client's queue is its place in the feed's ring: who reads too slowly falls behind the ring and
//! is sent a `gap`, which costs nobody else anything.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{CloseCode, CloseReason, Message, MessageStream, ProtocolError, Session};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::access::{Access, Actor};
use super::params::Params;
use super::problem::Problem;
use super::{Local, State};
use crate::feed::{Delivery, Feed, FeedKind, Filter, Numbered, Since, Subscription, TypeGlob};

/// Items that come within this time travel together.
const BATCH_INTERVAL: Duration = Duration::from_millis(5);
/// Items that are looked at in one piece.
const LOOK_MAX: usize = 2000;
/// Pieces per batch interval: what a filter lets through is at most this much per client.
const LOOKS_MAX: usize = 8;
/// A message is sent once it is larger than this.
const MESSAGE_BYTES: usize = 256 * 1024;
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// A client that says nothing for so long, not even an answer to a ping, is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);
/// A client that takes nothing for so long is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

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
    responses((status = 101, description = "Websocket"))
)]
pub(super) async fn follow(
    request: HttpRequest,
    body: web::Payload,
    actor: Actor,
    state: State,
    local: web::Data<Local>,
) -> Result<HttpResponse, actix_web::Error> {
    let (filter, since) = read(&request, &state.feed)?;
    let (response, session, messages) = actix_ws::handle(&request, body)?;
    let client = Client {
        hello: hello(&state.feed),
        subscription: state.feed.subscribe(filter, since),
        stopping: local.stopping.clone(),
        session,
        access: Arc::clone(&local.access),
        actor,
    };
    actix_web::rt::spawn(client.run(messages));
    Ok(response)
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

struct Client {
    hello: String,
    subscription: Subscription,
    stopping: watch::Receiver<bool>,
    session: Session,
    access: Arc<Access>,
    /// Who follows; with the session of a login, the feed ends when that does.
    actor: Actor,
}

/// The client has left or must go.
struct Gone;

impl Client {
    async fn run(mut self, mut messages: MessageStream) {
        let mut stopping = self.stopping.clone();
        let hello = std::mem::take(&mut self.hello);
        if send(&mut self.session, hello).await.is_err() {
            return;
        }
        let mut ping = interval(PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (access, actor) = (Arc::clone(&self.access), self.actor.clone());
        let mut session_ends = pin!(access.until_session_ends(&actor));
        let mut heard_at = Instant::now();
        let mut next_batch_at = Instant::now();
        let reason = loop {
            tokio::select! {
                () = due(&mut self.subscription, next_batch_at) => {
                    next_batch_at = Instant::now() + BATCH_INTERVAL;
                    if self.send_batch().await.is_err() {
                        return;
                    }
                }
                message = messages.recv() => {
                    heard_at = Instant::now();
                    if self.answer(message).await.is_err() {
                        return;
                    }
                }
                _ = ping.tick() => {
                    if heard_at.elapsed() > IDLE_TIMEOUT || self.session.ping(b"").await.is_err() {
                        break None;
                    }
                }
                () = &mut session_ends => {
                    break Some(CloseReason { code: CloseCode::Policy, description: Some("the session has ended".to_owned()) });
                }
                _ = stopping.wait_for(|stopping| *stopping) => {
                    break Some(CloseReason { code: CloseCode::Restart, description: Some("the server stops".to_owned()) });
                }
            }
        };
        let _ = self.session.close(reason).await;
    }

    async fn send_batch(&mut self) -> Result<(), Gone> {
        let mut message = Vec::new();
        for _ in 0..LOOKS_MAX {
            match self.subscription.take(LOOK_MAX) {
                Some(Delivery::Gap(dropped)) => {
                    self.flush(&mut message).await?;
                    send(&mut self.session, format!(r#"{{"type":"gap","dropped":{dropped}}}"#)).await?;
                }
                Some(Delivery::Items(items)) => {
                    for item in items {
                        write_item(&mut message, &item);
                        if message.len() > MESSAGE_BYTES {
                            self.flush(&mut message).await?;
                        }
                    }
                }
                None => break,
            }
        }
        self.flush(&mut message).await
    }

    async fn flush(&mut self, message: &mut Vec<u8>) -> Result<(), Gone> {
        if message.is_empty() {
            return Ok(());
        }
        message.extend_from_slice(b"]}");
        // What is in the feed was checked to be UTF-8 when it was parsed, or was written from texts.
        match String::from_utf8(std::mem::take(message)) {
            Ok(text) => send(&mut self.session, text).await,
            Err(_) => Err(Gone),
        }
    }

    async fn answer(&mut self, message: Option<Result<Message, ProtocolError>>) -> Result<(), Gone> {
        match message {
            Some(Ok(Message::Ping(bytes))) => self.session.pong(&bytes).await.map_err(|_| Gone),
            Some(Ok(Message::Close(reason))) => {
                let _ = self.session.clone().close(reason).await;
                Err(Gone)
            }
            // Nothing that a client could say matters here.
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => Err(Gone),
        }
    }
}

/// Something is there, and the batch interval is over. Cancel-safe.
async fn due(subscription: &mut Subscription, at: Instant) {
    subscription.ready().await;
    sleep_until(at).await;
}

fn write_item(message: &mut Vec<u8>, item: &Numbered) {
    message.extend_from_slice(if message.is_empty() { br#"{"type":"events","items":["# } else { b"," });
    item.write_json(message);
}

async fn send(session: &mut Session, text: String) -> Result<(), Gone> {
    match timeout(SEND_TIMEOUT, session.text(text)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Gone),
    }
}
