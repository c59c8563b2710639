//! The storefront and the administration, which the gateway serves from the binary: two documents and the files that they
//! load. What they show comes from the API, which they ask as every client does.

mod document;
mod files;
mod picture;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, OnceLock};

use actix_web::dev::Payload;
use actix_web::http::header::ACCEPT;
use actix_web::{FromRequest, HttpRequest, HttpResponse};

use percent_encoding::percent_decode_str;

use super::path::is_below;
use crate::auth::Mode;
use crate::config::Settings;
use crate::error::Error;
use crate::middleware::{Condition, Input};
use document::{Application, Document, Facts};
use files::{CONTENT_DIGEST, File};

/// Where the storefront is.
pub(super) const SHOP: &str = "/shop";
const ADMIN: &str = "/admin";
const ASSETS: &str = "/shop/assets/";
/// Pictures of products, which are drawn: CATEGORY/NAME.svg.
const PICTURES: &str = "/shop/pictures/";

/// The pages; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    facts: Facts,
    /// The documents for clients that see the shop at `/`, made on the first request: most processes get none.
    documents: Arc<[OnceLock<Document>; 2]>,
}

/// What a path of the pages leads to.
#[derive(Debug)]
pub(super) struct Page(Content);

#[derive(Debug)]
enum Content {
    Document(Application),
    /// Whether the address has this release's digest.
    File(&'static File, bool),
    /// Of a category and a name.
    Picture(String, String),
    Nothing,
}

impl Pages {
    /// The pages of a shop with these settings; `None` where they are turned off.
    pub(super) fn new(settings: &Settings, mode: Mode) -> Option<Self> {
        let facts = Facts {
            currency: settings.shop.currency.to_string(),
            mode,
            image_origins: settings.gateway.image_origins.sources(),
            stripe_key: settings.shop.stripe_publishable_key.as_str().to_owned(),
        };
        settings.gateway.pages.then(|| Self { facts, documents: Arc::default() })
    }

    /// What is at a path; `None` if it is not one of the pages'.
    pub(super) fn find(path: &str) -> Option<Page> {
        if let Some(rest) = path.strip_prefix(ASSETS) {
            let (digest, name) = rest.split_once('/').unwrap_or_default();
            return Some(Page(match File::find(name) {
                Some(file) => Content::File(file, digest == CONTENT_DIGEST),
                None => Content::Nothing,
            }));
        }
        if let Some(rest) = path.strip_prefix(PICTURES) {
            let names = rest.strip_suffix(".svg").and_then(|names| names.split_once('/'));
            let names = names.filter(|(_, name)| !name.contains('/'));
            return Some(Page(names.map_or(Content::Nothing, |(category, name)| {
                Content::Picture(decoded(category), decoded(name))
            })));
        }
        let application = [(SHOP, Application::Shop), (ADMIN, Application::Admin)]
            .into_iter()
            .find(|(prefix, _)| is_below(path, prefix));
        application.map(|(_, application)| Page(Content::Document(application)))
    }

    /// Answers a GET for `page`, of a client that sees the shop below a path of a trusted proxy's, or at `/`.
    ///
    /// # Errors
    /// 404 for a file that there is not.
    pub(super) fn answer(
        &self,
        page: &Page,
        request: &HttpRequest,
        below: Option<&str>,
    ) -> Result<HttpResponse, Error> {
        let (headers, condition) = (request.headers(), Condition::parse(request));
        match (&page.0, below) {
            (Content::File(file, is_current), _) => {
                Ok(file.answer(headers, &condition, *is_current))
            }
            (Content::Document(application), Some(below)) => {
                let document = Document::new(*application, &self.facts, &format!("{below}/"));
                Ok(document.answer(headers, &condition))
            }
            (Content::Document(application), None) => {
                let document = &self.documents[*application as usize];
                let document =
                    document.get_or_init(|| Document::new(*application, &self.facts, "/"));
                Ok(document.answer(headers, &condition))
            }
            (Content::Picture(category, name), _) => {
                Ok(picture::answer(category, name, &condition))
            }
            (Content::Nothing, _) => Err(Error::not_found("file")),
        }
    }
}

impl Page {
    /// What metrics and the log call it.
    pub(super) fn route(&self) -> &'static str {
        match self.0 {
            Content::Document(Application::Shop) => "/shop/{page}",
            Content::Document(Application::Admin) => "/admin/{page}",
            Content::Picture(..) => "/shop/pictures/{category}/{name}",
            Content::File(..) | Content::Nothing => "/shop/assets/{file}",
        }
    }
}

/// A part of a path as a text.
fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

/// Whether the client asks for a page first, as browsers do that open an address (RFC 9110, section 12.5.1).
pub(super) struct WantsPage(pub(super) bool);

impl FromRequest for WantsPage {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let first = accept.and_then(|accept| accept.split([',', ';']).next());
        ready(Ok(Self(first.is_some_and(|first| first.trim().eq_ignore_ascii_case("text/html")))))
    }
}

impl Input for WantsPage {}
