//! Request bodies: read whole within a limit, checked for their media type, with faults that name the field.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;

use super::problem::{Problem, ProblemField};

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
        let bytes = web::Bytes::from_request(request, payload);
        Box::pin(async move {
            bytes.await.map(Self).map_err(|error| match error.as_response_error().status_code() {
                StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(BODY_BYTES_MAX),
                _ => Problem::bad_request("The body could not be read to its end."),
            })
        })
    }
}

/// A JSON body of a known shape; also takes `application/merge-patch+json`.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest for JsonBody<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let media_type = media_type(request);
        let body = RawBody::from_request(request, payload);
        Box::pin(async move {
            let bytes = body.await?.0;
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
