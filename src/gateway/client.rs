//! What a client says of itself, and what the gateway says of it.

use std::net::IpAddr;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::transport::FORWARDED_FOR;

/// Headers by which proxies tell services who a user is. Nobody outside may say so; no role believes one.
const IDENTITY: [HeaderName; 10] = [
    HeaderName::from_static("x-user"),
    HeaderName::from_static("x-user-id"),
    HeaderName::from_static("x-user-email"),
    HeaderName::from_static("x-user-role"),
    HeaderName::from_static("x-user-roles"),
    HeaderName::from_static("x-remote-user"),
    HeaderName::from_static("remote-user"),
    HeaderName::from_static("x-forwarded-user"),
    HeaderName::from_static("x-forwarded-email"),
    HeaderName::from_static("x-forwarded-groups"),
];

/// Takes from `headers` what only the gateway may say, and says it: where the client is.
pub(super) fn introduce(headers: &mut HeaderMap, client: Option<IpAddr>) {
    for name in &IDENTITY {
        headers.remove(name);
    }
    headers.remove(FORWARDED_FOR);
    let value = client.and_then(|address| HeaderValue::from_str(&address.to_string()).ok());
    if let Some(value) = value {
        headers.insert(FORWARDED_FOR, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_outside_says_who_they_are() {
        let mut headers = HeaderMap::new();
        for name in IDENTITY {
            headers.append(name, HeaderValue::from_static("admin"));
        }
        introduce(&mut headers, None);
        assert_eq!(headers.len(), 0);
    }
}
