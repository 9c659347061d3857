//! Resources as they are declared: for each method its handler, its description and what a caller needs for it.
//!
//! The application is built from these declarations alone ([`Table::configure`]), so the router serves nothing that is not
//! declared. Whether a caller may is decided inside the resource that the router has matched: a path in another spelling
//! either reaches the same resource with the same needs, or none. What is not declared is refused.

use std::rc::Rc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::guard::fn_guard;
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, FromRequest, Handler, HttpMessage, Responder, Route, web};
use utoipa::openapi::path::{HttpMethod, Operation as Description, Paths};
use utoipa::openapi::{RefOr, Schema};
use utoipa_actix_web::OpenApiFactory;

use super::Local;
use super::problem::Problem;
use crate::config::TokenRole;

/// What a caller needs for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Anybody may: a probe, or the page on which one logs in.
    Nothing,
    /// A token or a session of this role or a higher one.
    Role(TokenRole),
}

/// One line of the table of routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRule {
    /// The path, with `{name}` for what varies.
    pub pattern: String,
    /// The method. Where there is GET, there is HEAD.
    pub method: Method,
    /// What a caller needs.
    pub needs: Needs,
}

/// A handler with the method and the path that it answers.
pub(super) struct Operation {
    pattern: String,
    method: Method,
    route: Route,
    paths: Paths,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Operation {
    /// A handler whose `#[utoipa::path]` tells method and path.
    pub(super) fn new<D, F, Args>(described: &D, handler: F) -> Self
    where
        D: utoipa::Path + OpenApiFactory,
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let method = match D::methods().as_slice() {
            [HttpMethod::Get] => Method::GET,
            [HttpMethod::Put] => Method::PUT,
            [HttpMethod::Post] => Method::POST,
            [HttpMethod::Patch] => Method::PATCH,
            [HttpMethod::Delete] => Method::DELETE,
            other => unreachable!("an operation has one method of those that change or read, not {}", other.len()),
        };
        let mut schemas = Vec::new();
        described.schemas(&mut schemas);
        Self { pattern: D::path(), route: route(&method, handler), method, paths: described.paths(), schemas }
    }

    /// A handler of GET that is no part of the API and so has no description.
    pub(super) fn undescribed<F, Args>(pattern: &str, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let method = Method::GET;
        let route = route(&method, handler);
        Self { pattern: pattern.to_owned(), method, route, paths: Paths::new(), schemas: Vec::new() }
    }
}

/// Takes the handler and the description that `#[utoipa::path]` made of it.
macro_rules! operation {
    ($module:ident::$handler:ident) => {
        pastey::paste! { $crate::http::resource::Operation::new(&$module::[<__path_ $handler>], $module::$handler) }
    };
}
pub(super) use operation;

fn route<F, Args>(method: &Method, handler: F) -> Route
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let declared = method.clone();
    web::route().guard(fn_guard(move |context| serves(&declared, &context.head().method))).to(handler)
}

/// RFC 9110, section 9.1: a server that answers GET answers HEAD. The connection leaves out the body.
fn serves(declared: &Method, method: &Method) -> bool {
    declared == method || (*declared == Method::GET && *method == Method::HEAD)
}

/// All methods of one path.
struct Resource {
    pattern: String,
    methods: Vec<(Method, Needs)>,
    routes: Vec<Route>,
}

