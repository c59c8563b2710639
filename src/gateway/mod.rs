//! The gateway role: the one address that clients know.

mod proxy;

use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, Responder};

use crate::edge::path;
use crate::transport::Peer;
use proxy::Upstream;

/// The roles behind the gateway.
#[derive(Clone, Debug)]
pub struct Peers {
    /// Answers what begins with `/auth`.
    pub user: Peer,
    /// Answers what begins with `/products`.
    pub product: Peer,
}

/// The routes of one worker thread, which lead to `peers`. No request body is taken beyond `body_limit`
/// bytes.
pub fn routes(peers: Peers, body_limit: usize) -> impl FnOnce(&mut ServiceConfig) {
    move |routes| configure(routes, peers, body_limit)
}

/// Every route of the role.
fn configure(routes: &mut ServiceConfig, peers: Peers, body_limit: usize) {
    routes.service(path("/").get(welcome));
    for (prefix, peer) in [("/auth", peers.user), ("/products", peers.product)] {
        let upstream = Data::new(Upstream { peer, body_limit });
        // Two resources, so that the log tells which of them a request took.
        for pattern in [prefix.to_owned(), format!("{prefix}/{{rest:.*}}")] {
            let all = web::resource(pattern).app_data(upstream.clone());
            routes.service(all.default_service(web::to(proxy::forward)));
        }
    }
}

/// `GET /`
async fn welcome() -> impl Responder {
    HttpResponse::Ok().json(serde_json::json!({ "message": "API Gateway is Running" }))
}
