//! Recommendations: how often each was made, and taken up.

use serde::Serialize;
use utoipa::ToSchema;

use super::Store;
use super::connection::{on, queries};
use super::model::StoreError;
use super::schema::recommendations;
use crate::effect::RecommendationRecord;

/// How one recommendation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecommendationStat {
    /// The product that prompted it.
    pub product_id: String,
    /// The product that was recommended.
    pub recommended: String,
    /// How often it was made, in baskets that have ended.
    pub made: i64,
    /// How often the product was added afterwards.
    pub taken_up: i64,
}

#[derive(diesel::Insertable)]
#[diesel(table_name = recommendations)]
pub(super) struct NewRecommendation<'a> {
    id: &'a str,
    basket_id: &'a str,
    product_id: &'a str,
    recommended: &'a str,
    taken_up: bool,
    at: i64,
}

impl<'a> NewRecommendation<'a> {
    pub(super) fn new(record: &'a RecommendationRecord) -> Self {
        Self {
            id: &record.id,
            basket_id: &record.basket_id,
            product_id: &record.product_id,
            recommended: &record.recommended,
            taken_up: record.taken_up,
            at: record.at.as_millis(),
        }
    }
}

impl Store {
    /// How each recommendation did, in the order of its products.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn recommendation_stats(&self) -> Result<Vec<RecommendationStat>, StoreError> {
        self.read(|database| on!(database, stats())).await
    }
}

queries! {
    use diesel::dsl::sql;
    use diesel::prelude::*;
    use diesel::sql_types::BigInt;

    pub(in crate::store) fn stats(db: &mut Db) -> Result<Vec<RecommendationStat>, StoreError> {
        let rows: Vec<(String, String, i64, i64)> = recommendations::table
            .group_by((recommendations::product_id, recommendations::recommended))
            .select((
                recommendations::product_id,
                recommendations::recommended,
                diesel::dsl::count_star(),
                sql::<BigInt>("CAST(SUM(taken_up) AS SIGNED)"),
            ))
            .order((recommendations::product_id, recommendations::recommended))
            .load(db)?;
        Ok(rows
            .into_iter()
            .map(|(product_id, recommended, made, taken_up)| RecommendationStat {
                product_id,
                recommended,
                made,
                taken_up,
            })
            .collect())
    }
}
