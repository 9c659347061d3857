//! Request bodies: read whole within limits of bytes and time, checked for their media type, with faults that name the field.

mod read;

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpRequest, dev::Payload};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;

use super::problem::{Problem, ProblemField};
use read::read;

/// Largest body of a request in bytes, batches of events among them.
pub(super) const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The media type of the body in lower case, without parameters.
pub(super) fn media_type(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// The whole body.
pub(super) struct RawBody(pub(super) Bytes);

impl FromRequest for RawBody {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = read(request, payload, BODY_BYTES_MAX);
        Box::pin(async move { body.await.map(Self) })
    }
}

/// A JSON body of a known shape and at most so many bytes; also takes `application/merge-patch+json`.
pub(super) struct JsonBody<T, const BYTES_MAX: usize = BODY_BYTES_MAX>(pub(super) T);

impl<T: DeserializeOwned, const BYTES_MAX: usize> FromRequest for JsonBody<T, BYTES_MAX> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let media_type = media_type(request);
        let body = read(request, payload, BYTES_MAX);
        Box::pin(async move {
            let bytes = body.await?;
            match media_type.as_deref() {
                Some("application/json" | "application/merge-patch+json") => read_json(&bytes).map(Self),
                _ => Err(unsupported("application/json")),
            }
        })
    }
}

pub(super) fn unsupported(expected: &str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("Send the body with Content-Type: {expected}."))
}

/// Malformed JSON is a 400, JSON of another shape a 422 that names the field.
pub(super) fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        if error.classify() == serde_json::error::Category::Data {
            let field = if path == "." { String::new() } else { path };
            Problem::unprocessable(vec![ProblemField { field, message: error.to_string() }])
        } else {
            Problem::bad_request(format!("The body is not valid JSON: {error}."))
        }
    })?;
    deserializer.end().map_err(|error| Problem::bad_request(format!("The body is not valid JSON: {error}.")))?;
    Ok(value)
}
