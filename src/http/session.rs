//! `/api/session` and `/api/sessions`: exchanging a token for a session, and the sessions that there are.

use actix_web::http::StatusCode;
use actix_web::http::header::SET_COOKIE;
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Actor;
use super::body::JsonBody;
use super::page::List;
use super::params::Params;
use super::problem::Problem;
use super::{Local, State};
use crate::config::TokenRole;
use crate::store::Login;
use crate::time::Timestamp;

/// Largest body of a login in bytes: anybody may send one.
const LOG_IN_BYTES_MAX: usize = 4096;

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
    fn of(actor: Actor, login_required: bool) -> Self {
        Self { login_required, name: Some(actor.name), role: Some(actor.role.as_str()) }
    }
}

/// A session that has not ended.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoginSession)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoginView {
    /// Names it; no secret.
    id: String,
    /// The token's name.
    name: String,
    /// `viewer`, `operator` or `admin`.
    role: &'static str,
    /// Where the login came from.
    address: String,
    /// The browser, as it names itself.
    agent: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was used last, to the minute.
    #[schema(value_type = String, format = DateTime)]
    seen_at: Timestamp,
    /// When it ends, unless it is used before.
    #[schema(value_type = String, format = DateTime)]
    ends_at: Timestamp,
    /// True for the session that asks.
    current: bool,
}

impl LoginView {
    fn of(login: Login, role: TokenRole, idle_ends_at: Timestamp, actor: &Actor) -> Self {
        Self {
            current: actor.session.as_ref() == Some(&login.id),
            id: login.id,
            name: login.token_name,
            role: role.as_str(),
            address: login.address,
            agent: login.agent,
            created_at: login.created_at,
            seen_at: login.seen_at,
            ends_at: login.ends_at.min(idle_ends_at),
        }
    }
}

/// Whether a login is needed, and who is logged in.
#[utoipa::path(get, path = "/api/session", tag = "session", responses((status = 200, description = "The session", body = SessionView)))]
pub(super) async fn who(request: HttpRequest, local: web::Data<Local>) -> Result<HttpResponse, Problem> {
    let login_required = local.access.login_required();
    let view = match local.access.actor_of(&request).await {
        Ok(actor) => SessionView::of(actor, login_required),
        Err(problem) if problem.status_code() == StatusCode::UNAUTHORIZED => {
            SessionView { login_required, name: None, role: None }
        }
        Err(problem) => return Err(problem),
    };
    Ok(HttpResponse::Ok().json(view))
}

/// Logs in: the answer sets an `HttpOnly`, `SameSite=Strict` cookie that names the session.
#[utoipa::path(
    post,
    path = "/api/session",
    tag = "session",
    request_body = LogIn,
    responses(
        (status = 200, description = "Logged in", body = SessionView),
        (status = 401, description = "The token is not known", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many wrong tokens from this address; Retry-After says when to try again", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn log_in(
    request: HttpRequest,
    local: web::Data<Local>,
    body: JsonBody<LogIn, LOG_IN_BYTES_MAX>,
) -> Result<HttpResponse, Problem> {
    let (actor, cookie) = local.access.begin(&request, &body.0.token).await?;
    Ok(HttpResponse::Ok().insert_header((SET_COOKIE, cookie)).json(SessionView::of(actor, true)))
}

/// Logs out: the session ends for every process at once.
#[utoipa::path(delete, path = "/api/session", tag = "session", responses((status = 204, description = "Logged out")))]
pub(super) async fn log_out(request: HttpRequest, local: web::Data<Local>) -> Result<HttpResponse, Problem> {
    let cookie = local.access.end(&request).await?;
    Ok(HttpResponse::NoContent().insert_header((SET_COOKIE, cookie)).finish())
}

/// The sessions that have not ended, the newest first: one's own, for an admin those of everybody.
#[utoipa::path(
    get,
    path = "/api/sessions",
    tag = "session",
    params(
        ("limit" = Option<u16>, Query, description = "Items of a page", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses((status = 200, description = "A page of sessions", body = List<LoginView>))
)]
pub(super) async fn list(
    request: HttpRequest,
    actor: Actor,
    state: State,
    local: web::Data<Local>,
) -> Result<HttpResponse, Problem> {
    let params = Params::read(&request, &["limit", "cursor"])?;
    let own = (actor.role < TokenRole::Admin).then_some(actor.name.as_str());
    let page = state.store.logins(own, params.long_text("cursor"), params.limit()?).await?;
    let idle = i64::try_from(local.access.idle().as_millis()).unwrap_or(i64::MAX);
    let items = page.items.into_iter().filter_map(|login| {
        let role = local.access.token_of(&login)?.role;
        let idle_ends_at = login.seen_at.plus_millis(idle);
        Some(LoginView::of(login, role, idle_ends_at, &actor))
    });
    Ok(HttpResponse::Ok().json(List { items: items.collect(), next: page.next }))
}

/// Ends a session for every process at once: one's own, for an admin anybody's.
#[utoipa::path(
    delete,
    path = "/api/sessions/{id}",
    tag = "session",
    params(("id" = String, Path, description = "The session's id")),
    responses(
        (status = 204, description = "Ended"),
        (status = 404, description = "There is no such session", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn end(id: web::Path<String>, actor: Actor, state: State) -> Result<HttpResponse, Problem> {
    let none = || Problem::not_found("There is no such session; it may have ended.");
    let login = state.store.login(&id).await?.ok_or_else(none)?;
    if actor.role < TokenRole::Admin && login.token_name != actor.name {
        return Err(none());
    }
    if state.store.end_login(&login.id, &actor.name).await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(none())
    }
}
