//! Where a request came from, beyond the gateway.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;

/// The client's address, as the gateway saw it. Behind the gateway it has one, whatever the client said.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address that the gateway says, or that of whoever asks directly. A role's own address is for the
/// gateway and other roles: whoever reaches it is believed.
pub fn client_address(request: &HttpRequest) -> Option<IpAddr> {
    let told = request.headers().get(FORWARDED_FOR).and_then(|value| value.to_str().ok());
    let told = told.and_then(|text| text.trim().parse().ok());
    told.or_else(|| request.peer_addr().map(|address| address.ip()))
}
