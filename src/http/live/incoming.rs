//! What a client of the live feed says: pings, answers to pings, good-byes. Frames are bounded by the length that they
//! announce, before the bytes come.

use actix_http::ws::{CloseCode, CloseReason, Codec, Frame, Item};
use actix_web::web::{self, Bytes, BytesMut};
use futures_util::StreamExt;
use tokio_util::codec::Decoder;

/// Largest frame, and largest message of several frames. Nothing that a client says here is long.
const MESSAGE_BYTES_MAX: usize = 4096;

/// One thing that a client said.
pub(super) enum Heard {
    Ping(Bytes),
    Close(Option<CloseReason>),
    /// It is there, and says nothing that matters here.
    Anything,
    /// It broke a rule, and the connection ends for this reason.
    Wrong(CloseReason),
    /// The connection is gone.
    Gone,
}

/// The listening side of one connection.
pub(super) struct Incoming {
    payload: web::Payload,
    codec: Codec,
    bytes: BytesMut,
    /// Bytes of the frames of a message that is not complete.
    message_bytes: usize,
}

impl Incoming {
    pub(super) fn new(payload: web::Payload) -> Self {
        let codec = Codec::new().max_size(MESSAGE_BYTES_MAX);
        Self { payload, codec, bytes: BytesMut::new(), message_bytes: 0 }
    }

    /// Waits for what the client says next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Heard {
        loop {
            if announced(&self.bytes).is_some_and(|bytes| bytes > MESSAGE_BYTES_MAX as u64) {
                return too_large();
            }
            match self.codec.decode(&mut self.bytes) {
                Ok(Some(frame)) => return self.hear(frame),
                Ok(None) => {}
                Err(_) => return Heard::Wrong(CloseReason { code: CloseCode::Protocol, description: None }),
            }
            match self.payload.next().await {
                Some(Ok(bytes)) => self.bytes.extend_from_slice(&bytes),
                Some(Err(_)) | None => return Heard::Gone,
            }
        }
    }

    fn hear(&mut self, frame: Frame) -> Heard {
        match frame {
            Frame::Ping(bytes) => Heard::Ping(bytes),
            Frame::Close(reason) => Heard::Close(reason),
            Frame::Continuation(Item::FirstText(part) | Item::FirstBinary(part)) => {
                self.message_bytes = part.len();
                Heard::Anything
            }
            Frame::Continuation(Item::Continue(part) | Item::Last(part)) => {
                self.message_bytes += part.len();
                if self.message_bytes > MESSAGE_BYTES_MAX { too_large() } else { Heard::Anything }
            }
            Frame::Text(_) | Frame::Binary(_) | Frame::Pong(_) => Heard::Anything,
        }
    }
}

fn too_large() -> Heard {
    let description = Some(format!("messages have at most {MESSAGE_BYTES_MAX} bytes"));
    Heard::Wrong(CloseReason { code: CloseCode::Size, description })
}

/// The payload's length that the frame at the beginning announces (RFC 6455, section 5.2), once so much of it is there.
fn announced(bytes: &[u8]) -> Option<u64> {
    match (bytes.get(1)? & 0x7f, bytes) {
        (126, [_, _, high, low, ..]) => Some(u16::from_be_bytes([*high, *low]).into()),
        (127, [_, _, length @ ..]) => Some(u64::from_be_bytes(length.get(..8)?.try_into().ok()?)),
        (126 | 127, _) => None,
        (length, _) => Some(length.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announced_length_is_known_before_anything_of_the_payload_is_there() {
        assert_eq!(announced(&[]), None);
        assert_eq!(announced(&[0x82]), None);
        assert_eq!(announced(&[0x82, 0x85]), Some(5));
        assert_eq!(announced(&[0x82, 0xfe, 1]), None);
        assert_eq!(announced(&[0x82, 0xfe, 1, 2]), Some(258));
        assert_eq!(announced(&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0]), None);
        assert_eq!(announced(&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 9]), Some(1 << 40));
    }
}
