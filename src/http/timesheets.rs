//! `/api/timesheets`: working sessions and their totals, as JSON or CSV.

use actix_web::http::header::ACCEPT;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::State;
use super::page::List;
use super::params::{Params, When, WhenText};
use super::problem::Problem;
use crate::effect::TimeSheetSession;
use crate::store::{SessionFilter, SessionGroup, StoreError};
use crate::time::Timestamp;

/// Rows that one CSV file holds, at most.
const CSV_ROWS_MAX: usize = 100_000;
const CSV_PAGE: usize = 1000;
/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// What a formula begins with, also in the wide and small forms that spreadsheets in Asia take for the same.
const FORMULA_SIGNS: [char; 13] = [
    '=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}', '\u{fe66}', '\u{fe62}', '\u{fe63}', '\u{fe6b}',
    '\u{2212}',
];

/// A session on a time sheet.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TimeSheetSession)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionView {
    id: String,
    employee_id: String,
    store_id: String,
    terminal_id: String,
    /// The store's business day on which it began.
    #[schema(format = Date)]
    business_day: String,
    #[schema(value_type = String, format = DateTime)]
    login_at: Timestamp,
    /// Absent while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    logout_at: Option<Timestamp>,
    /// 0 while it is open.
    seconds: i64,
    /// The part of it that counts for pay.
    paid_seconds: i64,
    /// `logout`, `login_elsewhere`, `idle` or `maximum_shift`; absent while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// `late`, `overlap`, `review`.
    flags: Vec<String>,
}

impl From<TimeSheetSession> for SessionView {
    fn from(session: TimeSheetSession) -> Self {
        Self {
            id: session.id,
            employee_id: session.employee_id,
            store_id: session.store_id,
            terminal_id: session.terminal_id,
            business_day: session.business_day,
            login_at: session.login_at,
            logout_at: session.logout_at,
            seconds: session.seconds,
            paid_seconds: session.paid_seconds,
            cause: session.cause,
            flags: session.flags,
        }
    }
}

/// A total.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TimeSheetTotal)]
#[serde(rename_all = "camelCase")]
pub(super) struct TotalView {
    /// The employee, terminal, store or business day.
    key: String,
    /// Sessions, those that are still open included.
    sessions: i64,
    /// Seconds of all sessions that have ended.
    seconds: i64,
    /// The part of it that counts for pay.
    paid_seconds: i64,
}

fn read_filter(params: &Params) -> Result<SessionFilter, Problem> {
    // Sessions carry their business day, so a day needs no instants that stand for it.
    let split = |name: &str| {
        Ok::<_, Problem>(match params.when(name)? {
            None => (None, None),
            Some(When::Day(day)) => (Some(day), None),
            Some(When::At(time)) => (None, Some(time)),
        })
    };
    let ((from, login_from), (to, login_to)) = (split("from")?, split("to")?);
    Ok(SessionFilter {
        from,
        to,
        login_from,
        login_to,
        employee_id: params.text("employeeId")?,
        store_id: params.text("storeId")?,
        terminal_id: params.text("terminalId")?,
    })
}

fn wants_csv(request: &HttpRequest) -> bool {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut types = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
    types.find(|kind| matches!(*kind, "text/csv" | "application/json" | "*/*")) == Some("text/csv")
}

/// Working sessions in the order of their logins.
///
/// `Accept: text/csv` gives all of them in one file (100 000 at most) instead of a page.
#[utoipa::path(
    get,
    path = "/api/timesheets",
    tag = "time sheets",
    params(
        ("from" = inline(Option<WhenText>), Query, description = "Sessions that began then or later: RFC 3339, or a business day"),
        ("to" = inline(Option<WhenText>), Query, description = "Sessions that began before: RFC 3339, or a business day"),
        ("employeeId" = Option<String>, Query, description = "Who worked"),
        ("storeId" = Option<String>, Query, description = "Where"),
        ("terminalId" = Option<String>, Query, description = "At which terminal"),
        ("limit" = Option<u16>, Query, description = "Items of a page", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("bom" = Option<bool>, Query, description = "CSV begins with a byte-order mark, by which Excel knows it as UTF-8"),
    ),
    responses((status = 200, description = "A page of sessions, or CSV", content(
        (List<SessionView> = "application/json"), (String = "text/csv")
    )))
)]
pub(super) async fn list(request: HttpRequest, state: State) -> Result<HttpResponse, Problem> {
    let known = ["from", "to", "employeeId", "storeId", "terminalId", "limit", "cursor", "bom"];
    let params = Params::read(&request, &known)?;
    let filter = read_filter(&params)?;
    let (limit, cursor) = (params.limit()?, params.long_text("cursor"));
    let bom = params.parsed("bom", "must be true or false", |text| text.parse().ok())?.unwrap_or(false);
    if wants_csv(&request) {
        return csv(&state, filter, bom).await;
    }
    let page = state.store.sessions(filter, cursor, limit).await?;
    let items = page.items.into_iter().map(SessionView::from).collect();
    Ok(HttpResponse::Ok().json(List { items, next: page.next }))
}

