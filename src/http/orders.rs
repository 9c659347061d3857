//! `/api/orders`: orders of tills, accepted once under a key, and what has become of them.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::access::Actor;
use super::body::media_type;
use super::large::BoundedBody;
use super::order_timeline::timeline;
use super::page::List;
use super::params::{Params, WhenText};
use super::problem::{Problem, ProblemField};
use super::{Local, State};
use crate::orders::acceptor::{AcceptError, Accepted};
use crate::orders::key;
use crate::orders::order::{OrderError, OrderRequest};
use crate::store::{OrderDetail, OrderFilter, OrderStatus, StoreError, StoredOrder, TimelineEntry};
use crate::time::Timestamp;

/// Largest order in bytes: as an event it must still fit on the bus.
const ORDER_BYTES_MAX: usize = 192 * 1024;

/// An order: what the till sent, and what has become of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OrderView {
    /// A UUID of version 7: ids are in the order of acceptance.
    id: String,
    /// Where it stands.
    status: OrderStatus,
    #[serde(flatten)]
    order: OrderRequest,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was put on the bus; null until then.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    published_at: Option<Timestamp>,
    /// When the third party had it; null until then.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    processed_at: Option<Timestamp>,
    /// How often it was sent to the third party.
    attempts: u32,
}

impl OrderView {
    fn new(order: StoredOrder) -> Result<Self, Problem> {
        let request = serde_json::from_str(&order.document)
            .map_err(|error| StoreError::Refused(format!("order {} cannot be read: {error}", order.id)))?;
        Ok(Self {
            id: order.id,
            status: order.status,
            order: request,
            created_at: order.created_at,
            published_at: order.published_at,
            processed_at: order.processed_at,
            attempts: order.attempts,
        })
    }
}

/// An order with its history.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OrderDetailView {
    #[serde(flatten)]
    order: OrderView,
    /// What happened to it, oldest first.
    timeline: Vec<TimelineView>,
    /// Why the last attempt failed; absent once the order has succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// When the next attempt may be made; absent if none is planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
}

/// One thing that happened to an order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TimelineView {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// `accepted`, `published`, `attempt`, `delivered`, `failed`, `resent`, or `waiting`: what it waits for now.
    kind: &'static str,
    /// Which attempt, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// HTTP status of the third party's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// How long the attempt took.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    /// What went wrong, who asked, or what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl From<TimelineEntry> for TimelineView {
    fn from(entry: TimelineEntry) -> Self {
        let TimelineEntry { at, kind, attempt, status, duration_ms, message } = entry;
        Self { at, kind: kind.as_str(), attempt, status, duration_ms, message }
    }
}

/// How many orders there are, and what waits.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OrderStatsView {
    counts: OrderCounts,
    /// When the oldest of those that are pending was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_pending_at: Option<Timestamp>,
    /// Accepted and not on the bus yet.
    unpublished: i64,
    /// Of these, how many the bus has refused; each says why.
    parked: i64,
    /// Orders that this process accepted per second, over the last ten seconds.
    accepted_per_second: f64,
}

/// Orders by status.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schema(rename_all = "UPPERCASE")]
pub(super) struct OrderCounts {
    pending: i64,
    success: i64,
    failed: i64,
}

