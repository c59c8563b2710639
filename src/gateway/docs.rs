//! The OpenAPI document, and a page that shows it.

use std::sync::{Arc, OnceLock};

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpResponse, Responder};

use super::prefix::Below;
use crate::auth::Mode;
use crate::middleware::{Condition, IfNoneMatch};
use crate::storage::digest;

/// The page loads only its own script and style, and the document; it cannot be framed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A static text and its ETag.
#[derive(Clone, Debug)]
struct Text {
    content_type: &'static str,
    body: Bytes,
    etag: String,
}

impl Text {
    fn new(content_type: &'static str, body: Bytes) -> Self {
        let etag = format!("\"{:032x}\"", digest(&body));
        Self { content_type, body, etag }
    }

    /// The text, or 304 when the client's copy is current.
    fn answer(&self, condition: &Condition) -> HttpResponse {
        let known = condition.if_none_match(&self.etag);
        let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        let unchanging: [(HeaderName, &str); 5] = [
            (CACHE_CONTROL, "public, no-cache"),
            (ETAG, &self.etag),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
        ];
        for header in unchanging {
            response.insert_header(header);
        }
        if known {
            return response.finish();
        }
        response.insert_header((CONTENT_TYPE, self.content_type)).body(self.body.clone())
    }
}

/// The document and the page; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Docs {
    /// Generates the document of a shop of this mode, which is served below a path.
    generate: (fn(Mode, &str) -> Bytes, Mode),
    /// The document for clients that see the shop at `/`, generated on the first request: most processes get none.
    document: Arc<OnceLock<Text>>,
    page: Text,
    script: Text,
    style: Text,
}

impl Docs {
    /// For the API that `generate` describes in JSON.
    pub(super) fn new(generate: (fn(Mode, &str) -> Bytes, Mode)) -> Self {
        let of = |content_type, body: &'static str| {
            Text::new(content_type, Bytes::from_static(body.as_bytes()))
        };
        Self {
            generate,
            document: Arc::default(),
            page: of("text/html; charset=utf-8", include_str!("docs/page.html")),
            script: of("text/javascript; charset=utf-8", include_str!("docs/page.js")),
            style: of("text/css; charset=utf-8", include_str!("docs/page.css")),
        }
    }

    /// The document for a client that sees the shop below this path.
    fn document(&self, Below(path): &Below) -> Text {
        let (generate, mode) = self.generate;
        let text = |below: &str| Text::new("application/json", generate(mode, below));
        match path {
            Some(path) => text(path),
            None => self.document.get_or_init(|| text("/")).clone(),
        }
    }
}

/// Describes the API: this document.
///
/// It is the same in every process, whatever roles run there. Its server is the path below which a trusted proxy serves
/// the shop.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "showOpenApi",
    tag = "gateway",
    params(IfNoneMatch),
    responses(
        (status = 200, description = "The document", body = Object, headers(
            ("ETag" = String, description = "Identifies its content")
        )),
        (status = 304, description = "The client's copy is current", headers(
            ("ETag" = String, description = "The ETag of the client's copy")
        )),
    )
)]
pub(super) async fn document(
    docs: Data<Docs>,
    below: Below,
    condition: Condition,
) -> impl Responder {
    docs.document(&below).answer(&condition)
}

/// Shows the document as a page.
///
/// The page loads nothing from other hosts, and has a command for each request.
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "showDocs",
    tag = "gateway",
    params(IfNoneMatch),
    responses(
        (status = 200, description = "A page that loads nothing from other hosts", body = String,
            content_type = "text/html", headers(("ETag" = String, description = "Identifies its content"))),
        (status = 304, description = "The client's copy is current", headers(
            ("ETag" = String, description = "The ETag of the client's copy")
        )),
    )
)]
pub(super) async fn page(docs: Data<Docs>, condition: Condition) -> impl Responder {
    docs.page.answer(&condition)
}

/// Serves the page's script.
///
/// It is part of the page.
#[utoipa::path(
    get,
    path = "/docs/page.js",
    operation_id = "showDocsScript",
    tag = "gateway",
    params(IfNoneMatch),
    responses(
        (status = 200, description = "The script", body = String, content_type = "text/javascript",
            headers(("ETag" = String, description = "Identifies its content"))),
        (status = 304, description = "The client's copy is current", headers(
            ("ETag" = String, description = "The ETag of the client's copy")
        )),
    )
)]
pub(super) async fn script(docs: Data<Docs>, condition: Condition) -> impl Responder {
    docs.script.answer(&condition)
}

/// Serves the page's style sheet.
///
/// It is part of the page.
#[utoipa::path(
    get,
    path = "/docs/page.css",
    operation_id = "showDocsStyle",
    tag = "gateway",
    params(IfNoneMatch),
    responses(
        (status = 200, description = "The style", body = String, content_type = "text/css",
            headers(("ETag" = String, description = "Identifies its content"))),
        (status = 304, description = "The client's copy is current", headers(
            ("ETag" = String, description = "The ETag of the client's copy")
        )),
    )
)]
pub(super) async fn style(docs: Data<Docs>, condition: Condition) -> impl Responder {
    docs.style.answer(&condition)
}
