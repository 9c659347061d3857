//! `/api/stores`: the shops' time zones, jurisdictions, business days and opening hours.

use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::State;
use super::access::Actor;
use super::body::JsonBody;
use super::plugins::refused;
use super::preconditions::{etag, if_match};
use super::problem::Problem;
use crate::control::Control;

/// All stores.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StoresView {
    /// Raised by one with each change; the `ETag` in quotes.
    revision: i64,
    /// By id: `name, timeZone, jurisdiction, businessDayStart, hours`.
    #[schema(value_type = Object)]
    stores: Value,
    /// JSON Schema of `stores`.
    #[schema(value_type = Object)]
    schema: Value,
}

/// All stores, in place of those that there are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewStores {
    #[schema(value_type = Object)]
    stores: Value,
    /// Why, for the audit.
    reason: Option<String>,
}

fn answer(state: &State) -> HttpResponse {
    let (revision, stores) = state.control.snapshot().stores_document();
    let stores = serde_json::to_value(stores).expect("stores are plain data");
    HttpResponse::Ok().insert_header(etag(revision)).json(StoresView {
        revision,
        stores,
        schema: Control::stores_schema(),
    })
}

/// The stores.
#[utoipa::path(
    get,
    path = "/api/stores",
    tag = "stores",
    responses((status = 200, description = "The stores", body = StoresView, headers(("ETag" = String, description = "The revision in quotes"))))
)]
pub(super) async fn show(state: State) -> HttpResponse {
    answer(&state)
}

/// Replaces the stores. With `If-Match`, only if nobody else changed them meanwhile.
#[utoipa::path(
    put,
    path = "/api/stores",
    tag = "stores",
    params(("If-Match" = Option<String>, Header, description = "The ETag that the change is based on")),
    request_body = NewStores,
    responses(
        (status = 200, description = "The stores as they are now", body = StoresView, headers(("ETag" = String, description = "The revision in quotes"))),
        (status = 412, description = "Changed by somebody else; `current` is how they are now", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn replace(
    request: HttpRequest,
    body: JsonBody<NewStores>,
    actor: Actor,
    state: State,
) -> Result<HttpResponse, Problem> {
    let NewStores { stores, reason } = body.0;
    let if_match = if_match(&request)?;
    let changed = state.control.change_stores(&stores, if_match, &actor.name, reason.as_deref()).await;
    changed.map_err(|error| match error {
        crate::control::ChangeError::StoresConflict(_) => {
            let (revision, stores) = state.control.snapshot().stores_document();
            Problem::precondition_failed(serde_json::json!({"revision": revision, "stores": stores}), revision)
        }
        other => refused("stores", other),
    })?;
    Ok(answer(&state))
}
