//! `/api/audit`: every change by a person.

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::State;
use super::page::List;
use super::params::Params;
use super::problem::Problem;
use crate::store::model::AuditEntry;
use crate::time::Timestamp;

/// Who changed what, when and why.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuditView {
    id: i64,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The token's name, or `local` without tokens.
    actor: String,
    /// Such as `plugin.change`, `stores.change`, `deadletter.discard`, `alert.change`.
    action: String,
    /// To what, for instance the plugin's name.
    subject: String,
    /// The revision that resulted; null where there is none.
    revision: Option<i64>,
    /// Before.
    #[schema(value_type = Value)]
    old: Option<Value>,
    /// After.
    #[schema(value_type = Value)]
    new: Option<Value>,
    /// Why, in the person's words.
    reason: Option<String>,
}

impl From<AuditEntry> for AuditView {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            at: entry.at,
            actor: entry.actor,
            action: entry.action,
            subject: entry.subject,
            revision: entry.revision,
            old: entry.old,
            new: entry.new,
            reason: entry.reason,
        }
    }
}

/// Every change by a person, newest first.
#[utoipa::path(
    get,
    path = "/api/audit",
    tag = "system",
    params(
        ("limit" = Option<u16>, Query, description = "Items of a page", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses((status = 200, description = "A page of changes", body = List<AuditView>))
)]
pub(super) async fn list(request: HttpRequest, state: State) -> Result<HttpResponse, Problem> {
    let params = Params::read(&request, &["limit", "cursor"])?;
    let page = state.store.audit(params.long_text("cursor"), params.limit()?).await?;
    let items = page.items.into_iter().map(AuditView::from).collect();
    Ok(HttpResponse::Ok().json(List { items, next: page.next }))
}