/// Every resource of a server, in the order in which the router tries them.
#[derive(Default)]
pub(super) struct Table {
    resources: Vec<Resource>,
    paths: Paths,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Table {
    /// Declares an operation that anybody may call.
    pub(super) fn public(self, operation: Operation) -> Self {
        self.declare(Needs::Nothing, operation)
    }

    /// Declares an operation that needs this role or a higher one.
    pub(super) fn needs(self, role: TokenRole, operation: Operation) -> Self {
        self.declare(Needs::Role(role), operation)
    }

    fn declare(mut self, needs: Needs, operation: Operation) -> Self {
        let Operation { pattern, method, route, paths, schemas } = operation;
        self.paths.merge(paths);
        self.schemas.extend(schemas);
        if let Some(known) = self.resources.iter_mut().find(|known| known.pattern == pattern) {
            known.methods.push((method, needs));
            known.routes.push(route);
        } else {
            self.resources.push(Resource { pattern, methods: vec![(method, needs)], routes: vec![route] });
        }
        self
    }

    /// What is declared, one line for each method.
    pub(super) fn rules(&self) -> Vec<RouteRule> {
        let rules = self.resources.iter().flat_map(|resource| {
            let rule = |(method, needs): &(Method, Needs)| RouteRule {
                pattern: resource.pattern.clone(),
                method: method.clone(),
                needs: *needs,
            };
            resource.methods.iter().map(rule)
        });
        rules.collect()
    }

    /// The descriptions of all operations, and the schemas that they refer to.
    pub(super) fn descriptions(self) -> (Paths, Vec<(String, RefOr<Schema>)>) {
        (self.paths, self.schemas)
    }

    /// Makes the router serve what is declared.
    pub(super) fn configure(self, config: &mut web::ServiceConfig) {
        for Resource { pattern, methods, routes } in self.resources {
            let allow = allowed(&methods);
            let rules: Rc<[(Method, Needs)]> = methods.into();
            let resource = routes.into_iter().fold(web::resource(&pattern), actix_web::Resource::route);
            let refuse = move || {
                let allow = allow.clone();
                async move { Problem::method_not_allowed(allow).response() }
            };
            let resource = resource.default_service(web::to(refuse));
            config
                .service(resource.wrap(from_fn::<_, ()>(move |request, next| admit(Rc::clone(&rules), request, next))));
        }
    }
}

/// `GET, HEAD, PUT`, for the header `Allow`.
fn allowed(methods: &[(Method, Needs)]) -> String {
    let names = methods.iter().flat_map(|(method, _)| {
        let head = (*method == Method::GET).then_some("HEAD");
        [Some(method.as_str()), head].into_iter().flatten()
    });
    names.collect::<Vec<_>>().join(", ")
}

/// What this method of a resource needs. A method that is not declared is refused, and only somebody who may do anything
/// at all here is told what there is instead.
fn needed(rules: &[(Method, Needs)], method: &Method) -> Needs {
    let declared = rules.iter().find(|(declared, _)| serves(declared, method)).map(|(_, needs)| *needs);
    declared.or_else(|| rules.iter().map(|(_, needs)| *needs).min()).unwrap_or(Needs::Role(TokenRole::Admin))
}

/// Finds out who calls, and refuses those who may not, before anything of the body is read.
async fn admit(
    rules: Rc<[(Method, Needs)]>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if let Needs::Role(role) = needed(&rules, request.method()) {
        let local = request.app_data::<web::Data<Local>>().expect("set when the app is built").clone();
        match local.access.admit(request.request(), role).await {
            Ok(actor) => request.extensions_mut().insert(actor),
            Err(problem) => return Ok(request.into_response(problem.response())),
        };
    }
    next.call(request).await.map(ServiceResponse::map_into_boxed_body)
}

/// Says in a description what its operation needs.
pub(super) fn describe_needs(operation: &mut Description, needs: Needs) {
    use utoipa::openapi::security::SecurityRequirement;
    let schemes = match needs {
        Needs::Nothing => Vec::new(),
        Needs::Role(_) => ["bearer", "session"].map(|scheme| SecurityRequirement::new(scheme, [""; 0])).to_vec(),
    };
    if let Needs::Role(role) = needs {
        let sentence = format!("Needs role `{}` or a higher one where tokens are configured.", role.as_str());
        let description = operation.description.take().filter(|text| !text.is_empty());
        operation.description =
            Some(description.map_or_else(|| sentence.clone(), |text| format!("{text}\n\n{sentence}")));
    }
    operation.security = Some(schemes);
}

#[cfg(test)]
mod tests {
    use actix_web::dev::ResourceDef;

    use super::*;
    use crate::http::{api, probes};

    #[test]
    fn nothing_is_declared_twice_or_out_of_reach() {
        for table in [api(), probes()] {
            let rules = table.rules();
            for (index, rule) in rules.iter().enumerate() {
                let again =
                    rules[..index].iter().any(|other| (&other.pattern, &other.method) == (&rule.pattern, &rule.method));
                assert!(!again, "{} {} is declared twice", rule.method, rule.pattern);
            }
            for (index, resource) in table.resources.iter().enumerate() {
                let earlier = table.resources[..index].iter();
                let mut earlier =
                    earlier.filter(|earlier| ResourceDef::new(earlier.pattern.as_str()).is_match(&resource.pattern));
                assert!(
                    earlier.next().is_none(),
                    "{} comes too late: an earlier pattern takes its paths",
                    resource.pattern
                );
            }
        }
    }

    #[test]
    fn a_method_that_is_not_declared_needs_what_the_easiest_one_needs() {
        let rules = [(Method::GET, Needs::Role(TokenRole::Viewer)), (Method::PUT, Needs::Role(TokenRole::Admin))];
        assert_eq!(needed(&rules, &Method::HEAD), Needs::Role(TokenRole::Viewer));
        assert_eq!(needed(&rules, &Method::PUT), Needs::Role(TokenRole::Admin));
        assert_eq!(needed(&rules, &Method::TRACE), Needs::Role(TokenRole::Viewer));
        assert_eq!(needed(&[], &Method::GET), Needs::Role(TokenRole::Admin));
        assert_eq!(allowed(&rules), "GET, HEAD, PUT");
    }

    #[test]
    fn changing_stores_is_for_admins_and_every_other_change_for_operators() {
        let is_session = |rule: &&RouteRule| rule.pattern.starts_with("/api/session");
        for rule in api().rules().iter().filter(|rule| rule.method != Method::GET && !is_session(rule)) {
            let role = if rule.pattern == "/api/stores" { TokenRole::Admin } else { TokenRole::Operator };
            assert_eq!(rule.needs, Needs::Role(role), "{} {}", rule.method, rule.pattern);
        }
    }
}
