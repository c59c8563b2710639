//! Security headers on every response to clients.

use std::time::Duration;

use actix_web::http::header::{
    CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, SERVER,
    STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS,
};

/// Names the server's software, as Server does.
const X_POWERED_BY: HeaderName = HeaderName::from_static("x-powered-by");

/// The security headers of responses to clients.
#[derive(Clone, Debug)]
pub struct SecurityHeaders {
    added: Vec<(HeaderName, HeaderValue)>,
    /// The headers to remove.
    removed: [HeaderName; 2],
}

impl SecurityHeaders {
    /// Headers for data, not for pages. With `hsts`, browsers use only TLS for that long, in whole seconds (RFC 6797).
    pub fn new(hsts: Option<Duration>) -> Self {
        let policy = "default-src 'none'; frame-ancestors 'none'";
        let mut headers = vec![
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        ];
        let hsts = hsts.map(|hsts| HeaderValue::from_str(&format!("max-age={}", hsts.as_secs())));
        // A number is a valid header value.
        headers.extend(hsts.and_then(Result::ok).map(|hsts| (STRICT_TRANSPORT_SECURITY, hsts)));
        Self { added: headers, removed: [SERVER, X_POWERED_BY] }
    }

    /// Adds missing security headers: a page has its own policy. Removes headers that tell which software is behind the gateway.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        for name in &self.removed {
            headers.remove(name);
        }
        for (name, value) in &self.added {
            if !headers.contains_key(name) {
                headers.append(name.clone(), value.clone());
            }
        }
    }
}

/// Adds the request header `name`, in lower case, to Vary, unless it is there.
pub(super) fn vary(headers: &mut HeaderMap, name: &'static str) {
    let has_name = |line: &HeaderValue| {
        let line = line.to_str().unwrap_or_default();
        line.split(',').map(str::trim).any(|word| word == "*" || word.eq_ignore_ascii_case(name))
    };
    if !headers.get_all(VARY).any(has_name) {
        headers.append(VARY, HeaderValue::from_static(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handler_says_stays_and_what_tells_of_software_goes() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'self'"));
        headers.insert(SERVER, HeaderValue::from_static("Software/1.2.3"));
        headers.insert(X_POWERED_BY, HeaderValue::from_static("Software"));
        SecurityHeaders::new(None).write(&mut headers);
        assert_eq!(headers.get(CONTENT_SECURITY_POLICY).unwrap(), "default-src 'self'");
        assert_eq!(headers.get(X_CONTENT_TYPE_OPTIONS).unwrap(), "nosniff");
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn only_tls_is_only_asked_for_where_that_is_set() {
        let mut headers = HeaderMap::new();
        SecurityHeaders::new(Some(Duration::from_secs(86_400))).write(&mut headers);
        assert_eq!(headers.get(STRICT_TRANSPORT_SECURITY).unwrap(), "max-age=86400");
    }

    #[test]
    fn a_dependence_is_there_once() {
        let mut headers = HeaderMap::new();
        headers.insert(VARY, HeaderValue::from_static("Accept, Origin"));
        vary(&mut headers, "origin");
        vary(&mut headers, "accept-encoding");
        vary(&mut headers, "accept-encoding");
        let lines = headers.get_all(VARY).map(|line| line.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(lines, ["Accept, Origin", "accept-encoding"]);
        headers.insert(VARY, HeaderValue::from_static("*"));
        vary(&mut headers, "origin");
        assert_eq!(headers.get_all(VARY).count(), 1);
    }
}
