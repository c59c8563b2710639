//! The OpenAPI document of the whole shop.

use actix_web::web::Bytes;
use utoipa::openapi::{ContactBuilder, InfoBuilder, License, OpenApi, Paths, Server};

use super::Role;
use crate::auth::Mode;
use crate::middleware;

/// An expression of SPDX.
const LICENSE: &str = env!("CARGO_PKG_LICENSE");

const ABOUT: &str = "Accounts, a catalogue and orders behind one address. An error is a problem of \
    [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) with a stable `type`. An unknown field or parameter \
    is refused: 422 names it. Every GET also answers HEAD.";

/// The document of all roles in `mode`, whichever run here, for clients that see the shop below the path `server`: JSON,
/// OpenAPI 3.1.
pub(super) fn document(mode: Mode, server: &str) -> Bytes {
    // Maps, strings and numbers always serialise.
    serde_json::to_vec(&openapi(mode, server)).unwrap_or_default().into()
}

fn openapi(mode: Mode, server: &str) -> OpenApi {
    let mut license = License::new(LICENSE);
    license.identifier = Some(LICENSE.to_owned());
    let info = InfoBuilder::new()
        .title("Shop")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .contact(Some(ContactBuilder::new().name(Some("The shop's operators")).build()))
        .license(Some(license))
        .build();
    let mut document = OpenApi::new(info, Paths::new());
    document.servers = Some(vec![Server::new(server)]);
    document.components = Some(middleware::components());
    for role in Role::ALL {
        document.merge(role.openapi(mode));
    }
    middleware::prune(&mut document);
    document
}
