//! The HTTP handlers.

use actix_web::http::header::{self, HeaderName, HeaderValue, LINK, LOCATION};
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder};
use bson::oid::ObjectId;

use super::ProductState;
use super::cache::{Entry, Key, Origin};
use super::model::{NewProduct, ProductPatch, ProductPath, StockPatch, StockRefusal};
use super::page::{PageQuery, PageRequest};
use super::store::{Replacement, WriteOutcome};
use crate::contract::{CategorySummary, Product, StockReport, Version};
use crate::error::{Error, Kind};
use crate::middleware::{Condition, Fields, IfMatch, IfNoneMatch, Query};
use crate::storage::{StoreError, digest};

/// How often a change is tried while other writers come in between.
const ATTEMPTS: usize = 10;

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Lists products: all of them, or those that pass filters and a search.
///
/// Each page's `Link` header leads to the next one. Products that are added in the meantime do not shift the pages.
#[utoipa::path(
    get,
    path = "/products",
    operation_id = "listProducts",
    tag = "products",
    params(PageQuery, IfNoneMatch),
    responses(
        (status = 200, description = "A page", body = Vec<Product>, headers(
            ("ETag" = String, description = "Identifies the page's content"),
            ("X-Cache" = String, description = "`HIT`, `MISS`, or `STALE`: past its time"),
            ("Link" = String, description = "Where the next page is, with `rel=\"next\"`; absent on the last"),
        )),
        (status = 304, description = "The client's copy is current", headers(
            ("ETag" = String, description = "The ETag of the client's copy"),
            ("X-Cache" = String, description = "As for 200"),
        )),
    )
)]
pub(super) async fn list(
    state: Data<ProductState>,
    query: Query,
    condition: Condition,
) -> Result<impl Responder, Error> {
    let page = PageRequest::read(query)?;
    let (key, store) = (page.clone(), state.clone());
    let load = async move || {
        log::debug!("asking the store for a page");
        let products = store.products.page(page.clone()).await?;
        let (products, next) = page.cut(products);
        let link = next.map(|target| format!("<{target}>; rel=\"next\""));
        Entry::new(&products, None, link).map(Some)
    };
    let (entry, origin) = state.cache.get(Key::Page(key), load).await?;
    answer(&condition, entry, origin)
}

/// Lists the categories that have products, by name.
///
/// A product that is moved counts at once.
#[utoipa::path(
    get,
    path = "/categories",
    operation_id = "listCategories",
    tag = "products",
    params(IfNoneMatch),
    responses(
        (status = 200, description = "The categories", body = Vec<CategorySummary>, headers(
            ("ETag" = String, description = "Identifies the content"),
            ("X-Cache" = String, description = "`HIT`, `MISS`, or `STALE`: past its time"),
        )),
        (status = 304, description = "The client's copy is current", headers(
            ("ETag" = String, description = "The ETag of the client's copy"),
            ("X-Cache" = String, description = "As for 200"),
        )),
    )
)]
pub(super) async fn categories(
    state: Data<ProductState>,
    query: Query,
    condition: Condition,
) -> Result<impl Responder, Error> {
    query.finish(())?;
    let store = state.clone();
    let load = async move || {
        log::debug!("asking the store for the categories");
        Entry::new(&store.products.categories().await?, None, None).map(Some)
    };
    let (entry, origin) = state.cache.get(Key::Categories, load).await?;
    answer(&condition, entry, origin)
}

/// Shows a product.
///
/// A conditional write sends its `ETag` in `If-Match`.
#[utoipa::path(
    get,
    path = "/products/{id}",
    operation_id = "showProduct",
    tag = "products",
    params(
        ProductPath,
        IfNoneMatch,
    ),
    responses(
        (status = 200, description = "The product", body = Product, headers(
            ("ETag" = String, description = "Identifies its content and version"),
            ("X-Cache" = String, description = "`HIT`, `MISS`, or `STALE`: past its time"),
        )),
        (status = 304, description = "The client's copy is current", headers(
            ("ETag" = String, description = "The ETag of the client's copy"),
            ("X-Cache" = String, description = "As for 200"),
        )),
    )
)]
pub(super) async fn show(
    state: Data<ProductState>,
    id: Path<String>,
    condition: Condition,
) -> Result<impl Responder, Error> {
    let id = parse(&id)?;
    let store = state.clone();
    let load = async move || {
        log::debug!("asking the store for a product");
        let found = store.products.find(id).await?;
        found.map(|product| Entry::new(&product, Some(etag(&product)), None)).transpose()
    };
    let (entry, origin) = state.cache.get(Key::Product(id), load).await?;
    answer(&condition, entry, origin)
}

