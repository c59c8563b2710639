//! The gateway role: the one address that clients know.

#[cfg_attr(not(test), expect(dead_code, reason = "for the configurable routes"))]
mod cache;
mod client;
#[cfg_attr(not(test), expect(dead_code, reason = "for the configurable routes"))]
mod compress;
mod proxy;

use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, Responder};

use crate::auth::{anyone, public};
use crate::edge::{guarded, path};
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
pub fn routes(peers: Peers, body_limit: usize) -> impl FnOnce(&mut ServiceConfig) + use<> {
    move |routes| configure(routes, peers, body_limit)
}

/// Every route of the role. What a user may do is for the role behind it to say, but a bad token ends here;
/// where one asks for a new token, the old one is no matter.
fn configure(routes: &mut ServiceConfig, peers: Peers, body_limit: usize) {
    routes.service(path("/").get(anyone(), welcome));
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

/// `GET /`
async fn welcome() -> impl Responder {
    HttpResponse::Ok().json(serde_json::json!({ "message": "API Gateway is Running" }))
}
