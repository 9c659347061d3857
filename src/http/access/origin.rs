//! Host and Origin: against names that are not ours (DNS rebinding) and pages that are not ours.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{HOST, HeaderMap, ORIGIN};
use actix_web::http::uri::Authority;

use crate::http::problem::Problem;

/// A header that pages of other origins cannot send without asking first; the admin sends it with every call.
pub(super) const OWN_PAGE_HEADER: &str = "x-tillstream-admin";
/// What browsers say of where a request comes from.
const FETCH_SITE: &str = "sec-fetch-site";

/// By which names the server goes.
#[derive(Debug)]
pub(super) struct Origins {
    allowed: Vec<String>,
}

impl Origins {
    pub(super) fn new(allowed: Vec<String>) -> Self {
        Self { allowed }
    }

    /// Refuses a request that a browser was tricked into.
    pub(super) fn check(&self, request: &HttpRequest) -> Result<(), Problem> {
        let host = host_of(request);
        self.check_host(host)?;
        let headers = request.headers();
        if !request.method().is_safe() && matches!(fetch_site(headers), Some("cross-site" | "same-site")) {
            return Err(foreign());
        }
        match headers.get(ORIGIN) {
            None => Ok(()),
            Some(origin) if self.is_ours(origin.to_str().unwrap_or_default(), host) => Ok(()),
            Some(_) => Err(foreign()),
        }
    }

    /// Wants a sign that our own page sends a request that a browser has signed with its cookie: browsers send cookies
    /// along whatever page makes them.
    pub(super) fn check_own_page(request: &HttpRequest) -> Result<(), Problem> {
        let headers = request.headers();
        // An Origin of another page was refused before.
        let is_ours = headers.contains_key(ORIGIN)
            || fetch_site(headers) == Some("same-origin")
            || headers.contains_key(OWN_PAGE_HEADER);
        if is_ours {
            return Ok(());
        }
        let detail = "A change with the session's cookie needs a sign that it comes from the admin: Origin, Sec-Fetch-Site: \
                      same-origin, or X-Tillstream-Admin: 1. Programs send Authorization: Bearer TOKEN instead.";
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }

    fn check_host(&self, host: Option<&str>) -> Result<(), Problem> {
        let known = host.is_some_and(|host| {
            let host = host.to_ascii_lowercase();
            let name = without_port(&host);
            // A page of another site can make a browser send its own name here, but not an address or `localhost`.
            name == "localhost"
                || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
                || self.allowed.iter().any(|allowed| *allowed == host || allowed == name)
        });
        if known {
            return Ok(());
        }
        let detail = "The Host header names no host that this server goes by; add it to http.allowedHosts.";
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }

    /// A page is ours if it was loaded from this host and this port, or from an allowed host and port. A name without a port
    /// is the one on the scheme's own port: what else runs on that host has no part in this.
    fn is_ours(&self, origin: &str, host: Option<&str>) -> bool {
        let origin = origin.to_ascii_lowercase();
        let (authority, default_port) = match (origin.strip_prefix("http://"), origin.strip_prefix("https://")) {
            (Some(authority), _) => (authority, ":80"),
            (_, Some(authority)) => (authority, ":443"),
            _ => return false,
        };
        let same = |name: &str| {
            let name = name.to_ascii_lowercase();
            name.strip_suffix(default_port).unwrap_or(&name)
                == authority.strip_suffix(default_port).unwrap_or(authority)
        };
        host.is_some_and(same) || self.allowed.iter().any(|allowed| same(allowed))
    }
}

fn foreign() -> Problem {
    let detail = "The request comes from a page of another origin; open the admin from this server itself.";
    Problem::new(StatusCode::FORBIDDEN, detail)
}

fn fetch_site(headers: &HeaderMap) -> Option<&str> {
    headers.get(FETCH_SITE)?.to_str().ok()
}

fn host_of(request: &HttpRequest) -> Option<&str> {
    let authority = request.uri().authority().map(Authority::as_str);
    authority.or_else(|| request.headers().get(HOST)?.to_str().ok())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::Method;
    use actix_web::test::TestRequest;

    use super::*;

    fn allowing(hosts: &[&str]) -> Origins {
        Origins::new(hosts.iter().map(|host| (*host).to_owned()).collect())
    }

    fn from(host: &str) -> TestRequest {
        TestRequest::get().uri("/api/plugins").insert_header(("host", host))
    }

    fn is_refused(origins: &Origins, request: TestRequest) -> bool {
        origins.check(&request.to_http_request()).is_err()
    }

    #[test]
    fn only_hosts_that_no_foreign_page_can_claim_are_served() {
        for host in ["localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST"] {
            assert!(!is_refused(&allowing(&[]), from(host)), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", ""] {
            assert!(is_refused(&allowing(&["till.example"]), from(host)), "{host}");
        }
        assert!(!is_refused(&allowing(&["till.example"]), from("till.example:8080")));
    }

    #[test]
    fn a_page_of_another_origin_is_refused_and_another_port_is_another_origin() {
        let (ours, port) = (allowing(&["till.example", "b.example:8443"]), "till.example:8080");
        let from_page = |host: &str, origin: &str| from(host).insert_header(("origin", origin.to_owned()));
        let own = [
            ("localhost:8080", "http://localhost:8080"),
            (port, "http://till.example:8080"),
            (port, "https://till.example"),
            (port, "https://till.example:443"),
            ("till.example", "http://till.example:80"),
            ("127.0.0.1:8080", "https://b.example:8443"),
        ];
        for (host, origin) in own {
            assert!(!is_refused(&ours, from_page(host, origin)), "{host} {origin}");
        }
        let foreign = [
            ("localhost:8080", "http://evil.example"),
            ("localhost:8080", "null"),
            ("localhost:8080", "http://localhost:9090"),
            ("localhost:8080", "http://localhost"),
            ("localhost:8080", "file://"),
            (port, "http://till.example:9999"),
            (port, "https://till.example:9999"),
            (port, "https://b.example"),
            (port, "https://till.example.evil.example"),
            (port, "https://evil.example@till.example"),
        ];
        for (host, origin) in foreign {
            assert!(is_refused(&ours, from_page(host, origin)), "{host} {origin}");
        }
    }

    #[test]
    fn a_change_that_another_site_makes_a_browser_send_is_refused() {
        let sent_by = |site: &str| from("localhost:8080").insert_header(("sec-fetch-site", site.to_owned()));
        for site in ["cross-site", "same-site"] {
            assert!(is_refused(&allowing(&[]), sent_by(site).method(Method::POST)), "{site}");
            assert!(!is_refused(&allowing(&[]), sent_by(site)), "a link may lead here");
        }
        assert!(!is_refused(&allowing(&[]), sent_by("same-origin").method(Method::POST)));
    }

    #[test]
    fn a_cookie_alone_does_not_prove_where_a_change_comes_from() {
        let signed = |header: Option<(&'static str, &'static str)>| {
            let request = from("localhost:8080").method(Method::POST);
            let request = header.into_iter().fold(request, TestRequest::insert_header);
            Origins::check_own_page(&request.to_http_request()).is_ok()
        };
        assert!(!signed(None));
        assert!(!signed(Some(("sec-fetch-site", "none"))));
        assert!(signed(Some(("origin", "http://localhost:8080"))));
        assert!(signed(Some(("sec-fetch-site", "same-origin"))));
        assert!(signed(Some((OWN_PAGE_HEADER, "1"))));
    }
}
