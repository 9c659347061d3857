//! Who may do what: Host and Origin checks against DNS rebinding and foreign pages, tokens, roles.
//!
//! Without configured tokens only loopback is served (the configuration sees to that) and everybody is actor `local`.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, ORIGIN};
use actix_web::http::uri::Authority;
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload};
use argon2::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::problem::Problem;
use crate::config::{HttpConfig, TokenConfig, TokenRole};

/// Name of the session cookie. It holds the token, out of reach of scripts and of other sites.
pub(super) const COOKIE_NAME: &str = "tillstream_session";
/// Tokens longer than this are not looked at.
const TOKEN_BYTES_MAX: usize = 512;
/// Argon2 verdicts that are remembered, so that not every request costs its time.
const VERDICTS_MAX: usize = 1000;

/// The person or program behind a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Actor {
    /// The token's name, or `local` where there are no tokens.
    pub(super) name: String,
    pub(super) role: TokenRole,
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

/// The rules of one server.
#[derive(Debug)]
pub(super) struct Access {
    tokens: Vec<TokenConfig>,
    allowed_hosts: Vec<String>,
    /// SHA-256 of tokens that Argon2 has accepted, with their place in `tokens`.
    verdicts: Mutex<Vec<([u8; 32], usize)>>,
}

impl Access {
    pub(super) fn new(config: &HttpConfig) -> Self {
        Self {
            tokens: config.tokens.clone(),
            allowed_hosts: config.allowed_hosts.clone(),
            verdicts: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn login_required(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Refuses what a browser was tricked into: a name that is not ours, a page that is not ours.
    pub(super) fn check_origin(&self, request: &HttpRequest) -> Result<(), Problem> {
        let host = host_of(request.headers(), request.uri().authority().map(Authority::as_str));
        self.check_host(host)?;
        self.check_page(request.headers(), host)
    }

    /// Who asks, if they have the role that the matched resource needs.
    pub(super) fn admit(&self, request: &HttpRequest, needed: TokenRole) -> Result<Actor, Problem> {
        let actor = self.actor_of(request.headers())?;
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

    fn check_host(&self, host: Option<&str>) -> Result<(), Problem> {
        let known = host.is_some_and(|host| {
            let host = host.to_ascii_lowercase();
            let name = without_port(&host);
            // A page of another site can make a browser send its own name here, but not an address or `localhost`.
            name == "localhost"
                || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
                || self.allowed_hosts.iter().any(|allowed| *allowed == host || allowed == name)
        });
        if known {
            return Ok(());
        }
        let detail = "The Host header names no host that this server goes by; add it to http.allowedHosts.";
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }

    fn check_page(&self, headers: &HeaderMap, host: Option<&str>) -> Result<(), Problem> {
        let Some(origin) = headers.get(ORIGIN) else {
            return Ok(());
        };
        let authority = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")))
            .map(str::to_ascii_lowercase);
        let same = authority.as_deref().is_some_and(|authority| {
            host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
                || self.allowed_hosts.iter().any(|allowed| allowed == authority || allowed == without_port(authority))
        });
        if same {
            return Ok(());
        }
        let detail = "The request comes from a page of another origin; open the admin from this server itself.";
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }

    /// Who asks, by the `Authorization` header or the session cookie.
    pub(super) fn actor_of(&self, headers: &HeaderMap) -> Result<Actor, Problem> {
        if self.tokens.is_empty() {
            return Ok(Actor { name: "local".to_owned(), role: TokenRole::Admin });
        }
        if let Some(value) = headers.get(AUTHORIZATION) {
            let token = value.to_str().ok().and_then(|value| {
                let (scheme, token) = value.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
            });
            return token.and_then(|token| self.holder(token)).ok_or_else(wrong_token);
        }
        match token_of_cookies(headers) {
            Some(token) => self.holder(&token).ok_or_else(wrong_token),
            None => Err(login_needed()),
        }
    }

    /// Who holds this token.
    pub(super) fn holder(&self, token: &str) -> Option<Actor> {
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let index = self.find(token, digest)?;
        let TokenConfig { name, role, .. } = self.tokens.get(index)?;
        Some(Actor { name: name.clone(), role: *role })
    }

    fn find(&self, token: &str, digest: [u8; 32]) -> Option<usize> {
        let hex = format!("sha256:{}", hex(&digest));
        let by_digest = self.tokens.iter().position(|known| equal(known.hash.reveal().as_bytes(), hex.as_bytes()));
        if by_digest.is_some() {
            return by_digest;
        }
        // Held while Argon2 works, so that a flood of wrong tokens costs one core at most.
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&(_, index)) = verdicts.iter().find(|(known, _)| equal(known, &digest)) {
            return Some(index);
        }
        let index = self.tokens.iter().position(|known| {
            PasswordHash::new(known.hash.reveal())
                .is_ok_and(|hash| argon2::Argon2::default().verify_password(token.as_bytes(), &hash).is_ok())
        })?;
        if verdicts.len() < VERDICTS_MAX {
            verdicts.push((digest, index));
        }
        Some(index)
    }
}

pub(super) fn wrong_token() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "This token is not known; check http.tokens, or log in again.")
}

fn host_of<'a>(headers: &'a HeaderMap, authority: Option<&'a str>) -> Option<&'a str> {
    authority.or_else(|| headers.get(HOST)?.to_str().ok())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Compares without telling by its time where the first difference is.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to memory does not fail");
        text
    })
}

