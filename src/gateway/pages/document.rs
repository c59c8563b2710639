//! The two documents, which lead to everything else: with the settings that their scripts need, and the policy that binds them.

use actix_web::HttpResponse;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ContentEncoding, ETAG,
    HeaderMap, HeaderName, LINK, VARY,
};
use actix_web::web::Bytes;

use super::super::compress::{gzip, negotiate};
use super::files::{CONTENT_DIGEST, FIRST_MODULES, TEXT_LANGUAGES};
use crate::auth::Mode;
use crate::middleware::Condition;
use crate::storage::digest;

/// Other windows have no hold of the page's (HTML, "cross-origin opener policies").
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// Which of the two applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Application {
    Shop,
    Admin,
}

impl Application {
    fn template(self) -> &'static str {
        match self {
            Self::Shop => include_str!("shop/shop.html"),
            Self::Admin => include_str!("admin/admin.html"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Shop => "shop",
            Self::Admin => "admin",
        }
    }
}

/// What the scripts need to know of the shop.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The currency's code.
    pub(super) currency: String,
    pub(super) mode: Mode,
    /// The other origins from which pictures may come, separated by spaces.
    pub(super) image_origins: String,
    /// Stripe's publishable key; empty where Stripe does not take the payments.
    pub(super) stripe_key: String,
}

/// A document for clients that see the shop below a path.
#[derive(Clone, Debug)]
pub(super) struct Document {
    plain: Bytes,
    gzip: Bytes,
    tag: String,
    policy: String,
    /// What a browser may load before it has read the document (RFC 8297, section 1).
    links: String,
}

impl Document {
    /// Of `application`; `root` is where the shop is, as in `/` or `/below/`.
    pub(super) fn new(application: Application, facts: &Facts, root: &str) -> Self {
        let assets = format!("{root}shop/assets/{CONTENT_DIGEST}");
        let mode = if facts.mode == Mode::Open { "open" } else { "enforced" };
        let values = [
            ("{{root}}", root),
            ("{{assets}}", &assets),
            ("{{languages}}", TEXT_LANGUAGES),
            ("{{currency}}", &facts.currency),
            ("{{mode}}", mode),
            ("{{images}}", &facts.image_origins),
            ("{{stripe}}", &facts.stripe_key),
        ];
        let mut text = application.template().to_owned();
        for (place, value) in values {
            text = text.replace(place, &escaped(value));
        }
        let plain = Bytes::from(text);
        Self {
            gzip: gzip(&plain),
            tag: format!("{:032x}", digest(&plain)),
            plain,
            policy: policy(application, facts),
            links: links(application, &assets),
        }
    }

    /// The document, or 304 when the client's copy is current.
    pub(super) fn answer(&self, headers: &HeaderMap, condition: &Condition) -> HttpResponse {
        let is_packed = negotiate(headers, &[ContentEncoding::Gzip]).is_some();
        let tag = format!("\"{}{}\"", self.tag, if is_packed { "-gzip" } else { "" });
        let is_known = condition.if_none_match(&tag);
        let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        let unchanging = [
            (ETAG, tag.as_str()),
            (CACHE_CONTROL, "no-cache"),
            (VARY, "accept-encoding"),
            (CONTENT_SECURITY_POLICY, &self.policy),
            (OPENER_POLICY, "same-origin"),
        ];
        for header in unchanging {
            response.insert_header(header);
        }
        if is_known {
            return response.finish();
        }
        response.insert_header((CONTENT_TYPE, "text/html; charset=utf-8"));
        response.insert_header((LINK, self.links.as_str()));
        if is_packed {
            response.insert_header((CONTENT_ENCODING, "gzip"));
        }
        response.body(if is_packed { self.gzip.clone() } else { self.plain.clone() })
    }
}

/// A text within an attribute's quotes.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
}

/// What the page may load and do (Content Security Policy Level 3): its own files, and the shop's API. With Stripe, the
/// storefront also loads Stripe's script, which opens frames of Stripe's.
fn policy(application: Application, facts: &Facts) -> String {
    let has_stripe = application == Application::Shop && !facts.stripe_key.is_empty();
    let (scripts, frames, calls, types) = match has_stripe {
        true => (
            " https://js.stripe.com https://*.js.stripe.com",
            "https://js.stripe.com https://*.js.stripe.com https://hooks.stripe.com",
            " https://api.stripe.com",
            "",
        ),
        // Nobody knows whether Stripe's script would work with trusted types.
        false => ("", "'none'", "", "; require-trusted-types-for 'script'"),
    };
    let images = format!("'self' {}", facts.image_origins);
    format!(
        "default-src 'none'; script-src 'self'{scripts}; style-src 'self'; img-src {}; connect-src 'self'{calls}; \
         frame-src {frames}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'{types}",
        images.trim_end()
    )
}

/// The styles and modules of the first view, as a Link header.
fn links(application: Application, assets: &str) -> String {
    let name = application.name();
    let styles = ["common/style.css".to_owned(), format!("{name}/{name}.css")];
    let styles = styles.iter().map(|style| format!("<{assets}/{style}>; rel=preload; as=style"));
    let modules = FIRST_MODULES[application as usize].iter();
    let modules = modules.map(|module| format!("<{assets}/{module}>; rel=modulepreload"));
    styles.chain(modules).collect::<Vec<_>>().join(", ")
}
