//! `If-Match` with revisions as entity tags (RFC 9110, section 13.1.1).

use actix_web::HttpRequest;
use actix_web::http::header::IF_MATCH;

use super::problem::Problem;

/// The revision that the client saw; `None` if it does not matter to it.
pub(super) fn if_match(request: &HttpRequest) -> Result<Option<i64>, Problem> {
    let Some(value) = request.headers().get(IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let revision = text.trim_start_matches("W/").strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match revision.and_then(|revision| revision.parse().ok()) {
        Some(revision) => Ok(Some(revision)),
        None => Err(Problem::bad_request("If-Match must be the ETag of an earlier answer, such as \"3\".")),
    }
}

pub(super) fn etag(revision: i64) -> (&'static str, String) {
    ("etag", format!("\"{revision}\""))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn an_entity_tag_is_a_revision_in_quotes() {
        let read = |value: &'static str| {
            let request = TestRequest::default().insert_header(("if-match", value)).to_http_request();
            if_match(&request).ok()
        };
        assert_eq!(read("\"7\""), Some(Some(7)));
        assert_eq!(read("W/\"7\""), Some(Some(7)));
        assert_eq!(read("*"), Some(None));
        assert_eq!(read("7"), None);
    }
}
