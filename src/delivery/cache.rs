//! Answers that may be used again, and one call for all who ask the same at the same time.

use std::time::{Duration, Instant};

use moka::future::Cache;

use super::http_call::{Answered, CallError};
use crate::effect::{HttpRequest, Service};

/// Bytes of all cached answers.
const CACHE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Nothing is used for longer than this, whatever a request allows.
const CACHE_LONGEST: Duration = Duration::from_hours(24);

/// The same question: same system, same path, same fields kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    service: Service,
    path: String,
    keep: Vec<String>,
}

#[derive(Debug, Clone)]
struct Cached {
    answered: Answered,
    at: Instant,
}

/// The cache. What it holds is lost with the process, and asked for again.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    cache: Cache<Question, Cached>,
}

impl Answers {
    pub(super) fn new() -> Self {
        let weight = |question: &Question, cached: &Cached| {
            u32::try_from(question.path.len() + cached.answered.bytes + 200).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().weigher(weight).max_capacity(CACHE_BYTES_MAX).time_to_live(CACHE_LONGEST).build();
        Self { cache }
    }

    /// The answer to a request: one that is fresh enough, or that of `call`, which is made once for all who wait for the
    /// same. True if it was not asked for by this caller. A request that allows no reuse makes its own call.
    pub(super) async fn get(
        &self,
        request: &HttpRequest,
        call: impl Future<Output = Result<Answered, CallError>>,
    ) -> Result<(Answered, bool), CallError> {
        if request.cache_seconds == 0 {
            return Ok((call.await?, false));
        }
        let HttpRequest { service, path, keep, .. } = request;
        let question = Question { service: *service, path: path.clone(), keep: keep.clone() };
        let fresh = Duration::from_secs(request.cache_seconds);
        if let Some(cached) = self.cache.get(&question).await {
            if cached.at.elapsed() < fresh {
                return Ok((cached.answered, true));
            }
            self.cache.invalidate(&question).await;
        }
        let mut called = false;
        let call = async {
            called = true;
            call.await.map(|answered| Cached { answered, at: Instant::now() })
        };
        let cached = self.cache.try_get_with(question, call).await.map_err(|error| *error)?;
        Ok((cached.answered, !called))
    }
}
