//! A role's part of the OpenAPI document: the descriptions of its handlers, and what all of them share.
//!
//! Access rules and possible problems come from the routes; handlers do not describe them.

use std::collections::BTreeSet;

use actix_web::http::Method;
use utoipa::PartialSchema as _;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::schema::{AdditionalProperties, ArrayItems};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Array, Object, Required, Schema, Type};
use utoipa::openapi::{
    Components, ComponentsBuilder, Content, Header, OpenApi, Ref, RefOr, Response, ResponseBuilder,
};

use super::{METHODS, Path};
use crate::auth::{Access, Mode, Rule};
use crate::error::{FieldError, Kind, PROBLEM_JSON, Problem, Shortage};

/// The document's names for the authentication schemes. Handlers that read the cookie say so themselves.
const TOKEN: &str = "token";
const SESSION: &str = "session";

const REQUEST_ID: &str = "X-Request-Id";

/// The problems that any request may get.
const ANY: [Kind; 7] = [
    Kind::Malformed,
    Kind::TooLarge,
    Kind::TooManyRequests,
    Kind::Internal,
    Kind::BadGateway,
    Kind::Unavailable,
    Kind::DeadlineExceeded,
];

/// Adds to the handlers' descriptions in `written` what their routes imply in `mode`, and what every response has. Problems
/// that a handler only mentions get their schema here.
pub fn document(mut written: OpenApi, paths: &[Path], mode: Mode) -> OpenApi {
    let mut bodies = BTreeSet::new();
    for path in paths {
        let Some(item) = written.paths.paths.get_mut(path.pattern()) else { continue };
        for (method, rule) in path.operations() {
            if let Some(operation) = slot(item, method).and_then(Option::as_mut) {
                complete(operation, *rule, mode);
                if *method != Method::GET {
                    // Also without a body, because an unexpected one is checked.
                    add_problem(operation, Kind::UnsupportedMediaType);
                    add_problem(operation, Kind::InsufficientStorage);
                }
                if *method == Method::DELETE
                    && let Some(RefOr::T(body)) = &mut operation.request_body
                {
                    body.required = Some(Required::False);
                }
                if path.refuses_queries() || *method != Method::GET {
                    add_problem(operation, Kind::Invalid);
                }
                bodies.extend(body_schemas(operation));
            }
        }
    }
    if let Some(components) = &mut written.components {
        bodies.iter().for_each(|name| close(components, name));
    }
    written
}

/// The names of the schemas of the request bodies of `operation`.
fn body_schemas(operation: &Operation) -> Vec<String> {
    let contents = operation.request_body.iter().flat_map(|body| match body {
        RefOr::T(body) => body.content.values().collect(),
        RefOr::Ref(_) => Vec::new(),
    });
    let schemas = contents.filter_map(|content| match content {
        RefOr::T(content) => content.schema.as_ref(),
        RefOr::Ref(_) => None,
    });
    schemas.filter_map(named).collect()
}

/// The name of the component that `schema` refers to.
fn named(schema: &RefOr<Schema>) -> Option<String> {
    match schema {
        RefOr::Ref(reference) => reference.ref_location.rsplit('/').next().map(str::to_owned),
        RefOr::T(_) => None,
    }
}

/// Forbids other fields in the object `name` of `components`, and in objects inside it, as [`super::Fields`] does.
fn close(components: &mut Components, name: &str) {
    let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(name) else { return };
    if object.properties.is_empty() || object.additional_properties.is_some() {
        return;
    }
    object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    let inner = object.properties.values().filter_map(|property| match property {
        RefOr::T(Schema::Array(Array { items: ArrayItems::RefOrSchema(items), .. })) => {
            named(items)
        }
        property => named(property),
    });
    for name in inner.collect::<Vec<_>>() {
        close(components, &name);
    }
}

/// What all roles refer to: problems, the header of every response, and the authentication schemes.
pub fn components() -> Components {
    let text = "The id of the request, or a generated one; it is in the log";
    let problems = Kind::all().map(|kind| (name(kind), problem(kind, kind.title())));
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("The access token of a login"));
    let cookie = ApiKeyValue::with_description(
        "__Secure-session",
        "The refresh token of a browser's session; no script sees it",
    );
    ComponentsBuilder::new()
        .schema("Problem", Problem::schema())
        .schema("FieldError", FieldError::schema())
        .schema("Shortage", Shortage::schema())
        .responses_from_iter(problems)
        .header(REQUEST_ID, always(header(Type::String, text)))
        .security_scheme(TOKEN, SecurityScheme::Http(token.build()))
        .security_scheme(SESSION, SecurityScheme::ApiKey(ApiKey::Cookie(cookie)))
        .build()
}

/// Removes the components that nothing in `document` refers to, directly or indirectly.
pub fn prune(document: &mut OpenApi) {
    loop {
        // Maps, strings and numbers always serialise.
        let text = serde_json::to_string(document).unwrap_or_default();
        let Some(components) = &mut document.components else { return };
        let count = |components: &Components| components.schemas.len() + components.responses.len();
        let (before, referred) = (count(components), |kind: &str, name: &str| {
            text.contains(&format!("\"#/components/{kind}/{name}\""))
        });
        components.schemas.retain(|name, _| referred("schemas", name));
        components.responses.retain(|name, _| referred("responses", name));
        if count(components) == before {
            return;
        }
    }
}

