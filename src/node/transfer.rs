//! Import and export of products, on the store that the settings name or by asking a shop.

use std::io;
use std::time::{Duration, Instant};

use actix_web::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::http::{Method, Uri};
use actix_web::web::Bytes;
use futures_util::stream::LocalBoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use secrecy::{ExposeSecret as _, SecretString};

use super::commands::BATCH_TIMEOUT;
use super::{Failure, Role};
use crate::config::{self, Effective, PeerUrl, Settings};
use crate::error::Error;
use crate::http1::client::{Options, Peer};
use crate::http1::{Body, Reply, Request};
use crate::peer::PeerError;
use crate::product::{self, Parser};
pub use crate::product::{Format, ImportReport};
use crate::tls;

/// The bytes of a file.
pub type Pieces = LocalBoxStream<'static, io::Result<Bytes>>;

/// Where products are imported to or exported from.
#[derive(Debug)]
pub enum Place {
    /// The store that the settings name.
    Store,
    /// A running shop at a URL, with an access token if it wants one.
    Shop(String, Option<SecretString>),
}

/// How a shop is asked. It answers an import only after the last piece, so nothing but a pause of its answer is limited.
const OPTIONS: Options = Options {
    pool_size: 1,
    pool_idle: Duration::ZERO,
    connect_timeout: Duration::from_secs(10),
    read_timeout: Duration::from_secs(60),
};
/// The largest report, in bytes.
const REPORT_LIMIT: usize = 1024 * 1024;

/// Imports the file whose bytes are `pieces`.
///
/// # Errors
/// When the store or the shop cannot be used, or the file cannot be read as a whole; what was written before stays.
pub async fn import(
    (settings, effective): (&Settings, &Effective),
    place: &Place,
    format: Format,
    pieces: Pieces,
) -> Result<ImportReport, Failure> {
    let Place::Shop(url, token) = place else {
        let (options, parser) =
            (without_hurry(settings), Parser::new(format, settings.shop.currency));
        let imported = Box::pin(product::import_from(&options, parser, pieces)).await;
        let imported = imported.map_err(|error| effective.blame(Role::Product.store(), error))?;
        return Ok(imported?);
    };
    let mut request = request(Method::POST, "/products/import", token.as_ref())?;
    request.headers.append(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    let reply = ask(url, request, Body::stream(None, pieces)).await?;
    let report = reply.body.read(REPORT_LIMIT).await?;
    let invalid = |error| Failure::Other(format!("{url}: the answer is not a report: {error}"));
    serde_json::from_slice(&report).map_err(invalid)
}

/// All products, the oldest first. An error of the stream says that it is not whole.
///
/// # Errors
/// When the store or the shop cannot be used.
pub async fn export(
    (settings, effective): (&Settings, &Effective),
    place: &Place,
    format: Format,
) -> Result<Pieces, Failure> {
    let Place::Shop(url, token) = place else {
        let exported = product::export_to(&without_hurry(settings), format).await;
        let exported = exported.map_err(|error| effective.blame(Role::Product.store(), error))?;
        return Ok(exported.map_err(io::Error::other).boxed_local());
    };
    let mut request = request(Method::GET, "/products/export", token.as_ref())?;
    request.headers.append(ACCEPT, HeaderValue::from_static(format.content_type()));
    let reply = ask(url, request, Body::None).await?;
    Ok(match reply.body {
        Body::Stream(chunks) => chunks.stream,
        body => {
            let whole = body.read(usize::MAX).await?;
            futures_util::stream::iter([Ok(whole)]).boxed_local()
        }
    })
}

/// The settings of the store; no request waits for a batch.
fn without_hurry(settings: &Settings) -> config::Product {
    config::Product { statement_timeout: BATCH_TIMEOUT, ..settings.product.clone() }
}

fn request(
    method: Method,
    path: &'static str,
    token: Option<&SecretString>,
) -> Result<Request, Failure> {
    let mut request = Request::new(method, Uri::from_static(path));
    if let Some(token) = token {
        let value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()));
        let invalid = |_| Failure::Other("the token is not one".to_owned());
        request.headers.append(AUTHORIZATION, value.map_err(invalid)?);
    }
    let close = HeaderValue::from_static("app");
    request.headers.append(HeaderName::from_static("user-agent"), close);
    Ok(request)
}

/// Sends `request` with `body` to the shop at `url`, and waits for a reply that is no error.
async fn ask(url: &str, request: Request, body: Body) -> Result<Reply, Failure> {
    let parsed = url.parse::<PeerUrl>();
    let parsed = parsed.map_err(|problem| Failure::Other(format!("--url: {problem}")))?;
    let client = match parsed.is_secure() {
        true => Some(tls::platform_client().map_err(|why| Failure::Other(why.to_string()))?),
        false => None,
    };
    let failed = |error: Error| Failure::Shop(url.to_owned(), Box::new(error));
    let shop = Peer::new(parsed.uri(), OPTIONS, client);
    let reply = shop.exchange(&request, body, false, Instant::now()).await;
    let reply =
        reply.map_err(|error| Failure::Other(format!("{url}: {}", PeerError::from(error))))?;
    reply.into_success().await.map_err(failed)
}