/// Adds a product.
///
/// A name and a price are enough. Lists have it as soon as this request is answered.
#[utoipa::path(
    post,
    path = "/products",
    operation_id = "addProduct",
    tag = "products",
    request_body = NewProduct,
    responses(
        (status = 201, description = "The product", body = Product, headers(
            ("ETag" = String, description = "Identifies its content and version"),
            ("Location" = String, description = "Where it is"),
        )),
        (status = 409, description = "Another product has the SKU"),
    )
)]
pub(super) async fn create(
    state: Data<ProductState>,
    fields: Fields,
) -> Result<impl Responder, Error> {
    let product = NewProduct::read(fields, state.currency)?.into_product();
    let inserted = state.products.insert(product.clone(), state.cache.clone()).await;
    inserted.map_err(|error| taken(error, &product))?;
    let location = format!("/products/{}", product.id);
    Ok(tagged(HttpResponse::Created().insert_header((LOCATION, location)), &product))
}

/// Replaces a product.
///
/// With `If-Match` it is replaced only if it has not changed since.
#[utoipa::path(
    put,
    path = "/products/{id}",
    operation_id = "replaceProduct",
    tag = "products",
    params(
        ProductPath,
        IfMatch,
    ),
    request_body = NewProduct,
    responses(
        (status = 200, description = "The product as it is now", body = Product, headers(
            ("ETag" = String, description = "Identifies its content and version")
        )),
        (status = 409, description = "Another product has the SKU, or more pieces are reserved"),
        (status = 412, description = "If-Match does not name its current version"),
    )
)]
pub(super) async fn replace(
    state: Data<ProductState>,
    id: Path<String>,
    condition: Condition,
    fields: Fields,
) -> Result<impl Responder, Error> {
    let id = parse(&id)?;
    let product = NewProduct::read(fields, state.currency)?.into_product();
    let expected = expected(&state, id, &condition).await?;
    let new = Replacement { product, sets_stock: true };
    let product = done(write(&state, id, expected, new).await?)?;
    Ok(tagged(&mut HttpResponse::Ok(), &product))
}

/// Changes a product.
///
/// The body is a JSON merge patch (RFC 7396): fields that are absent stay as they are, null removes one. With `If-Match`
/// it is changed only if nobody has changed it since.
#[utoipa::path(
    patch,
    path = "/products/{id}",
    operation_id = "changeProduct",
    tag = "products",
    params(
        ProductPath,
        IfMatch,
    ),
    request_body(content = ProductPatch, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The product as it is now", body = Product, headers(
            ("ETag" = String, description = "Identifies its content and version")
        )),
        (status = 409, description = "Another product has the SKU, or others change this one all the time"),
        (status = 412, description = "If-Match does not name its current version"),
    )
)]
pub(super) async fn change(
    state: Data<ProductState>,
    id: Path<String>,
    condition: Condition,
    fields: Fields,
) -> Result<impl Responder, Error> {
    let id = parse(&id)?;
    let patch = ProductPatch::read(fields, state.currency)?;
    for _ in 0..ATTEMPTS {
        let now = current(&state, id, &condition).await?;
        let expected = Some(now.version);
        let new = Replacement { product: patch.apply(now)?, sets_stock: false };
        match write(&state, id, expected, new).await? {
            // Another writer came in between, and the patch is for what it left.
            WriteOutcome::Changed => {}
            outcome => return Ok(tagged(&mut HttpResponse::Ok(), &done(outcome)?)),
        }
    }
    Err(Error::new(Kind::Conflict, "others change the product all the time; try again"))
}

/// Removes a product.
///
/// With `If-Match` it is removed only if it has not changed since.
#[utoipa::path(
    delete,
    path = "/products/{id}",
    operation_id = "removeProduct",
    tag = "products",
    params(
        ProductPath,
        IfMatch,
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 412, description = "If-Match does not name its current version"),
    )
)]
pub(super) async fn remove(
    state: Data<ProductState>,
    id: Path<String>,
    condition: Condition,
) -> Result<impl Responder, Error> {
    let id = parse(&id)?;
    let expected = expected(&state, id, &condition).await?;
    done(state.products.remove(id, expected, state.cache.clone()).await?)?;
    Ok(HttpResponse::NoContent().finish())
}

/// Shows the pieces of a product.
///
/// `available` is what is on hand and not reserved; both are null if the pieces are not counted.
#[utoipa::path(
    get,
    path = "/products/{id}/stock",
    operation_id = "showStock",
    tag = "products",
    params(ProductPath),
    responses((status = 200, description = "The pieces", body = StockReport))
)]
pub(super) async fn stock(
    state: Data<ProductState>,
    id: Path<String>,
) -> Result<impl Responder, Error> {
    let product = state.products.find(parse(&id)?).await?.ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(StockReport::from(product.stock)))
}

