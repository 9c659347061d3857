//! What every answer has in common: access is checked, security headers are set, errors are problem details, and the
//! time it took is counted.

use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, web};

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

/// Refuses what must not be answered.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let local = request.app_data::<web::Data<Local>>().expect("set when the app is built").clone();
    if let Err(problem) = local.access.check(&request) {
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
    let is_api = request.path().starts_with("/api/");
    let is_probe = request.path().starts_with("/health/");
    let mut response = next.call(request).await?.map_into_boxed_body();
    let status = response.status();
    if (status.is_client_error() || status.is_server_error()) && !is_probe && !is_problem(response.headers()) {
        // actix's own answers: a handshake that is none, a path that is not UTF-8, and the like.
        let problem = Problem::new(status, detail_of(status));
        response = response.into_response(problem.response());
    }
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if is_api && !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let route = response.request().match_pattern().unwrap_or_else(|| "none".to_owned());
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

/// Neither a route nor a file: 405 where another method would do, otherwise 404.
pub(super) async fn no_route(request: HttpRequest, local: web::Data<Local>) -> HttpResponse {
    if !local.is_api {
        let detail = "This process has not the role api: it serves /health/live, /health/ready, /metrics and /api/system. \
                      Ask one with role api; /api/system lists them.";
        return Problem::not_found(detail).response();
    }
    let methods = local.routes.methods(request.path());
    if methods.is_empty() || methods.contains(request.method()) {
        return Problem::not_found(detail_of(StatusCode::NOT_FOUND)).response();
    }
    let names: Vec<_> = methods.iter().map(Method::as_str).collect();
    Problem::method_not_allowed(names.join(", ")).response()
}