/// The differences between `paths` and `document`, for errors. HEAD is implied by GET.
pub fn differences(document: &OpenApi, paths: &[Path]) -> Vec<String> {
    let routes = paths.iter().flat_map(|path| {
        let methods = path.operations().iter().filter(|(method, _)| *method != Method::HEAD);
        methods.map(|(method, _)| format!("{method} {}", path.pattern()))
    });
    let routes = routes.collect::<BTreeSet<_>>();
    let mut documented = BTreeSet::new();
    for (path, item) in &document.paths.paths {
        let mut item = item.clone();
        let methods = METHODS
            .iter()
            .filter(|method| slot(&mut item, method).is_some_and(|operation| operation.is_some()));
        documented.extend(methods.map(|method| format!("{method} {path}")));
    }
    let missing = routes.difference(&documented).map(|what| format!("{what} is not documented"));
    let invented = documented.difference(&routes).map(|what| format!("{what} has no route"));
    missing.chain(invented).collect()
}

fn slot<'a>(item: &'a mut PathItem, method: &Method) -> Option<&'a mut Option<Operation>> {
    match *method {
        Method::GET => Some(&mut item.get),
        Method::POST => Some(&mut item.post),
        Method::PUT => Some(&mut item.put),
        Method::PATCH => Some(&mut item.patch),
        Method::DELETE => Some(&mut item.delete),
        _ => None,
    }
}

fn complete(operation: &mut Operation, rule: Rule, mode: Mode) {
    let access = rule.access(mode);
    if access != Access::Public || operation.security.is_none() {
        operation.security = Some(security(access));
    }
    if access == Access::Admin {
        let words = operation.description.take().map(|words| format!("{words} "));
        operation.description = Some(words.unwrap_or_default() + "Only admins may do this.");
        operation.extensions = Some(Extensions::from_iter([("x-roles", vec!["admin"])]));
    }
    let responses = &mut operation.responses.responses;
    for (status, response) in responses.iter_mut() {
        let RefOr::T(response) = response else { continue };
        match Kind::all().find(|kind| kind.status().as_str() == status) {
            Some(kind) if response.content.is_empty() => {
                let own = std::mem::take(&mut response.headers);
                *response = problem(kind, &response.description);
                response.headers.extend(own);
            }
            _ => drop(response.headers.insert(REQUEST_ID.into(), request_id())),
        }
    }
    let mut kinds = problems(operation, access);
    if mode == Mode::Open || rule.is_same_origin() {
        // For a Host other than this machine, or a page of another origin.
        kinds.push(Kind::Forbidden);
    }
    kinds.into_iter().for_each(|kind| add_problem(operation, kind));
}

/// Adds the problem of `kind` to `operation`.
fn add_problem(operation: &mut Operation, kind: Kind) {
    let status = kind.status().as_str().to_owned();
    let response = || RefOr::Ref(Ref::from_response_name(name(kind)));
    operation.responses.responses.entry(status).or_insert_with(response);
}

fn security(access: Access) -> Vec<SecurityRequirement> {
    let token = SecurityRequirement::new(TOKEN, [""; 0]);
    match access {
        // Generated clients require a token where the document names one, even an optional one.
        Access::Public | Access::Anyone | Access::Roles => Vec::new(),
        Access::SignedIn | Access::Admin => vec![token],
    }
}

/// The problems of a request, by its parts and by the route's rule.
fn problems(operation: &Operation, access: Access) -> Vec<Kind> {
    let mut kinds = ANY.to_vec();
    let parameters = operation.parameters.iter().flatten();
    for parameter in parameters.filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    }) {
        match parameter.parameter_in {
            ParameterIn::Path => kinds.push(Kind::NotFound),
            ParameterIn::Query => kinds.push(Kind::Invalid),
            _ => {}
        }
    }
    if operation.request_body.is_some() {
        kinds.extend([Kind::UnsupportedMediaType, Kind::Invalid]);
    }
    match access {
        Access::Public | Access::Roles => {}
        Access::Anyone | Access::SignedIn => kinds.push(Kind::Unauthorized),
        Access::Admin => kinds.extend([Kind::Unauthorized, Kind::Forbidden]),
    }
    kinds
}

/// The status of the problem of `kind` in the document.
fn name(kind: Kind) -> String {
    format!("{kind:?}")
}

fn problem(kind: Kind, description: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    let response = ResponseBuilder::new().description(description).content(PROBLEM_JSON, content);
    let mut response = match kind {
        Kind::Unauthorized => response.header(
            "WWW-Authenticate",
            always(header(Type::String, "How to authenticate (RFC 6750)")),
        ),
        Kind::MethodNotAllowed => {
            response.header("Allow", always(header(Type::String, "The methods of this path")))
        }
        Kind::UnsupportedMediaType => response.header(
            "Accept-Encoding",
            header(Type::String, "The accepted codings, if another one was sent (RFC 9110)"),
        ),
        Kind::TooManyRequests => {
            response.header("Retry-After", always(header(Type::Integer, "Seconds to wait")))
        }
        Kind::Unavailable => {
            response.header("Retry-After", header(Type::Integer, "Seconds to wait"))
        }
        _ => response,
    }
    .build();
    response.headers.insert(REQUEST_ID.into(), request_id());
    response
}

fn request_id() -> RefOr<Header> {
    RefOr::Ref(Ref::new(format!("#/components/headers/{REQUEST_ID}")))
}

fn header(kind: Type, description: &str) -> Header {
    let schema = Object::with_type(kind);
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

/// The same as a required header, which utoipa cannot express.
fn always(mut header: Header) -> Header {
    header.extensions = Some(Extensions::from_iter([("required", true)]));
    header
}
