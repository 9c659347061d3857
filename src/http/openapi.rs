//! The OpenAPI 3.1 description of this server, generated from the handlers, and what else can be read from it.

mod open_parts;
mod refine;

use std::sync::OnceLock;

use actix_web::http::Method;
use actix_web::{App, HttpResponse, get};
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{Content, OpenApi as Document, Ref, RefOr};
use utoipa::{OpenApi, ToSchema};
use utoipa_actix_web::AppExt;

use super::problem::{CONTENT_TYPE_PROBLEM, Problem};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tillstream",
        description = "A point-of-sale event processor: events in, plugins and their switches, and what came of them."
    ),
    components(schemas(Problem))
)]
struct Base;

/// The description of every route.
#[must_use]
pub fn document() -> Document {
    let (_, mut document) =
        App::new().into_utoipa_app().openapi(Base::openapi()).configure(super::routes).split_for_parts();
    let components = document.components.get_or_insert_default();
    let (mut name_and_schemas, name) = (Vec::new(), Problem::name());
    <Problem as ToSchema>::schemas(&mut name_and_schemas);
    components.schemas.extend(name_and_schemas);
    debug_assert_eq!(name, "Problem");
    for (path, item) in &mut document.paths.paths {
        for (_, operation) in refine::operations(item) {
            add_common_problems(path, operation);
        }
    }
    refine::refine(&mut document);
    if let Some(components) = &mut document.components {
        open_parts::open_parts(components);
    }
    document
}

/// What any call may answer: said once here rather than at every handler.
fn add_common_problems(path: &str, operation: &mut Operation) {
    let mut common =
        vec![("400", "The request cannot be understood."), ("403", "Refused: wrong host, origin or role.")];
    if path.starts_with("/api/") || path.starts_with("/ws/") || path == "/metrics" {
        common.push(("401", "A token is needed, or it is not known."));
    }
    if operation.request_body.is_some() {
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

/// Which methods a path takes.
#[derive(Debug)]
pub(super) struct Routes(Vec<(Vec<String>, Vec<Method>)>);

impl Routes {
    pub(super) fn new(document: &Document) -> Self {
        let routes = document.paths.paths.iter().map(|(path, item)| {
            let segments = path.split('/').map(ToOwned::to_owned).collect();
            let methods = [
                (Method::GET, &item.get),
                (Method::PUT, &item.put),
                (Method::POST, &item.post),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ];
            let methods = methods.into_iter().filter(|(_, operation)| operation.is_some());
            (segments, methods.map(|(method, _)| method).collect())
        });
        let mut routes: Vec<_> = routes.collect();
        routes.push((vec![String::new(), String::new()], vec![Method::GET, Method::HEAD]));
        routes.push((["", "static", "{path}"].map(ToOwned::to_owned).to_vec(), vec![Method::GET, Method::HEAD]));
        Self(routes)
    }

    pub(super) fn methods(&self, path: &str) -> Vec<Method> {
        let given: Vec<_> = path.split('/').collect();
        let fits = |template: &[String]| {
            template.len() == given.len()
                && template.iter().zip(&given).all(|(part, given)| part.starts_with('{') || part == given)
        };
        let fitting = || self.0.iter().filter(|(template, _)| fits(template));
        // As in the description: a path that is named stands before one that is a pattern.
        let named = fitting().find(|(template, _)| *template == given);
        named.or_else(|| fitting().next()).map(|(_, methods)| methods.clone()).unwrap_or_default()
    }
}

/// This description.
#[utoipa::path(
    tag = "system",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"))
)]
#[get("/api/openapi.json")]
pub(super) async fn show() -> HttpResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| document().to_json().expect("the description is made of texts and numbers"));
    HttpResponse::Ok().content_type("application/json").body(text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_openapi_3_1_and_names_every_route_of_the_interface() {
        let document = serde_json::to_value(document()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        for path in ["/api/events", "/api/system", "/api/session", "/ws/feed", "/metrics", "/health/ready"] {
            assert!(document["paths"][path].is_object(), "{path}");
        }
        assert!(document["components"]["schemas"]["Problem"].is_object());
    }

    #[test]
    fn a_known_path_tells_its_methods() {
        let routes = Routes::new(&super::document());
        assert_eq!(routes.methods("/api/events"), [Method::GET, Method::POST]);
        assert_eq!(routes.methods("/api/deadletters/discard"), [Method::POST]);
        assert_eq!(routes.methods("/api/deadletters/d1"), [Method::GET]);
        assert!(routes.methods("/api/nothing").is_empty());
    }
}
