//! Who asks, and whether they may: tokens, sessions and roles; Host and Origin against foreign names and pages.
//!
//! Without configured tokens only loopback is served (the configuration sees to that) and everybody is actor `local`.

mod attempts;
mod cookie;
mod failures;
mod origin;
mod remembered;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, ORIGIN, USER_AGENT};
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::problem::Problem;
use crate::config::{HttpConfig, TokenConfig, TokenRole};
use crate::store::{Login, NewLogin, Store};
use attempts::Network;
pub(super) use cookie::COOKIE_NAME;
use cookie::SessionCookie;
use failures::Failures;
use origin::Origins;
use tokens::{Refusal, Tokens};

/// That a session was used is written down this often.
const SEEN_EVERY: Duration = Duration::from_mins(1);
/// A feed that a session has opened looks this often whether the session is still there.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Characters that are kept of what a browser says of itself.
const AGENT_CHARS_MAX: usize = 60;
/// Retry-After where too many tokens wait to be verified.
const BUSY_SECONDS: u32 = 2;

/// The person or program behind a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Actor {
    /// The token's name, or `local` where there are no tokens.
    pub(super) name: String,
    pub(super) role: TokenRole,
    /// The id of the session that the cookie names; `None` with a token, and where there are no tokens.
    pub(super) session: Option<String>,
}

impl Actor {
    fn holder(token: &TokenConfig, session: Option<String>) -> Self {
        Self { name: token.name.clone(), role: token.role, session }
    }
}

impl FromRequest for Actor {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let actor = request.extensions().get::<Self>().cloned();
        std::future::ready(actor.ok_or_else(login_needed))
    }
}

fn login_needed() -> Problem {
    let detail = "Log in: send Authorization: Bearer TOKEN, or POST /api/session with {\"token\": ...}.";
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

fn session_ended() -> Problem {
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "The session has ended; log in again.");
    problem.header("set-cookie", cookie::forget())
}

/// What a caller is told of a token that is not taken.
fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Wrong => {
            Problem::new(StatusCode::UNAUTHORIZED, "This token is not known; check http.tokens, or log in again.")
        }
        Refusal::Limited(wait) => {
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
            let detail = format!("Too many wrong tokens came from this address; try again in {seconds} s.");
            Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(seconds)
        }
        Refusal::Busy => {
            let detail = "Too many tokens wait to be verified; try again in a moment.";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(BUSY_SECONDS)
        }
    }
}

/// The rules of one server.
#[derive(Debug)]
pub(super) struct Access {
    tokens: Tokens,
    origins: Origins,
    failures: Failures,
    store: Store,
    lasts: Duration,
    idle: Duration,
    secure_cookies: bool,
}

impl Access {
    pub(super) fn new(config: &HttpConfig, store: Store) -> Self {
        Self {
            tokens: Tokens::new(&config.tokens, config.login_attempts_per_minute),
            origins: Origins::new(config.allowed_hosts.clone()),
            failures: Failures::default(),
            store,
            lasts: config.session_lasts,
            idle: config.session_idle,
            secure_cookies: config.secure_cookies,
        }
    }

