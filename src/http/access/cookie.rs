//! The cookie of a session: its id, by which it is found, and its secret, of which the store has a digest only.

use std::time::Duration;

use actix_web::http::header::{COOKIE, HeaderMap};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::tokens::Sha;

/// Name of the cookie.
pub(in crate::http) const COOKIE_NAME: &str = "tillstream_session";
/// Out of reach of scripts and of other sites.
const ATTRIBUTES: &str = "Path=/; HttpOnly; SameSite=Strict";
const ID_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;

/// What a browser holds of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionCookie {
    pub(super) id: String,
    secret: [u8; SECRET_BYTES],
}

impl SessionCookie {
    /// A new one, which nobody can guess.
    pub(super) fn random() -> Self {
        Self { id: URL_SAFE_NO_PAD.encode(rand::random::<[u8; ID_BYTES]>()), secret: rand::random() }
    }

    /// The digest of the secret, as the store has it.
    pub(super) fn digest(&self) -> Sha {
        Sha256::digest(self.secret).into()
    }

    /// The value of `Set-Cookie`.
    pub(super) fn to_header(&self, lasts: Duration, secure: bool) -> String {
        let secret = URL_SAFE_NO_PAD.encode(self.secret);
        header(&format!("{}.{secret}", self.id), lasts.as_secs(), secure)
    }

    /// The cookie of a request. Of several, which another service on this host may have set beside ours, none counts.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let cookies =
            headers.get_all(COOKIE).filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
        let mut values = cookies
            .filter_map(|cookie| cookie.trim().split_once('='))
            .filter(|(name, _)| *name == COOKIE_NAME)
            .map(|(_, value)| value);
        let value = values.next()?;
        if values.any(|other| other != value) {
            return None;
        }
        let (id, secret) = value.split_once('.')?;
        let is_id = URL_SAFE_NO_PAD.decode(id).is_ok_and(|bytes| bytes.len() == ID_BYTES);
        let secret = URL_SAFE_NO_PAD.decode(secret).ok()?.try_into().ok()?;
        is_id.then(|| Self { id: id.to_owned(), secret })
    }
}

/// Takes the cookie back.
pub(super) fn forget() -> String {
    header("", 0, false)
}

fn header(value: &str, seconds: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE_NAME}={value}; {ATTRIBUTES}; Max-Age={seconds}{secure}")
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn read(cookies: &str) -> Option<SessionCookie> {
        SessionCookie::of(TestRequest::default().insert_header(("cookie", cookies)).to_http_request().headers())
    }

    #[test]
    fn a_cookie_comes_back_as_it_went() {
        let cookie = SessionCookie::random();
        let header = cookie.to_header(Duration::from_mins(1), true);
        assert!(header.ends_with("; Path=/; HttpOnly; SameSite=Strict; Max-Age=60; Secure"), "{header}");
        let pair = header.split(';').next().unwrap();
        assert_eq!(read(&format!("a=b; {pair}")), Some(cookie));
        assert_eq!(read(&format!("{pair}; {COOKIE_NAME}=other")), None, "which of two is ours nobody can tell");
        for wrong in ["", "x", "x.y", "AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAA.AAAA"] {
            assert_eq!(read(&format!("{COOKIE_NAME}={wrong}")), None, "{wrong}");
        }
    }
}