async fn csv(state: &State, filter: SessionFilter, bom: bool) -> Result<HttpResponse, Problem> {
    let mut sessions = Vec::new();
    let mut cursor = None;
    loop {
        let page = state.store.sessions(filter.clone(), cursor.as_deref(), CSV_PAGE).await?;
        sessions.extend(page.items);
        cursor = page.next;
        if cursor.is_none() || sessions.len() >= CSV_ROWS_MAX {
            break;
        }
    }
    let text = write_csv(&sessions, bom).map_err(|error| StoreError::Refused(error.to_string()))?;
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header(("content-disposition", "attachment; filename=\"timesheets.csv\""))
        .body(text))
}

fn write_csv(sessions: &[TimeSheetSession], bom: bool) -> Result<Vec<u8>, csv::Error> {
    let mut out = csv::Writer::from_writer(if bom { BYTE_ORDER_MARK.to_vec() } else { Vec::new() });
    out.write_record([
        "id",
        "employeeId",
        "storeId",
        "terminalId",
        "businessDay",
        "loginAt",
        "logoutAt",
        "seconds",
        "paidSeconds",
        "cause",
        "flags",
    ])?;
    for session in sessions {
        out.write_record([
            &harmless(&session.id),
            &harmless(&session.employee_id),
            &harmless(&session.store_id),
            &harmless(&session.terminal_id),
            &session.business_day,
            &session.login_at.to_string(),
            &session.logout_at.map(|at| at.to_string()).unwrap_or_default(),
            &session.seconds.to_string(),
            &session.paid_seconds.to_string(),
            session.cause.as_deref().unwrap_or_default(),
            &session.flags.join(" "),
        ])?;
    }
    out.into_inner().map_err(|error| csv::Error::from(error.into_error()))
}

/// Spreadsheets take a text that begins like a formula for one, behind blanks and what nobody sees as well; ids come from terminals, so
/// they get a quote in front.
fn harmless(text: &str) -> String {
    let unseen = |character: char| {
        character.is_whitespace()
            || character.is_control()
            || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let is_formula = text.trim_start_matches(unseen).starts_with(FORMULA_SIGNS);
    if is_formula || text.starts_with(['\t', '\r', '\n']) { format!("'{text}") } else { text.to_owned() }
}

/// Totals over sessions.
#[utoipa::path(
    get,
    path = "/api/timesheets/totals",
    tag = "time sheets",
    params(
        ("groupBy" = inline(Option<SessionGroup>), Query, description = "Over what; employee if it is absent"),
        ("from" = inline(Option<WhenText>), Query, description = "Sessions that began then or later: RFC 3339, or a business day"),
        ("to" = inline(Option<WhenText>), Query, description = "Sessions that began before: RFC 3339, or a business day"),
        ("employeeId" = Option<String>, Query, description = "Who worked"),
        ("storeId" = Option<String>, Query, description = "Where"),
        ("terminalId" = Option<String>, Query, description = "At which terminal"),
    ),
    responses((status = 200, description = "The totals, all on one page", body = List<TotalView>))
)]
pub(super) async fn totals(request: HttpRequest, state: State) -> Result<HttpResponse, Problem> {
    let params = Params::read(&request, &["groupBy", "from", "to", "employeeId", "storeId", "terminalId"])?;
    let group = params.parsed("groupBy", "must be employee, terminal, store or businessDay", |name| match name {
        "employee" => Some(SessionGroup::Employee),
        "terminal" => Some(SessionGroup::Terminal),
        "store" => Some(SessionGroup::Store),
        "businessDay" => Some(SessionGroup::BusinessDay),
        _ => None,
    })?;
    let totals = state.store.session_totals(group.unwrap_or(SessionGroup::Employee), read_filter(&params)?).await?;
    let items = totals.into_iter().map(|total| TotalView {
        key: total.key,
        sessions: total.sessions,
        seconds: total.seconds,
        paid_seconds: total.paid_seconds,
    });
    Ok(HttpResponse::Ok().json(List { items: items.collect(), next: None }))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_formula_in_an_id_stays_a_text() {
        assert_eq!(harmless("=HYPERLINK(1)"), "'=HYPERLINK(1)");
        for formula in [
            "+1",
            "-1",
            "@SUM(A1)",
            "\u{ff1d}1+1",
            "\u{ff0b}1",
            "\u{ff0d}1",
            "\u{ff20}x",
            "\u{fe66}1",
            "\u{2212}1",
            "\t=1",
            "\r=1",
            "\n1",
            " =1",
            "\u{feff}=1",
            "\u{200b}+1",
            "\u{3000}\u{ff1d}1",
            "\t",
        ] {
            assert_eq!(harmless(formula), format!("'{formula}"));
        }
        for text in ["E7", "", "7-1", "a=b", "Kasse 1", "\u{fc}"] {
            assert_eq!(harmless(text), text);
        }
    }

    #[test]
    fn csv_begins_with_a_byte_order_mark_on_request() {
        let text = |bom| String::from_utf8(write_csv(&[], bom).unwrap()).unwrap();
        assert!(text(true).starts_with("\u{feff}id,employeeId,"));
        assert!(text(false).starts_with("id,employeeId,"));
    }

    #[test]
    fn csv_is_given_to_who_prefers_it() {
        let wants = |accept: &'static str| {
            wants_csv(&TestRequest::default().insert_header(("accept", accept)).to_http_request())
        };
        assert!(wants("text/csv"));
        assert!(wants("text/csv, */*;q=0.1"));
        assert!(!wants("application/json, text/csv"));
        assert!(!wants("*/*"));
    }
}