    pub(super) fn login_required(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Refuses what a browser was tricked into: a name that is not ours, a page that is not ours.
    pub(super) fn check_origin(&self, request: &HttpRequest) -> Result<(), Problem> {
        self.origins.check(request)
    }

    /// Who asks, if they have the role that the matched resource needs.
    pub(super) async fn admit(&self, request: &HttpRequest, needed: TokenRole) -> Result<Actor, Problem> {
        let actor = self.actor_of(request).await?;
        if actor.session.is_some() && !request.method().is_safe() {
            Origins::check_own_page(request)?;
        }
        if actor.role < needed {
            let detail = format!(
                "Token {} has role {}, this needs {}; log in with another token.",
                actor.name,
                actor.role.as_str(),
                needed.as_str()
            );
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        Ok(actor)
    }

    /// Who asks, by the `Authorization` header or the session's cookie.
    pub(super) async fn actor_of(&self, request: &HttpRequest) -> Result<Actor, Problem> {
        if self.tokens.is_empty() {
            return Ok(Actor { name: "local".to_owned(), role: TokenRole::Admin, session: None });
        }
        if request.headers().contains_key(AUTHORIZATION) {
            let token = bearer(request.headers()).unwrap_or_default();
            return Ok(Actor::holder(self.holder(token, request).await?, None));
        }
        let cookie = SessionCookie::of(request.headers()).ok_or_else(login_needed)?;
        self.session(&cookie).await
    }

    /// The token that was presented; if it is wrong, that is written down.
    async fn holder(&self, token: &str, request: &HttpRequest) -> Result<&TokenConfig, Problem> {
        let network = network_of(request);
        self.tokens.find(token, network).await.map_err(|refusal| {
            self.failures.add(network, refusal);
            refused(refusal)
        })
    }

    /// Whose session this is. The store is asked each time, so that a session that is ended anywhere is ended here.
    async fn session(&self, cookie: &SessionCookie) -> Result<Actor, Problem> {
        let login = self.store.login(&cookie.id).await?.ok_or_else(session_ended)?;
        let token = self.token_of(&login).filter(|_| tokens::equal(&login.secret, &cookie.digest()));
        let actor = Actor::holder(token.ok_or_else(session_ended)?, Some(cookie.id.clone()));
        self.note_use(&login);
        Ok(actor)
    }

    /// Writes down that a session is in use, now and then. Nobody waits for it: at worst it counts as idle a little longer.
    fn note_use(&self, login: &Login) {
        if millis(SEEN_EVERY.min(self.idle / 4)) <= login.now.millis_since(login.seen_at) {
            let (store, id) = (self.store.clone(), login.id.clone());
            actix_web::rt::spawn(async move { store.login_seen(&id).await });
        }
    }

    /// The token of a session that has not ended: neither by time, nor because its token was removed or changed.
    pub(super) fn token_of(&self, login: &Login) -> Option<&TokenConfig> {
        let is_live = login.now < login.ends_at && login.now.millis_since(login.seen_at) < millis(self.idle);
        self.tokens.unchanged(&login.token_name, &login.token_digest).filter(|_| is_live)
    }

    /// Begins a session for the holder of a token; answers who that is, and the cookie. A session that the browser had
    /// before ends.
    pub(super) async fn begin(&self, request: &HttpRequest, token: &str) -> Result<(Actor, String), Problem> {
        let token = self.holder(token, request).await?;
        let cookie = SessionCookie::random();
        let header =
            |value: &str| request.headers().get(value).and_then(|value| value.to_str().ok()).unwrap_or_default();
        self.end(request).await?;
        self.store
            .begin_login(NewLogin {
                id: cookie.id.clone(),
                secret: cookie.digest(),
                token_name: token.name.clone(),
                token_digest: Tokens::fingerprint(token),
                address: request.peer_addr().map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default(),
                agent: header(USER_AGENT.as_str()).chars().filter(char::is_ascii).take(AGENT_CHARS_MAX).collect(),
                lasts: self.lasts,
            })
            .await?;
        let secure = self.secure_cookies || header(ORIGIN.as_str()).starts_with("https://");
        Ok((Actor::holder(token, Some(cookie.id.clone())), cookie.to_header(self.lasts, secure)))
    }

    /// Ends the session that the request's cookie names, if there is one. Answers the header that takes the cookie back.
    pub(super) async fn end(&self, request: &HttpRequest) -> Result<String, Problem> {
        if let Some(cookie) = SessionCookie::of(request.headers())
            && let Some(login) = self.store.login(&cookie.id).await?
            && tokens::equal(&login.secret, &cookie.digest())
        {
            self.store.end_login(&login.id, &login.token_name).await?;
        }
        Ok(cookie::forget())
    }

    /// Returns once the actor's session has ended; never for one who came with a token.
    pub(super) async fn until_session_ends(&self, actor: &Actor) {
        let Some(id) = &actor.session else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.store.login(id).await {
                Ok(Some(login)) if self.token_of(&login).is_some() => self.note_use(&login),
                Ok(_) => return,
                // While the store is away nobody can have ended it.
                Err(_) => {}
            }
        }
    }

    /// Reports failed logins for as long as the server lives.
    pub(super) async fn report_failures(self: Arc<Self>) {
        self.failures.report(&self.store).await;
    }

    /// How long a session may be idle.
    pub(super) const fn idle(&self) -> Duration {
        self.idle
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn network_of(request: &HttpRequest) -> Network {
    request.peer_addr().map_or(Network::UNKNOWN, |peer| Network::of(peer.ip()))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A new random token and the hash of it that belongs into `http.tokens`.
///
/// The token has 256 random bits, so a plain SHA-256 is as good as a slow hash; Argon2 is for tokens that people choose.
#[must_use]
pub fn new_token() -> (String, String) {
    let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let hash = format!("sha256:{}", tokens::hex(&Sha256::digest(token.as_bytes())));
    (token, hash)
}
