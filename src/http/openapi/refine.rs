//! What the handlers' own descriptions leave out and follows from the whole: unique operation ids, links from lists to
//! their items, and parameters that are absent rather than null.

use utoipa::openapi::link::Link;
use utoipa::openapi::path::{Operation, Parameter, PathItem};
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::{OpenApi as Document, RefOr};

/// The operations of a path with their methods in lower case.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("patch", &mut item.patch),
        ("delete", &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

pub(super) fn refine(document: &mut Document) {
    let mut items = Vec::new();
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            let id = operation_id(method, path);
            if let Some((list, parameter)) = list_of(path) {
                items.push((list.to_owned(), parameter.to_owned(), id.clone()));
            }
            operation.operation_id = Some(id);
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(Parameter { schema: Some(schema), .. }) = parameter {
                    not_null(schema);
                }
            }
        }
    }
    for (list, parameter, id) in items {
        if let Some(item) = document.paths.paths.get_mut(&list) {
            link(item, &parameter, &id);
        }
    }
}

/// `patchPluginsByName` for `PATCH /api/plugins/{name}`.
fn operation_id(method: &str, path: &str) -> String {
    let segments = path.split(['/', '.']).filter(|segment| !matches!(*segment, "" | "api"));
    segments.fold(method.to_owned(), |id, segment| match segment.strip_prefix('{') {
        Some(parameter) => format!("{id}By{}", capitalised(parameter.trim_end_matches('}'))),
        None => id + &capitalised(segment),
    })
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// The list that a path's item comes from, and the parameter that names the item.
fn list_of(path: &str) -> Option<(&str, &str)> {
    let (list, rest) = path.split_once("/{")?;
    Some((list, rest.split_once('}')?.0))
}

/// From what a list answers, and from what was created there, to the calls about that one.
fn link(list: &mut PathItem, parameter: &str, operation_id: &str) {
    let answers = [
        (&mut list.get, "200", format!("$response.body#/items/0/{parameter}")),
        (&mut list.post, "201", format!("$response.body#/{parameter}")),
    ];
    for (operation, status, expression) in answers {
        let responses = operation.as_mut().map(|operation| &mut operation.responses.responses);
        if let Some(RefOr::T(response)) = responses.and_then(|responses| responses.get_mut(status)) {
            let link = Link::builder().operation_id(operation_id).parameter(parameter, expression).build();
            response.links.insert(operation_id.to_owned(), RefOr::T(link));
        }
    }
}

/// A query or a header has no null: an optional parameter is left out.
fn not_null(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::OneOf(one_of)) => {
            one_of.items.retain(|item| !is_null(item));
            if one_of.items.len() == 1 {
                *schema = one_of.items.remove(0);
            }
        }
        RefOr::T(Schema::Object(object)) => without_null(&mut object.schema_type),
        RefOr::T(Schema::Array(array)) => without_null(&mut array.schema_type),
        _ => {}
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null))
}

fn without_null(schema_type: &mut SchemaType) {
    if let SchemaType::Array(types) = schema_type {
        types.retain(|one| *one != Type::Null);
        if let [one] = types.as_slice() {
            *schema_type = SchemaType::Type(one.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::*;

    fn described() -> Value {
        serde_json::to_value(crate::http::document()).unwrap()
    }

    #[test]
    fn an_operation_id_tells_method_and_path() {
        assert_eq!(operation_id("post", "/api/deadletters/{id}/replay"), "postDeadlettersByIdReplay");
        assert_eq!(operation_id("get", "/api/openapi.json"), "getOpenapiJson");
    }

    #[test]
    fn no_two_operations_share_an_id() {
        let document = described();
        let paths = document["paths"].as_object().unwrap().values();
        let ids = paths.flat_map(|item| item.as_object().unwrap().values()).map(|operation| &operation["operationId"]);
        let mut seen = HashSet::new();
        for id in ids {
            assert!(seen.insert(id.as_str().unwrap().to_owned()), "{id} twice");
        }
    }

    #[test]
    fn a_list_leads_to_its_items() {
        let link = &described()["paths"]["/api/alerts"]["get"]["responses"]["200"]["links"]["getAlertsById"];
        assert_eq!(link["parameters"]["id"], "$response.body#/items/0/id");
    }

    #[test]
    fn optional_parameters_are_left_out_and_never_null() {
        let document = described();
        let parameters = document["paths"]["/api/alerts"]["get"]["parameters"].as_array().unwrap();
        for parameter in parameters {
            assert_eq!(parameter["required"], false);
            assert!(!parameter["schema"].to_string().contains("null"), "{parameter}");
        }
        let status = parameters.iter().find(|parameter| parameter["name"] == "status").unwrap();
        assert_eq!(status["schema"]["enum"], serde_json::json!(["new", "acknowledged", "closed"]));
    }
}
