//! Problem details (RFC 9457): the one shape of every error that this server answers.

use std::fmt;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::bus::BusError;
use crate::event::EventError;
use crate::store::model::StoreError;
use crate::stores::FieldError;

pub(super) const CONTENT_TYPE_PROBLEM: &str = "application/problem+json";

/// What a client should wait after the bus or the store were found away.
const RETRY_AFTER_SECONDS: u32 = 5;

/// A field or parameter at fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProblemField {
    /// Its path, such as `settings.rules[2].limit`.
    pub field: String,
    /// What is wrong with it and what to do.
    pub message: String,
}

impl From<FieldError> for ProblemField {
    fn from(error: FieldError) -> Self {
        Self { field: error.field, message: error.message }
    }
}

/// An error as RFC 9457 writes it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened and what to do.
    detail: String,
    /// The fields at fault, if it is about fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ProblemField>,
    /// For 412: the newer state, as GET would answer it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    current: Option<Box<serde_json::Value>>,
    #[serde(skip)]
    headers: Vec<(&'static str, String)>,
}

/// Fields at fault that an answer names.
const ERRORS_MAX: usize = 100;
/// Characters of what is said of one field of an event.
const MESSAGE_CHARS_MAX: usize = 500;

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            current: None,
            headers: Vec::new(),
        }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 400 for a query parameter.
    pub(super) fn parameter(name: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let mut problem = Self::bad_request(format!("Parameter {name} {message}."));
        problem.errors.push(ProblemField { field: name.to_owned(), message });
        problem
    }

    /// 422 for what is well-formed but wrong.
    pub(super) fn unprocessable(errors: Vec<ProblemField>) -> Self {
        let detail = match errors.as_slice() {
            [one] if one.field.is_empty() => one.message.clone(),
            [one] => format!("{} {}", one.field, one.message),
            several => format!("{} fields are wrong; see errors.", several.len()),
        };
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
        problem.errors = errors;
        problem.errors.truncate(ERRORS_MAX);
        problem
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let detail = format!("The body is larger than {limit} bytes; send less at a time.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// 413 for a batch.
    pub(super) fn too_many_items(limit: usize) -> Self {
        let detail = format!("The batch has more than {limit} events, none of which was taken; send fewer at a time.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER_SECONDS)
    }

    /// Says when to try again.
    pub(super) fn retry_after(self, seconds: u32) -> Self {
        self.header("retry-after", seconds.to_string())
    }

    /// Sends a header along.
    pub(super) fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// 412 with the state that is newer than what the client knew.
    pub(super) fn precondition_failed(current: serde_json::Value, revision: i64) -> Self {
        let detail =
            "It was changed by somebody else meanwhile; look at current and send your change again with its ETag.";
        let mut problem = Self::new(StatusCode::PRECONDITION_FAILED, detail);
        problem.current = Some(Box::new(current));
        problem.headers.push(super::preconditions::etag(revision));
        problem
    }

    pub(super) fn method_not_allowed(allow: String) -> Self {
        let mut problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("This path takes {allow}."));
        problem.headers.push(("allow", allow));
        problem
    }

    pub(super) fn response(&self) -> HttpResponse<BoxBody> {
        let status = self.status_code();
        let mut response = HttpResponse::build(status);
        response.insert_header((CONTENT_TYPE, CONTENT_TYPE_PROBLEM));
        for (name, value) in &self.headers {
            response.insert_header((*name, value.as_str()));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, "Bearer realm=\"tillstream\""));
        }
        response.body(serde_json::to_vec(self).expect("a problem is made of texts and numbers"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        self.response()
    }
}

impl From<EventError> for ProblemField {
    fn from(error: EventError) -> Self {
        // A message may repeat what was sent.
        let mut message = error.message;
        if let Some((cut, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
            message.truncate(cut);
            message.push('…');
        }
        Self { field: error.field.unwrap_or_default(), message }
    }
}

impl From<BusError> for Problem {
    fn from(error: BusError) -> Self {
        match error {
            BusError::Refused(why) => Self::unprocessable(vec![ProblemField { field: String::new(), message: why }]),
            BusError::Gone { .. } => Self::new(StatusCode::GONE, error.to_string()),
            BusError::Unavailable(_)
            | BusError::Unreadable { .. }
            | BusError::Fenced(_)
            | BusError::Misconfigured(_) => {
                tracing::warn!(%error, "a request needed the bus");
                Self::unavailable(format!("{error}; nothing was accepted, try again later."))
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::not_found("There is no such thing; it may have been removed."),
            StoreError::Conflict => {
                Self::new(StatusCode::PRECONDITION_FAILED, "It was changed by somebody else meanwhile; read it again.")
            }
            // A cursor or a limit: what else there is was checked before.
            StoreError::Invalid(error) => Self::parameter(&error.field, error.message),
            StoreError::Refused(why) => Self::unprocessable(vec![ProblemField { field: String::new(), message: why }]),
            StoreError::Unavailable(_)
            | StoreError::Fenced(_)
            | StoreError::SettingsMoved
            | StoreError::Misconfigured(_) => {
                tracing::warn!(%error, "a request needed the store");
                Self::unavailable(format!("{error}; try again later."))
            }
        }
    }
}
