//! `/api/session`: exchanging a token for a cookie that scripts cannot read.

use actix_web::http::header::{ORIGIN, SET_COOKIE};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::{COOKIE_NAME, cookie_of_token, wrong_token};
use super::body::JsonBody;
use super::problem::Problem;
use super::{Local, access};

/// How long a login lasts.
const LOGIN_SECONDS: u32 = 30 * 24 * 3600;
const ATTRIBUTES: &str = "Path=/; HttpOnly; SameSite=Strict";

/// A login.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogIn {
    /// A token whose hash stands in `http.tokens`.
    token: String,
}

/// Who is logged in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionView {
    /// False where no tokens are configured: everybody on this machine is `local`.
    login_required: bool,
    /// The actor's name; absent before the login.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// `viewer`, `operator` or `admin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
}

impl SessionView {
    fn of(actor: access::Actor, login_required: bool) -> Self {
        Self { login_required, name: Some(actor.name), role: Some(actor.role.as_str()) }
    }
}

/// Whether a login is needed, and who is logged in.
#[utoipa::path(get, path = "/api/session", tag = "session", responses((status = 200, description = "The session", body = SessionView)))]
pub(super) async fn who(request: HttpRequest, local: web::Data<Local>) -> HttpResponse {
    let login_required = local.access.login_required();
    let view = match local.access.actor_of(request.headers()) {
        Ok(actor) => SessionView::of(actor, login_required),
        Err(_) => SessionView { login_required, name: None, role: None },
    };
    HttpResponse::Ok().json(view)
}

/// Logs in: the answer sets an `HttpOnly`, `SameSite=Strict` cookie.
#[utoipa::path(post, path = "/api/session", tag = "session", request_body = LogIn, responses((status = 200, description = "Logged in", body = SessionView)))]
pub(super) async fn log_in(
    request: HttpRequest,
    local: web::Data<Local>,
    body: JsonBody<LogIn>,
) -> Result<HttpResponse, Problem> {
    let token = body.0.token;
    // Argon2 may take its time; it does so away from the threads that answer requests.
    let (holder, value) = web::block(move || (local.access.holder(&token), cookie_of_token(&token)))
        .await
        .map_err(|_| Problem::unavailable("The server is stopping."))?;
    let actor = holder.ok_or_else(wrong_token)?;
    let is_https = request.headers().get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    let secure = if is_https { "; Secure" } else { "" };
    let cookie = format!("{COOKIE_NAME}={value}; {ATTRIBUTES}; Max-Age={LOGIN_SECONDS}{secure}");
    Ok(HttpResponse::Ok().insert_header((SET_COOKIE, cookie)).json(SessionView::of(actor, true)))
}

/// Logs out.
#[utoipa::path(delete, path = "/api/session", tag = "session", responses((status = 204, description = "Logged out")))]
pub(super) async fn log_out() -> HttpResponse {
    let cookie = format!("{COOKIE_NAME}=; {ATTRIBUTES}; Max-Age=0");
    HttpResponse::NoContent().insert_header((SET_COOKIE, cookie)).finish()
}
