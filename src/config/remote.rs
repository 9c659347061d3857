//! The address of another server, read once: what is built from it cannot go anywhere else.
//!
//! Ids become one percent-encoded path segment. An address with a query or a fragment is refused, since no id can be put behind
//! either of them.

use std::fmt;

use reqwest::Url;

/// An `http` or `https` address with neither query nor fragment. It may hold credentials: `Debug` and `Display` show dots instead.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteUrl(Url);

/// Why a text is no such address. None of the messages repeats the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RemoteUrlError {
    /// No URL, or not one of a web server.
    #[error("must be an address that begins with http:// or https://")]
    NotHttp,
    /// It has a query.
    #[error(
        "must not hold a question mark: ids are put behind the path, as in https://host/path/ID. Leave the query out; a tenant \
         or a token can be part of the path, or put a proxy in between that adds it"
    )]
    Query,
    /// It has a fragment.
    #[error(
        "must not hold a #: servers never see what follows it. Leave it out, or write %23 if it belongs to the path"
    )]
    Fragment,
}

impl RemoteUrl {
    /// Reads an address. A slash at its end makes no difference.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, RemoteUrlError> {
        let mut url = Url::parse(text).map_err(|_| RemoteUrlError::NotHttp)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(RemoteUrlError::NotHttp);
        }
        if url.query().is_some() {
            return Err(RemoteUrlError::Query);
        }
        if url.fragment().is_some() {
            return Err(RemoteUrlError::Fragment);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// The address itself.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }

    /// The address as text. Never log it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// The address without credentials, for messages.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut url = self.0.clone();
        // Fails only for addresses without a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.as_str().trim_end_matches('/').to_owned()
    }

    /// The address of a fixed path below this one; `path` begins with a slash.
    #[must_use]
    pub fn below(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        url
    }

    /// The address of one item below this one, whatever its id holds. `None` for an id that no address can name: parsers of
    /// addresses take `.` and `..` for directions, encoded or not.
    #[must_use]
    pub fn item(&self, id: &str) -> Option<Url> {
        if matches!(id, "" | "." | "..") {
            return None;
        }
        // More than a path needs: what some servers give a meaning of their own, such as `;`, stays a part of the id.
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        let segment =
            id.bytes().map(|byte| if unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
        Some(self.below(&format!("/{}", segment.collect::<String>())))
    }
}

impl fmt::Debug for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(base: &str, id: &str) -> Option<String> {
        RemoteUrl::parse(base).unwrap().item(id).map(|url| url.to_string())
    }

    #[test]
    fn an_id_is_one_segment_whatever_is_in_it() {
        for base in ["http://host/customers", "http://host/customers/", "http://host/customers//"] {
            assert_eq!(item(base, "C0001").unwrap(), "http://host/customers/C0001");
            assert_eq!(
                item(base, "a/b?c#d e%é\\;x=1").unwrap(),
                "http://host/customers/a%2Fb%3Fc%23d%20e%25%C3%A9%5C%3Bx%3D1"
            );
            assert_eq!(item(base, "../x").unwrap(), "http://host/customers/..%2Fx");
            assert_eq!(item(base, "%2e%2e").unwrap(), "http://host/customers/%252e%252e");
            assert_eq!(item(base, "...").unwrap(), "http://host/customers/...");
        }
        assert_eq!(item("https://host", "7").unwrap(), "https://host/7");
        assert_eq!(item("https://host/a%2Fb", "7").unwrap(), "https://host/a%2Fb/7");
        for direction in ["", ".", ".."] {
            assert_eq!(item("http://host/customers", direction), None);
        }
    }

    #[test]
    fn what_an_id_cannot_be_put_behind_is_refused() {
        let refused = |text| RemoteUrl::parse(text).unwrap_err();
        for query in ["http://h/orders?tenant=7", "http://h/orders?", "http://h?x", "http://h/orders?a#b"] {
            assert_eq!(refused(query), RemoteUrlError::Query, "{query}");
        }
        for fragment in ["http://h/orders#f", "http://h/#", "https://h#f?x"] {
            assert_eq!(refused(fragment), RemoteUrlError::Fragment, "{fragment}");
        }
        for other in ["", "orders", "ftp://h/orders", "file:///etc/passwd", "mailto:a@b", "http://", "//h/orders"] {
            assert_eq!(refused(other), RemoteUrlError::NotHttp, "{other}");
        }
        assert_eq!(RemoteUrl::parse("http://h/a%3Fb%23c").unwrap().reveal(), "http://h/a%3Fb%23c");
    }

    #[test]
    fn credentials_are_used_and_not_shown() {
        let url = RemoteUrl::parse("https://user:hunter2@host:8443/orders/").unwrap();
        assert_eq!(url.reveal(), "https://user:hunter2@host:8443/orders");
        assert_eq!(url.shown(), "https://host:8443/orders");
        assert_eq!(format!("{url} {url:?}"), "*** ***");
        assert_eq!(url.item("7").unwrap().password(), Some("hunter2"));
        assert_eq!(url.below("/api/plugins").as_str(), "https://user:hunter2@host:8443/orders/api/plugins");
    }

    proptest! {
        #[test]
        fn no_id_leaves_its_segment_and_no_two_ids_have_one_address(a in ".{1,12}", b in ".{1,12}") {
            let base = RemoteUrl::parse("http://host/orders").unwrap();
            if let (Some(first), Some(second)) = (base.item(&a), base.item(&b)) {
                let segments: Vec<_> = first.path_segments().unwrap().collect();
                prop_assert_eq!((segments.len(), segments[0]), (2, "orders"));
                prop_assert!(first.query().is_none() && first.fragment().is_none());
                prop_assert_eq!(first == second, a == b);
            }
        }
    }
}