/// Accepts an order, once for each Idempotency-Key of a caller.
#[utoipa::path(
    post,
    path = "/api/orders",
    tag = "orders",
    params(("Idempotency-Key" = String, Header, description = "New for each order, the same with every retry; a string of structured fields (\"…\"), or bare. At most 255 characters", example = "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"")),
    request_body = OrderRequest,
    responses(
        (status = 201, description = "Accepted, and on disk. With Idempotent-Replayed: true, the answer to the first request under this key", body = OrderView,
            headers(("Location" = String, description = "The order"), ("Idempotent-Replayed" = String, description = "`true` if the order had been accepted before"))),
        (status = 400, description = "No Idempotency-Key, or no JSON", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "A request with this key is at work; send it again in a moment", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "No valid order (`errors` names the fields), or the key was used for another order", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn create(
    request: HttpRequest,
    body: BoundedBody,
    actor: Actor,
    local: web::Data<Local>,
) -> Result<HttpResponse, Problem> {
    let key = key::parse(request.headers().get_all("idempotency-key").map(HeaderValue::as_bytes))
        .map_err(|error| Problem::bad_request(format!("Idempotency-Key {error}.")))?;
    if media_type(&request).is_some_and(|kind| kind != "application/json") {
        let detail = "An order is application/json; set Content-Type.";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    if body.bytes.len() > ORDER_BYTES_MAX {
        return Err(Problem::too_large(ORDER_BYTES_MAX));
    }
    let order = OrderRequest::parse(&body.bytes).map_err(refused)?;
    let accepted = local.orders.accept(&actor.name, &key, &order).await?;
    let (status, order_id, answer, replayed) = match accepted {
        Accepted::New { order_id, answer } => (201, order_id, answer, false),
        Accepted::Replayed { order_id, status, answer } => (status, order_id, answer, true),
    };
    let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap_or(StatusCode::CREATED));
    response.insert_header((LOCATION, format!("/api/orders/{order_id}")));
    response.insert_header((CONTENT_TYPE, "application/json"));
    if replayed {
        response.insert_header(("idempotent-replayed", "true"));
    }
    Ok(response.body(answer))
}

fn refused(error: OrderError) -> Problem {
    match error {
        OrderError::NotJson(why) => Problem::bad_request(format!("The body is not JSON: {why}.")),
        OrderError::Invalid(errors) => Problem::unprocessable(errors.into_iter().map(ProblemField::from).collect()),
    }
}

impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Self {
        let detail = error.to_string();
        match error {
            AcceptError::Running => Self::new(StatusCode::CONFLICT, detail).retry_after(1),
            AcceptError::OtherOrder | AcceptError::Refused(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail),
            AcceptError::Unavailable(_) => Self::unavailable(detail),
        }
    }
}

/// Orders, newest first.
#[utoipa::path(
    get,
    path = "/api/orders",
    tag = "orders",
    params(
        ("status" = inline(Option<OrderStatus>), Query, description = "Where they stand"),
        ("storeId" = Option<String>, Query, description = "The store that they come from"),
        ("terminalId" = Option<String>, Query, description = "The terminal that they come from"),
        ("from" = inline(Option<WhenText>), Query, description = "Accepted at or after: RFC 3339, or a business day"),
        ("to" = inline(Option<WhenText>), Query, description = "Accepted before: RFC 3339, or a business day"),
        ("limit" = Option<u16>, Query, description = "Items of a page", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses((status = 200, description = "A page of orders", body = List<OrderView>))
)]
pub(super) async fn list(request: HttpRequest, state: State) -> Result<HttpResponse, Problem> {
    let params = Params::read(&request, &["status", "storeId", "terminalId", "from", "to", "limit", "cursor"])?;
    let filter = OrderFilter {
        status: params.parsed("status", "must be PENDING, SUCCESS or FAILED", OrderStatus::from_name)?,
        store_id: params.text("storeId")?,
        terminal_id: params.text("terminalId")?,
        from: params.when("from")?.map(|when| state.begin_of(when)),
        to: params.when("to")?.map(|when| state.end_before(when)),
    };
    let page = state.store.orders(filter, params.long_text("cursor"), params.limit()?).await?;
    let items = page.items.into_iter().map(OrderView::new).collect::<Result<_, _>>()?;
    Ok(HttpResponse::Ok().json(List { items, next: page.next }))
}

/// How many orders there are by status, and what waits.
#[utoipa::path(get, path = "/api/orders/stats", tag = "orders", responses((status = 200, description = "Counts", body = OrderStatsView)))]
pub(super) async fn stats(state: State, local: web::Data<Local>) -> Result<HttpResponse, Problem> {
    let stats = state.store.order_stats().await?;
    Ok(HttpResponse::Ok().json(OrderStatsView {
        counts: OrderCounts { pending: stats.pending, success: stats.success, failed: stats.failed },
        oldest_pending_at: stats.oldest_pending_at,
        unpublished: stats.unpublished,
        parked: stats.parked,
        accepted_per_second: local.orders.rate.per_second(),
    }))
}

/// One order with its history.
#[utoipa::path(
    get,
    path = "/api/orders/{id}",
    tag = "orders",
    params(("id" = String, Path, description = "The order's id")),
    responses((status = 200, description = "The order", body = OrderDetailView), (status = 404, description = "No such order", body = Problem, content_type = "application/problem+json"))
)]
pub(super) async fn show(id: web::Path<String>, state: State) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(one(&state, &id).await?))
}

/// Sends a failed order to the third party again, with all its attempts.
#[utoipa::path(
    post,
    path = "/api/orders/{id}/resend",
    tag = "orders",
    params(("id" = String, Path, description = "The order's id")),
    responses(
        (status = 200, description = "The order as it is now", body = OrderDetailView),
        (status = 404, description = "No such order", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has not failed", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn resend(id: web::Path<String>, actor: Actor, state: State) -> Result<HttpResponse, Problem> {
    let resent = state.store.resend_order(&id, &actor.name).await.map_err(|error| not_found(&id, error))?;
    if !resent {
        let detail = "Only an order that has FAILED can be sent again; this one is delivered or on its way.";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    state.orders.due.notify_one();
    Ok(HttpResponse::Ok().json(one(&state, &id).await?))
}

async fn one(state: &State, id: &str) -> Result<OrderDetailView, Problem> {
    let detail = state.store.order(id).await.map_err(|error| not_found(id, error))?;
    let timeline = timeline(&detail, state).into_iter().map(TimelineView::from).collect();
    let OrderDetail { order, delivery, history, .. } = detail;
    let pending = order.status == OrderStatus::Pending;
    let last_attempt =
        || history.iter().rev().find_map(|entry| entry.message.clone().filter(|_| entry.attempt.is_some()));
    let last_error = match (&delivery, order.status) {
        (_, OrderStatus::Success) => None,
        (Some(delivery), _) => delivery.last_error.clone(),
        (None, _) => last_attempt(),
    };
    let next_attempt_at =
        delivery.filter(|delivery| pending && !delivery.held).map(|delivery| delivery.next_attempt_at);
    Ok(OrderDetailView { order: OrderView::new(order)?, timeline, last_error, next_attempt_at })
}

fn not_found(id: &str, error: StoreError) -> Problem {
    match error {
        StoreError::NotFound => Problem::not_found(format!("There is no order {id}.")),
        other => other.into(),
    }
}
