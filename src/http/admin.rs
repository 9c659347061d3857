//! The browser admin: the files of `static/`, which are part of the binary (debug builds read them from disk).

use actix_web::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse};
use rust_embed::Embed;

use super::problem::Problem;
use super::resource::Operation;

#[derive(Embed)]
#[folder = "static/"]
#[allow_missing = true]
struct Files;

/// The page itself.
pub(super) fn page() -> Operation {
    Operation::undescribed("/", |request: HttpRequest| async move { file(&request, "index.html") })
}

/// What the page loads.
pub(super) fn files() -> Operation {
    Operation::undescribed("/static/{path:.*}", |request: HttpRequest| async move {
        file(&request, request.match_info().query("path"))
    })
}

fn file(request: &HttpRequest, path: &str) -> HttpResponse {
    let Some(file) = Files::get(path) else {
        return Problem::not_found("There is no such file in the admin.").response();
    };
    let hash = file.metadata.sha256_hash();
    let etag = format!("\"{:016x}\"", u64::from_be_bytes(hash[..8].try_into().expect("a SHA-256 has 32 bytes")));
    let is_known = request.headers().get_all(IF_NONE_MATCH).any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|known| known.trim().trim_start_matches("W/") == etag))
    });
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    // Files keep their names over versions, so they are always asked for; the answer is mostly 304.
    response.insert_header((ETAG, etag)).insert_header((CACHE_CONTROL, "no-cache"));
    if is_known {
        return response.finish();
    }
    let mime = file.metadata.mimetype();
    let is_text = mime.starts_with("text/") || mime.ends_with("javascript") || mime.ends_with("json");
    let content_type = if is_text { format!("{mime}; charset=utf-8") } else { mime.to_owned() };
    response.content_type(content_type).body(file.data.into_owned())
}
