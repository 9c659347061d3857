//! What every answer has in common: foreign pages are refused, security headers are set, errors are problem details, and the
//! time it took is counted.

use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, web};

use super::connections::Connection;
use super::problem::{CONTENT_TYPE_PROBLEM, Problem};
use super::{Local, metrics};

const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Refuses what a browser was tricked into, whatever it asks for.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let local = request.app_data::<web::Data<Local>>().expect("set when the app is built").clone();
    if let Err(problem) = local.access.check_origin(request.request()) {
        return Ok(request.into_response(problem.response()));
    }
    next.call(request).await.map(ServiceResponse::map_into_boxed_body)
}

/// The outermost layer.
pub(super) async fn wrap(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let method = request.method().clone();
    let at_work = request.conn_data::<Connection>().map(Connection::at_work);
    let mut response = next.call(request).await?.map_into_boxed_body();
    let status = response.status();
    // The pattern that the router has matched: a path has many spellings, and a variety without bounds.
    let route = response.request().match_pattern().unwrap_or_else(|| "none".to_owned());
    let is_probe = route.starts_with("/health/");
    if (status.is_client_error() || status.is_server_error()) && !is_probe && !is_problem(response.headers()) {
        // actix's own answers: a handshake that is none, a path that is not UTF-8, and the like.
        let problem = Problem::new(status, detail_of(status));
        response = response.into_response(problem.response());
    }
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if let Some(at_work) = at_work {
        at_work.answered(status, response.response().body().size());
    }
    metrics::request_answered(&method, route, status, started.elapsed());
    Ok(response)
}

fn is_problem(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(CONTENT_TYPE_PROBLEM.as_bytes()))
}

fn detail_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "There is nothing at this path; /api/openapi.json lists what there is.",
        StatusCode::BAD_REQUEST => "The request could not be understood.",
        _ => "The request was refused.",
    }
}

/// There is no such resource.
pub(super) async fn no_route(local: web::Data<Local>) -> HttpResponse {
    if !local.is_api {
        let detail = "This process has not the role api: it serves /health/live, /health/ready, /metrics and /api/system. \
                      Ask one with role api; /api/system lists them.";
        return Problem::not_found(detail).response();
    }
    Problem::not_found(detail_of(StatusCode::NOT_FOUND)).response()
}
