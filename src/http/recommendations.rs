//! `/api/recommendations/stats`: which recommendations were made, and which of them customers took up.

use actix_web::{HttpRequest, HttpResponse};

use super::State;
use super::page::List;
use super::params::Params;
use super::problem::Problem;
use crate::store::RecommendationStat;

/// How each recommendation did in the baskets that have ended, all on one page, those made most often first.
#[utoipa::path(
    get,
    path = "/api/recommendations/stats",
    tag = "recommendations",
    responses((status = 200, description = "All on one page", body = List<RecommendationStat>))
)]
pub(super) async fn stats(request: HttpRequest, state: State) -> Result<HttpResponse, Problem> {
    Params::read(&request, &[])?;
    let mut items = state.store.recommendation_stats().await?;
    items.sort_by_key(|stat| std::cmp::Reverse(stat.made));
    Ok(HttpResponse::Ok().json(List { items, next: None }))
}
