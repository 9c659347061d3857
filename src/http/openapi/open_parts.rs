//! Types that stand for a part of another one. A body that refuses unknown fields says `additionalProperties: false`; as a
//! part of an answer with more fields, that would forbid the others. So there it stands as a copy that leaves room.

use std::collections::BTreeMap;

use utoipa::openapi::schema::{ArrayItems, Schema};
use utoipa::openapi::{Components, RefOr};

const REFERENCE: &str = "#/components/schemas/";

/// Puts open copies in place of closed types wherever they are combined with others.
pub(super) fn open_parts(components: &mut Components) {
    let closed = components.schemas.iter().filter_map(|(name, schema)| match schema {
        RefOr::T(Schema::Object(object)) if object.additional_properties.is_some() => {
            let mut open = object.clone();
            open.additional_properties = None;
            Some((format!("{REFERENCE}{name}"), Schema::Object(open)))
        }
        _ => None,
    });
    let copies: BTreeMap<_, _> = closed.collect();
    components.schemas.values_mut().for_each(|schema| open(schema, &copies));
}

fn open(schema: &mut RefOr<Schema>, copies: &BTreeMap<String, Schema>) {
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::AllOf(all_of) => {
            for part in &mut all_of.items {
                if let RefOr::Ref(reference) = part
                    && let Some(copy) = copies.get(&reference.ref_location)
                {
                    *part = RefOr::T(copy.clone());
                }
                open(part, copies);
            }
        }
        Schema::OneOf(one_of) => one_of.items.iter_mut().for_each(|part| open(part, copies)),
        Schema::Object(object) => object.properties.values_mut().for_each(|property| open(property, copies)),
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                open(items, copies);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_order_as_it_is_answered_may_have_more_fields_than_one_that_is_posted() {
        let document = serde_json::to_value(crate::http::document()).unwrap();
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["OrderRequest"]["additionalProperties"], false);
        assert!(schemas["OrderView"]["allOf"].to_string().contains("storeId"));
        assert!(!schemas["OrderView"]["allOf"].to_string().contains("additionalProperties"));
    }
}
