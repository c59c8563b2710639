//! The gateway role: the one address that clients know.

mod client;
mod docs;
mod proxy;

use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use serde::Serialize;
use utoipa::openapi::OpenApi;
use utoipa::{OpenApi as _, ToSchema};

use crate::auth::{Mode, anyone, public};
use crate::edge::{self, Path, guarded, path};
use crate::transport::Peer;
pub use docs::Docs;
use proxy::Upstream;

/// The roles behind the gateway.
#[derive(Clone, Debug)]
pub struct Peers {
    /// Answers what begins with `/auth`.
    pub user: Peer,
    /// Answers what begins with `/products`.
    pub product: Peer,
}

/// The routes of one worker thread, which lead to `peers`, and to `docs`. No request body is taken beyond
/// `body_limit` bytes.
pub fn routes(
    peers: Peers,
    body_limit: usize,
    docs: Docs,
) -> impl FnOnce(&mut ServiceConfig) + use<> {
    move |routes| {
        routes.app_data(Data::new(docs));
        configure(routes, peers, body_limit);
    }
}

/// Every route of the role. What a user may do is for the role behind it to say, but a bad token ends here;
/// where one asks for a new token, the old one is no matter.
fn configure(routes: &mut ServiceConfig, peers: Peers, body_limit: usize) {
    for path in paths() {
        routes.service(path);
    }
    for (prefix, rule, peer) in
        [("/auth", public(), peers.user), ("/products", anyone(), peers.product)]
    {
        let upstream = Upstream { peer, body_limit };
        let upstream = Data::new(upstream);
        // Two resources, so that the log tells which of them a request took.
        for pattern in [prefix.to_owned(), format!("{prefix}/{{rest:.*}}")] {
            let all = web::resource(pattern).app_data(upstream.clone());
            routes.service(all.route(guarded(rule, web::to(proxy::forward))));
        }
    }
}

/// What the gateway answers itself.
fn paths() -> Vec<Path> {
    vec![
        path("/").get(anyone(), welcome),
        path("/openapi.json").get(public(), docs::document),
        path("/docs").get(public(), docs::page),
        path("/docs/{file}").get(public(), docs::file),
    ]
}

/// What handlers say of themselves.
#[derive(utoipa::OpenApi)]
#[openapi(
    paths(welcome, docs::document, docs::page, docs::file),
    tags((name = "gateway", description = "The shop's own address"))
)]
struct Written;

/// The role's part of the OpenAPI document, where `auth.mode` is `mode`. What else it leads to is not its own.
pub fn openapi(mode: Mode) -> OpenApi {
    edge::document(Written::openapi(), &paths(), mode)
}

/// That the shop is there.
#[derive(Serialize, ToSchema)]
struct Welcome {
    #[schema(value_type = String, example = "API Gateway is Running")]
    message: &'static str,
}

/// Says that the shop is there.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "welcome",
    tag = "gateway",
    responses((status = 200, description = "It is", body = Welcome))
)]
async fn welcome() -> impl Responder {
    HttpResponse::Ok().json(Welcome { message: "API Gateway is Running" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_documented_and_nothing_else() {
        assert_eq!(edge::differences(&openapi(Mode::Enforced), &paths()), [""; 0]);
    }
}
