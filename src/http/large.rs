//! Bodies that may be large: so many are read and worked on at a time, and others wait a little. Each takes its bytes, and
//! what is made of them, as long as its request lasts; without a number, memory would grow with the number of senders.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::{FromRequest, HttpRequest, web};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Local;
use super::body::RawBody;
use super::problem::Problem;

/// Large bodies at a time.
pub(super) const LARGE_BODIES_MAX: usize = 16;
/// A body that announces no more bytes than this needs no permit.
const SMALL_BYTES_MAX: u64 = 64 * 1024;
/// How long a request waits for others to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A whole body. While its request is worked on, it is one of the large ones.
pub(super) struct BoundedBody {
    pub(super) bytes: Bytes,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl FromRequest for BoundedBody {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, mut payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let permit = if is_small(&request) { None } else { Some(permit(&request).await?) };
            let RawBody(bytes) = RawBody::from_request(&request, &mut payload).await?;
            Ok(Self { bytes, permit })
        })
    }
}

/// What announces no length may have any.
fn is_small(request: &HttpRequest) -> bool {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    announced.is_some_and(|bytes| bytes <= SMALL_BYTES_MAX)
}

async fn permit(request: &HttpRequest) -> Result<OwnedSemaphorePermit, Problem> {
    let busy =
        || Problem::unavailable("Many large bodies are being received; send less at a time, or try again later.");
    let local = request.app_data::<web::Data<Local>>().ok_or_else(busy)?;
    let acquired = timeout(PATIENCE, Arc::clone(&local.large_bodies).acquire_owned()).await;
    acquired.ok().and_then(Result::ok).ok_or_else(busy)
}
