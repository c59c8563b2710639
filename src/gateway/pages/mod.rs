//! The storefront and the administration, which the gateway serves from the binary: two documents and the files that they
//! load. What they show comes from the API, which they ask as every client does.

mod document;
mod files;
mod picture;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use actix_web::dev::Payload;
use actix_web::http::header::{Accept, Header as _, Quality};
use actix_web::{FromRequest, HttpRequest, HttpResponse};

use moka::sync::Cache;
use percent_encoding::percent_decode_str;

use super::path::is_below;
use crate::auth::Mode;
use crate::config::Settings;
use crate::error::Error;
use crate::middleware::{Condition, Input, RouteName};
use document::{Application, Document, Facts};
use files::{CONTENT_DIGEST, File};

/// Where the storefront is.
pub(super) const SHOP: &str = "/shop";
const ADMIN: &str = "/admin";
const ASSETS: &str = "/shop/assets/";
/// Pictures of products, which are drawn: CATEGORY/NAME.svg.
const PICTURES: &str = "/shop/pictures/";

/// How many documents are kept: those of eight paths of proxies.
const DOCUMENTS: u64 = 16;

type Documents = Cache<(Application, String), Arc<Document>>;

/// The pages; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    facts: Facts,
    /// The documents by application and by where their clients see the shop, as in `/` or `/below/`. They are made on the first
    /// request: most processes get none.
    documents: Arc<LazyLock<Documents>>,
}

thread_local! {
    static FILE: RouteName = RouteName("/shop/assets/{file}".into());
}

/// A page that was asked for.
#[derive(Debug)]
pub(super) struct Page {
    pages: Rc<Pages>,
    target: Target,
}

/// What a path of the pages leads to.
#[derive(Debug)]
enum Target {
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
        let documents: LazyLock<Documents> = LazyLock::new(|| Cache::new(DOCUMENTS));
        let documents = Arc::new(documents);
        settings.gateway.pages.then_some(Self { facts, documents })
    }

    /// Whether a path is one of the pages'.
    pub(super) fn has(path: &str) -> bool {
        Target::find(path).is_some()
    }

    /// What is at a path; `None` if it is not one of the pages'.
    pub(super) fn find(self: &Rc<Self>, path: &str) -> Option<Page> {
        Target::find(path).map(|target| Page { pages: self.clone(), target })
    }

    fn document(&self, application: Application, below: &str) -> Arc<Document> {
        let key = (application, format!("{below}/"));
        self.documents
            .get_with_by_ref(&key, || Arc::new(Document::new(application, &self.facts, &key.1)))
    }
}

impl Target {
    fn find(path: &str) -> Option<Self> {
        if let Some(rest) = path.strip_prefix(ASSETS) {
            let (digest, name) = rest.split_once('/').unwrap_or_default();
            return Some(match File::find(name) {
                Some(file) => Self::File(file, digest == CONTENT_DIGEST),
                None => Self::Nothing,
            });
        }
        if let Some(rest) = path.strip_prefix(PICTURES) {
            let names = rest.strip_suffix(".svg").and_then(|names| names.split_once('/'));
            let names = names.filter(|(_, name)| !name.contains('/'));
            return Some(names.map_or(Self::Nothing, |(category, name)| {
                Self::Picture(decoded(category), decoded(name))
            }));
        }
        let application = [(SHOP, Application::Shop), (ADMIN, Application::Admin)]
            .into_iter()
            .find(|(prefix, _)| is_below(path, prefix));
        application.map(|(_, application)| Self::Document(application))
    }
}

impl Page {
    /// What metrics and the log call it.
    pub(super) fn route(&self) -> RouteName {
        let name = match self.target {
            Target::Document(Application::Shop) => "/shop/{page}",
            Target::Document(Application::Admin) => "/admin/{page}",
            Target::Picture(..) => "/shop/pictures/{category}/{name}",
            // Of most requests: it costs no allocation.
            Target::File(..) | Target::Nothing => return FILE.with(Clone::clone),
        };
        RouteName(name.into())
    }

    /// Answers a GET; `below` is the path of a trusted proxy's below which the client sees the shop, if there is one.
    ///
    /// # Errors
    /// 404 for a file that there is not.
    pub(super) fn answer(
        &self,
        request: &HttpRequest,
        below: impl FnOnce() -> Option<String>,
    ) -> Result<HttpResponse, Error> {
        let (headers, condition) = (request.headers(), Condition::parse(request));
        match &self.target {
            Target::File(file, is_current) => Ok(file.answer(headers, &condition, *is_current)),
            Target::Document(application) => {
                let below = below().unwrap_or_default();
                Ok(self.pages.document(*application, &below).answer(headers, &condition))
            }
            Target::Picture(category, name) => {
                Ok(picture::answer((category, name), headers, &condition))
            }
            Target::Nothing => Err(Error::not_found("file")),
        }
    }
}

/// A part of a path as a text.
fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

/// Whether the client prefers a page to everything else, as browsers do that open an address (RFC 9110, section 12.5.1).
pub(super) struct WantsPage(pub(super) bool);

impl FromRequest for WantsPage {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let ranges = Accept::parse(request).map(|accept| accept.0).unwrap_or_default();
        // The first of those with the greatest weight.
        let best = ranges.iter().rev().max_by_key(|range| range.quality);
        let wants = best.filter(|range| range.quality > Quality::ZERO);
        ready(Ok(Self(wants.is_some_and(|range| range.item.essence_str() == "text/html"))))
    }
}

impl Input for WantsPage {}
