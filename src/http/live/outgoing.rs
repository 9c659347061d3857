//! What a client of the live feed is sent. Each message is made when the connection has room for it, so a client that does
//! not read costs one message, however long it stays.

use std::convert::Infallible;

use actix_http::ws::{CloseReason, Codec, Message};
use actix_web::web::{Bytes, BytesMut};

use futures_util::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Duration, Instant, sleep_until};
use tokio_util::codec::Encoder;

use crate::feed::{Delivery, Numbered, Subscription};

/// Items that come within this time travel together.
const BATCH_INTERVAL: Duration = Duration::from_millis(5);
/// Items that are looked at in one piece.
const LOOK_MAX: usize = 500;
/// Pieces per batch interval that a filter may let nothing of through.
const LOOKS_MAX: usize = 32;
/// A message has no more items once they are larger than this. One item that is larger travels alone.
const MESSAGE_BYTES: usize = 64 * 1024;

/// What the listening side wants to have said.
pub(super) enum Control {
    Ping,
    Pong(Bytes),
    /// The last word.
    Close(Option<CloseReason>),
}

/// The feed as one client is to see it.
pub(super) struct Outgoing {
    pub(super) hello: Option<String>,
    pub(super) subscription: Subscription,
    pub(super) control: mpsc::Receiver<Control>,
    /// The client counts as long as this lives.
    pub(super) _place: OwnedSemaphorePermit,
}

struct Sender {
    codec: Codec,
    outgoing: Outgoing,
    next_batch_at: Instant,
    is_over: bool,
}

impl Outgoing {
    /// The bytes of the connection, frame by frame.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        let sender = Sender { codec: Codec::new(), outgoing: self, next_batch_at: Instant::now(), is_over: false };
        stream::unfold(sender, |mut sender| async move {
            let frame = sender.next_frame().await?;
            Some((Ok(frame), sender))
        })
    }
}

impl Sender {
    /// `None` at the end of the connection.
    async fn next_frame(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let message = match self.outgoing.hello.take() {
            Some(hello) => Message::Text(hello.into()),
            None => self.next_message().await?,
        };
        self.is_over = matches!(message, Message::Close(_));
        let mut frame = BytesMut::new();
        self.codec.encode(message, &mut frame).ok()?;
        Some(frame.freeze())
    }

    async fn next_message(&mut self) -> Option<Message> {
        loop {
            tokio::select! {
                biased;
                control = self.outgoing.control.recv() => {
                    return Some(match control? {
                        Control::Ping => Message::Ping(Bytes::new()),
                        Control::Pong(bytes) => Message::Pong(bytes),
                        Control::Close(reason) => Message::Close(reason),
                    });
                }
                () = due(&mut self.outgoing.subscription, self.next_batch_at) => {
                    if let Some(text) = self.batch() {
                        return Some(Message::Text(text.into()));
                    }
                }
            }
        }
    }

    /// What is there, as much as one message takes.
    fn batch(&mut self) -> Option<String> {
        let subscription = &mut self.outgoing.subscription;
        let mut message = None;
        for _ in 0..LOOKS_MAX {
            match subscription.take_bytes(LOOK_MAX, MESSAGE_BYTES) {
                Some(Delivery::Gap(dropped)) => message = Some(format!(r#"{{"type":"gap","dropped":{dropped}}}"#)),
                Some(Delivery::Items(items)) => message = text(&items),
                None if subscription.is_at_end() => break,
                None => continue,
            }
            break;
        }
        // Whoever takes what there is gets the rest at once.
        let has_more = message.is_some() && !subscription.is_at_end();
        self.next_batch_at = Instant::now() + if has_more { Duration::ZERO } else { BATCH_INTERVAL };
        message
    }
}

fn text(items: &[Numbered]) -> Option<String> {
    let mut message = Vec::new();
    for item in items {
        message.extend_from_slice(if message.is_empty() { br#"{"type":"events","items":["# } else { b"," });
        item.write_json(&mut message);
    }
    message.extend_from_slice(b"]}");
    // What is in the feed was checked to be UTF-8 when it was parsed, or was written from texts.
    String::from_utf8(message).ok()
}

/// Something is there, and the batch interval is over. Cancel-safe.
async fn due(subscription: &mut Subscription, at: Instant) {
    subscription.ready().await;
    sleep_until(at).await;
}