/// Changes the pieces of a product.
///
/// `onHand` says how many there are, `change` how many come or go. What is reserved stays.
#[utoipa::path(
    patch,
    path = "/products/{id}/stock",
    operation_id = "changeStock",
    tag = "products",
    params(ProductPath),
    request_body(content = StockPatch, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The pieces as they are now", body = StockReport),
        (status = 409, description = "The pieces are not counted, so that `change` has nothing to add to; or there would be \
            fewer than are reserved, fewer than none, or more than 1,000,000,000"),
    )
)]
pub(super) async fn change_stock(
    state: Data<ProductState>,
    id: Path<String>,
    fields: Fields,
) -> Result<impl Responder, Error> {
    let id = parse(&id)?;
    let change = StockPatch::read(fields)?;
    let outcome = state.products.change_stock(id, change, state.cache.clone()).await?;
    let stock = outcome.ok_or_else(unknown)?;
    let (_, after) = stock.map_err(refused)?;
    Ok(HttpResponse::Ok().json(StockReport::from(after)))
}

/// Replaces the product with `id`, if it has the `expected` version.
async fn write(
    state: &ProductState,
    id: ObjectId,
    expected: Option<Version>,
    new: Replacement,
) -> Result<WriteOutcome, Error> {
    let product = new.product.clone();
    let replaced = state.products.replace(id, expected, new, state.cache.clone()).await;
    replaced.map_err(|error| taken(error, &product))
}

/// The error of a write of `product`: 409 that names its SKU if another product has that.
fn taken(error: StoreError, product: &Product) -> Error {
    match (error, &product.sku) {
        (StoreError::Duplicate, Some(sku)) => {
            Error::new(Kind::Conflict, format!("another product has the SKU {sku:?}"))
        }
        (error, _) => error.into(),
    }
}

fn parse(id: &str) -> Result<ObjectId, Error> {
    ObjectId::parse_str(id).map_err(|_| unknown())
}

fn unknown() -> Error {
    Error::not_found("product")
}

/// A product's ETag: a digest of its content and its version. The content alone may repeat; the version alone may repeat
/// for products that were stored without a revision and restored from a backup.
fn etag(product: &Product) -> String {
    let Version { count, revision } = product.version;
    let mut content = [count.to_be_bytes(), revision.to_be_bytes()].concat();
    content.extend(serde_json::to_vec(product).unwrap_or_default());
    format!("\"{:032x}\"", digest(&content))
}

/// The version that the write expects: the current one if `If-Match` names it, or any.
async fn expected(
    state: &ProductState,
    id: ObjectId,
    condition: &Condition,
) -> Result<Option<Version>, Error> {
    match condition.if_match() {
        None => Ok(None),
        Some(_) => Ok(Some(current(state, id, condition).await?.version)),
    }
}

/// The product with `id`, if `If-Match` names its version or is absent.
async fn current(
    state: &ProductState,
    id: ObjectId,
    condition: &Condition,
) -> Result<Product, Error> {
    let now = state.products.find(id).await?.ok_or_else(unknown)?;
    let is_named = |tags: Vec<&str>| tags.contains(&etag(&now).as_str());
    if condition.if_match().is_none_or(is_named) { Ok(now) } else { Err(changed()) }
}

fn changed() -> Error {
    Error::new(Kind::PreconditionFailed, "the product has changed since you read it")
}

fn refused(refusal: StockRefusal) -> Error {
    Error::new(Kind::Conflict, refusal.to_string())
}

fn done(written: WriteOutcome) -> Result<Product, Error> {
    match written {
        WriteOutcome::Done(product) => Ok(*product),
        WriteOutcome::Changed => Err(changed()),
        WriteOutcome::Missing => Err(unknown()),
        WriteOutcome::Refused(refusal) => Err(refused(refusal)),
    }
}

fn tagged(response: &mut actix_web::HttpResponseBuilder, product: &Product) -> HttpResponse {
    response.insert_header((header::ETAG, etag(product))).json(product)
}

/// The entry, or 304 when the client's copy is current.
fn answer(
    condition: &Condition,
    entry: Option<Entry>,
    origin: Origin,
) -> Result<HttpResponse, Error> {
    let entry = entry.ok_or_else(unknown)?;
    let known = condition.if_none_match(&entry.etag);
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    let cache = HeaderValue::from_static(origin.label());
    response.insert_header((X_CACHE, cache)).insert_header((header::ETAG, &*entry.etag));
    if !entry.link.is_empty() {
        response.insert_header((LINK, &*entry.link));
    }
    if known {
        // The length of a 200 tells the gateway which headers that would have (RFC 9110, section 8.6).
        return Ok(response.insert_header((header::CONTENT_LENGTH, entry.body.len())).finish());
    }
    Ok(response.insert_header((header::CONTENT_TYPE, JSON)).body(entry.body))
}
