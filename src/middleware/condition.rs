//! Conditional requests (RFC 9110, section 13).

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use utoipa::IntoParams;

/// The conditions of a request.
#[derive(Debug)]
pub struct Condition {
    if_match: Option<String>,
    if_none_match: Option<String>,
}

impl Condition {
    /// The conditions of `request`.
    pub fn parse(request: &HttpRequest) -> Self {
        let header = |name: HeaderName| {
            // Several lines are one list. A line that is not text matches no ETag.
            let lines = request.headers().get_all(name);
            let lines =
                lines.map(|line| line.to_str().unwrap_or_default().trim()).collect::<Vec<_>>();
            (!lines.is_empty()).then(|| lines.join(", "))
        };
        Self { if_match: header(IF_MATCH), if_none_match: header(IF_NONE_MATCH) }
    }

    /// The tags of If-Match as they were sent; `None` if any version is accepted.
    pub fn if_match(&self) -> Option<Vec<&str>> {
        let tags = self.if_match.as_deref().filter(|tags| *tags != "*")?;
        Some(tags.split(',').map(str::trim).collect())
    }

    /// Whether If-None-Match names `etag`, by weak comparison.
    pub fn if_none_match(&self, etag: &str) -> bool {
        let Some(tags) = &self.if_none_match else { return false };
        tags == "*" || tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)
    }
}

/// If-None-Match, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes the header for the OpenAPI document")]
pub struct IfNoneMatch {
    /// ETags of the client's copies: the response is 304 if one of them is current.
    #[param(rename = "If-None-Match", value_type = String, required = false)]
    tags: Option<String>,
}

/// If-Match, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes the header for the OpenAPI document")]
pub struct IfMatch {
    /// ETags of the versions that the client expects: for any other one, the response is 412.
    #[param(rename = "If-Match", value_type = String, required = false)]
    tags: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_the_tags_will_do() {
        let known = |tags: &str| {
            let condition = Condition { if_match: None, if_none_match: Some(tags.to_owned()) };
            condition.if_none_match("\"7\"")
        };
        for tags in ["\"7\"", "W/\"7\"", "\"6\", \"7\"", "*"] {
            assert!(known(tags), "{tags}");
        }
        for tags in ["", "7", "\"6\"", "\"77\""] {
            assert!(!known(tags), "{tags}");
        }
    }
}
