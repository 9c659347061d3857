//! Reading a body within bounds: of bytes, as they come and as they are inflated, and of time. Nothing is inflated beyond
//! the bound, whatever a few bytes of gzip could become.

use std::io::Read;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use futures_util::{Future, StreamExt};
use metrics::counter;
use tokio::time::{Instant, timeout_at};

use crate::http::State;
use crate::http::problem::Problem;

const REFUSED: &str = "tillstream_http_bodies_refused_total";
/// A body of which nothing comes for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Bodies with more compressed bytes than this are inflated off the threads that answer requests.
const INFLATE_HERE_MAX: usize = 16 * 1024;

/// How a body is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Deflate,
}

impl Coding {
    fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let Some(value) = request.headers().get(CONTENT_ENCODING) else { return Ok(Self::Identity) };
        let name = value.to_str().unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            _ => {
                let detail = "Content-Encoding must be gzip, deflate or identity.";
                let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
                Err(problem.header("accept-encoding", "gzip, deflate".to_owned()))
            }
        }
    }
}

fn refuse(reason: &'static str, problem: Problem) -> Problem {
    counter!(REFUSED, "reason" => reason).increment(1);
    problem
}

fn too_large(limit: usize) -> Problem {
    refuse("too_large", Problem::too_large(limit))
}

fn too_slow() -> Problem {
    let detail = "The body did not arrive in time; send it in one piece, or less at a time.";
    refuse("too_slow", Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
}

/// The whole body, of at most `limit` bytes once it is inflated.
pub(super) fn read(
    request: &HttpRequest,
    payload: &mut Payload,
    limit: usize,
) -> impl Future<Output = Result<Bytes, Problem>> + use<> {
    let coding = Coding::of(request);
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let time = request.app_data::<State>().map_or(SILENCE_MAX, |state| state.config.http.body_time);
    let payload = payload.take();
    async move {
        let coding = coding?;
        if announced.is_some_and(|bytes| usize::try_from(bytes).map_or(true, |bytes| bytes > limit)) {
            return Err(too_large(limit));
        }
        let bytes = collect(payload, limit, Instant::now() + time).await?;
        match coding {
            Coding::Identity => Ok(bytes),
            _ if bytes.len() <= INFLATE_HERE_MAX && limit <= INFLATE_HERE_MAX => inflate(coding, &bytes, limit),
            _ => {
                let inflated = web::block(move || inflate(coding, &bytes, limit)).await;
                inflated.unwrap_or_else(|_| Err(Problem::unavailable("The server is stopping.")))
            }
        }
    }
}

/// What comes, until its end.
async fn collect(mut payload: Payload, limit: usize, until: Instant) -> Result<Bytes, Problem> {
    let mut bytes = BytesMut::new();
    loop {
        let silent_until = Instant::now() + SILENCE_MAX;
        match timeout_at(until.min(silent_until), payload.next()).await {
            Err(_) => return Err(too_slow()),
            Ok(None) => return Ok(bytes.freeze()),
            Ok(Some(Err(_))) => return Err(Problem::bad_request("The body could not be read to its end.")),
            Ok(Some(Ok(chunk))) if bytes.len() + chunk.len() > limit => return Err(too_large(limit)),
            Ok(Some(Ok(chunk))) => bytes.extend_from_slice(&chunk),
        }
    }
}

fn inflate(coding: Coding, bytes: &[u8], limit: usize) -> Result<Bytes, Problem> {
    let mut inflated = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = match coding {
        Coding::Deflate => ZlibDecoder::new(bytes).take(bound).read_to_end(&mut inflated),
        Coding::Gzip | Coding::Identity => MultiGzDecoder::new(bytes).take(bound).read_to_end(&mut inflated),
    };
    if read.is_err() {
        return Err(refuse("not_decodable", Problem::bad_request("The body is not what its Content-Encoding says.")));
    }
    if inflated.len() > limit { Err(too_large(limit)) } else { Ok(inflated.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use actix_web::ResponseError;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_body_is_inflated_up_to_its_bound_and_no_further() {
        assert_eq!(inflate(Coding::Gzip, &gzip(b"hello"), 5).unwrap(), "hello");
        let bomb = gzip(&vec![b' '; 64 << 20]);
        assert!(bomb.len() < 100_000);
        let refused = inflate(Coding::Gzip, &bomb, 4096).unwrap_err();
        assert_eq!(refused.status_code(), StatusCode::PAYLOAD_TOO_LARGE);
        let refused = inflate(Coding::Gzip, b"no gzip", 4096).unwrap_err();
        assert_eq!(refused.status_code(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn several_members_of_gzip_are_one_body_with_one_bound() {
        let two = [gzip(b"ab"), gzip(b"cd")].concat();
        assert_eq!(inflate(Coding::Gzip, &two, 4).unwrap(), "abcd");
        assert!(inflate(Coding::Gzip, &two, 3).is_err());
    }
}
