//! The OpenAPI 3.1 description of this server, generated from the handlers, and what else can be read from it.

mod open_parts;
mod refine;

use std::sync::OnceLock;

use actix_web::{HttpResponse, web};
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, Content, OpenApi as Document, Ref, RefOr};
use utoipa::{OpenApi, ToSchema};

use super::Local;
use super::access::COOKIE_NAME;
use super::problem::{CONTENT_TYPE_PROBLEM, Problem};
use super::resource::{Needs, describe_needs};
use crate::config::TokenRole;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tillstream",
        description = "A point-of-sale event processor: events in, plugins and their switches, and what came of them."
    ),
    components(schemas(Problem))
)]
struct Base;

/// The description of every operation.
#[must_use]
pub fn document() -> Document {
    let table = super::api();
    let rules = table.rules();
    let (paths, schemas) = table.descriptions();
    let mut document = Base::openapi();
    document.paths.merge(paths);
    let components = document.components.get_or_insert_default();
    components.schemas.extend(schemas);
    let (mut name_and_schemas, name) = (Vec::new(), Problem::name());
    <Problem as ToSchema>::schemas(&mut name_and_schemas);
    components.schemas.extend(name_and_schemas);
    debug_assert_eq!(name, "Problem");
    add_security_schemes(components);
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in refine::operations(item) {
            let rule =
                rules.iter().find(|rule| rule.pattern == *path && rule.method.as_str().eq_ignore_ascii_case(method));
            let needs = rule.map_or(Needs::Role(TokenRole::Admin), |rule| rule.needs);
            describe_needs(operation, needs);
            add_common_problems(path, needs, operation);
        }
    }
    refine::refine(&mut document);
    if let Some(components) = &mut document.components {
        open_parts::open_parts(components);
    }
    document
}

fn add_security_schemes(components: &mut Components) {
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.description = Some("A token whose hash stands in `http.tokens`.".to_owned());
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let session = ApiKeyValue::with_description(COOKIE_NAME, "The session that `POST /api/session` begins.");
    components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(session)));
}

/// What any call may answer: said once here rather than at every handler.
fn add_common_problems(path: &str, needs: Needs, operation: &mut Operation) {
    let mut common =
        vec![("400", "The request cannot be understood."), ("403", "Refused: wrong host, origin or role.")];
    if needs != Needs::Nothing {
        common.push(("401", "A token is needed, or it is not known."));
        common.push(("429", "Too many wrong tokens came from this address; Retry-After says when to try again."));
    }
    if operation.request_body.is_some() {
        common.push(("408", "The body did not arrive in time."));
        common.push(("413", "The body is too large."));
        common.push(("415", "The body's media type is not one that this call takes."));
        common.push(("422", "The body is well-formed but wrong; `errors` names the fields."));
    }
    if path.starts_with("/api/") {
        common.push(("503", "The bus or the store is away; Retry-After says when to try again."));
    }
    for (status, description) in common {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(description)));
    }
}

fn problem(description: &str) -> Response {
    let content = Content::new(Some(RefOr::<utoipa::openapi::Schema>::Ref(Ref::from_schema_name("Problem"))));
    ResponseBuilder::new().description(description).content(CONTENT_TYPE_PROBLEM, content).build()
}

/// This description.
#[utoipa::path(
    get,
    path = "/api/openapi.json",
    tag = "system",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"))
)]
pub(super) async fn show(local: web::Data<Local>) -> HttpResponse {
    static TEXTS: [OnceLock<String>; 2] = [const { OnceLock::new() }; 2];
    let login_required = local.access.login_required();
    let text = TEXTS[usize::from(login_required)].get_or_init(|| {
        let mut document = document();
        if !login_required {
            // Without tokens nobody has to say who they are.
            let items = document.paths.paths.values_mut();
            items.flat_map(refine::operations).for_each(|(_, operation)| operation.security = None);
        }
        document.to_json().expect("the description is made of texts and numbers")
    });
    HttpResponse::Ok().content_type("application/json").body(text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_types_share_a_name() {
        let mut known = std::collections::BTreeMap::new();
        for (name, schema) in super::super::api().descriptions().1 {
            let schema = serde_json::to_value(schema).unwrap();
            assert_eq!(*known.entry(name.clone()).or_insert_with(|| schema.clone()), schema, "{name}");
        }
    }

    #[test]
    fn the_description_is_openapi_3_1_and_names_every_route_of_the_interface() {
        let document = serde_json::to_value(document()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        for path in ["/api/events", "/api/system", "/api/session", "/ws/feed", "/metrics", "/health/ready"] {
            assert!(document["paths"][path].is_object(), "{path}");
        }
        assert!(document["components"]["schemas"]["Problem"].is_object());
    }
}