/// The cookie's value for a token: any token becomes letters and digits.
pub(super) fn cookie_of_token(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(token)
}

fn token_of_cookies(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(COOKIE).filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    let value = cookies.filter_map(|cookie| cookie.trim().split_once('=')).find(|(name, _)| *name == COOKIE_NAME)?.1;
    String::from_utf8(URL_SAFE_NO_PAD.decode(value).ok()?).ok()
}

/// A new random token and the hash of it that belongs into `http.tokens`.
///
/// The token has 256 random bits, so a plain SHA-256 is as good as a slow hash; Argon2 is for tokens that people choose.
#[must_use]
pub fn new_token() -> (String, String) {
    let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let hash = format!("sha256:{}", hex(&Sha256::digest(token.as_bytes())));
    (token, hash)
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;
    use actix_web::test::TestRequest;

    use super::*;
    use crate::config::{Config, Secret};

    fn open() -> Access {
        Access::new(&Config::default().http)
    }

    fn with_token(role: TokenRole) -> (Access, String) {
        let (token, hash) = new_token();
        let mut config = Config::default().http;
        config.tokens.push(TokenConfig { name: "ops".to_owned(), role, hash: Secret::new(hash) });
        config.allowed_hosts.push("till.example".to_owned());
        (Access::new(&config), token)
    }

    fn status(access: &Access, request: TestRequest) -> Option<u16> {
        let request = request.to_http_request();
        let outcome = access.check_origin(&request).and_then(|()| access.admit(&request, TokenRole::Viewer));
        outcome.err().map(|problem| problem.status_code().as_u16())
    }

    fn from_host(host: &str) -> TestRequest {
        TestRequest::get().uri("/api/plugins").insert_header(("host", host))
    }

    #[test]
    fn only_hosts_that_no_foreign_page_can_claim_are_served() {
        for host in ["localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST"] {
            assert_eq!(status(&open(), from_host(host)), None, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", ""] {
            assert_eq!(status(&open(), from_host(host)), Some(403), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        let from = |origin: &str| from_host("localhost:8080").insert_header(("origin", origin.to_owned()));
        assert_eq!(status(&open(), from("http://localhost:8080")), None);
        for origin in ["http://evil.example", "null", "http://localhost:9090", "file://"] {
            assert_eq!(status(&open(), from(origin)), Some(403), "{origin}");
        }
    }

    #[test]
    fn a_token_is_asked_for_and_its_role_obeyed() {
        let (access, token) = with_token(TokenRole::Viewer);
        let bearer = format!("Bearer {token}");
        let get = || from_host("till.example:8080");
        assert_eq!(status(&access, get()), Some(401));
        assert_eq!(status(&access, get().insert_header(("authorization", "Bearer wrong"))), Some(401));
        assert_eq!(status(&access, get().insert_header(("authorization", bearer.clone()))), None);
        let cookie = format!("a=b; {COOKIE_NAME}={}", cookie_of_token(&token));
        assert_eq!(status(&access, get().insert_header(("cookie", cookie))), None);
        let request = get().insert_header(("authorization", bearer)).to_http_request();
        let refused = access.admit(&request, TokenRole::Operator).unwrap_err();
        assert_eq!(refused.status_code().as_u16(), 403);
    }

    #[test]
    fn a_chosen_token_may_be_kept_as_an_argon2_hash() {
        use argon2::PasswordHasher;
        let hash = argon2::Argon2::default().hash_password(b"correct horse").unwrap().to_string();
        let mut config = Config::default().http;
        config.tokens.push(TokenConfig { name: "ann".to_owned(), role: TokenRole::Admin, hash: Secret::new(hash) });
        let access = Access::new(&config);
        assert_eq!(access.holder("correct horse").unwrap().name, "ann");
        assert_eq!(access.holder("correct horse").unwrap().role, TokenRole::Admin);
        assert_eq!(access.holder("battery staple"), None);
    }
}
