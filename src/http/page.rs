//! Lists in pages.

use serde::Serialize;
use utoipa::ToSchema;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct List<T> {
    /// The items.
    pub(super) items: Vec<T>,
    /// Pass it as `cursor` to get the next page; null at the end.
    pub(super) next: Option<String>,
}
