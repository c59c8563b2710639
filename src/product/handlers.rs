//! HTTP in, HTTP out.

use actix_web::http::header::{ContentType, HeaderName, LINK, LOCATION};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse, Responder};
use bson::oid::ObjectId;

use super::Shared;
use super::cache::{Entry, Found, Key};
use super::model::{NewProduct, PageRequest};
use crate::contract::Product;
use crate::edge::{Fields, Query};
use crate::error::Error;

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// `GET /products`
pub(super) async fn list(
    shared: Data<Shared>,
    request: HttpRequest,
) -> Result<impl Responder, Error> {
    let page = PageRequest::read(Query::of(&request))?;
    let load = async {
        let (products, next) =
            page.cut(shared.products.page(page.cursor, page.limit_and_one()).await?);
        Entry::new(&products, next)
    };
    shared.cache.get(Key::Page(page), load).await.map(answer)
}

/// `GET /products/{id}`
pub(super) async fn show(shared: Data<Shared>, id: Path<String>) -> Result<impl Responder, Error> {
    let unknown = || Error::not_found("product");
    let id = ObjectId::parse_str(id.as_str()).map_err(|_| unknown())?;
    let load = async {
        let product = shared.products.find(id).await?.ok_or_else(unknown)?;
        Entry::new(&product, None)
    };
    shared.cache.get(Key::Product(id), load).await.map(answer)
}

/// `POST /products`
pub(super) async fn create(shared: Data<Shared>, fields: Fields) -> Result<impl Responder, Error> {
    let product: Product = NewProduct::read(fields)?.into_product();
    shared.products.insert(&product).await?;
    // Before the answer leaves: whoever has read it sees the product in the list.
    shared.cache.invalidate();
    let location = format!("/products/{}", product.id);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(product))
}

fn answer(found: Found) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header(ContentType::json()).insert_header((X_CACHE, found.label()));
    if let Some(next) = found.entry.next {
        response.insert_header((LINK, next));
    }
    response.body(found.entry.body)
}
