//! Import and export: many products at once, as NDJSON or CSV, in bounded memory.

mod commands;
mod export;
mod format;
mod import;
mod lines;
mod parser;
mod record;
mod report;
mod scan;
mod table;
#[cfg(test)]
mod tests;

use actix_web::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, VARY};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse, Responder};

use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use super::ProductState;
use crate::error::Error;
use crate::middleware::{BodyLimit, NO_STORE, Query, check_coding, discard};

pub use commands::{export_to, import_from};
pub use format::Format;
pub use import::ImportError;
pub use parser::{Parsed, Parser};
pub use report::{ImportReport, LineError};

/// A file with a product per line.
struct ProductFile;

impl ToSchema for ProductFile {}

impl PartialSchema for ProductFile {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
    }
}

/// Adds or replaces many products.
///
/// The body has one product per line, as NDJSON, or as CSV whose first line names the columns. A product whose `sku` is
/// there already is replaced, and its stock changes only if the line has one; any other is added. A line that is not valid
/// is counted and named, and the others are imported all the same. The body may have any size.
#[utoipa::path(
    post,
    path = "/products/import",
    operation_id = "importProducts",
    tag = "products",
    request_body(content(
        (inline(ProductFile) = "application/x-ndjson", example = "{\"name\":\"Docker Super Computer\",\"price\":4999,\"sku\":\"DSC-1\"}\n"),
        (inline(ProductFile) = "text/csv", example = "name,price,sku\r\nDocker Super Computer,4999,DSC-1\r\n"),
    )),
    responses((status = 200, description = "What was imported", body = ImportReport))
)]
pub(super) async fn import(
    state: Data<ProductState>,
    request: HttpRequest,
    query: Query,
    mut content: Payload,
) -> Result<impl Responder, Error> {
    let imported = async {
        query.finish(())?;
        check_coding(&request)?;
        let format = Format::from_content_type(request.headers())?;
        let parser = Parser::new(format, state.currency);
        let importing = import::import(&mut content, parser, &state.products, &state.cache);
        Box::pin(importing).await.map_err(Error::from)
    };
    let imported = imported.await;
    if imported.is_err() {
        discard(request.headers(), content, BodyLimit::from_app_data(&request)).await;
    }
    Ok(HttpResponse::Ok().json(imported?))
}

/// Shows all products, the oldest first.
///
/// As NDJSON, or as CSV if `Accept` prefers it. An import of the result into an empty shop gives the same products, but
/// for their ids and times. Products that are added or changed in the meantime may be there or not.
#[utoipa::path(
    get,
    path = "/products/export",
    operation_id = "exportProducts",
    tag = "products",
    responses((status = 200, description = "The products", content(
        (String = "application/x-ndjson"),
        (String = "text/csv"),
    ), headers(("Content-Disposition" = String, description = "The name of a file to save it in"))))
)]
pub(super) async fn export(
    state: Data<ProductState>,
    request: HttpRequest,
    query: Query,
) -> Result<impl Responder, Error> {
    query.finish(())?;
    let format = Format::from_accept(request.headers());
    let body = export::export(state.products.clone(), format).await?;
    let name = format!("attachment; filename=\"products.{}\"", format.extension());
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, format.content_type()))
        .insert_header((CONTENT_DISPOSITION, name))
        .insert_header((CACHE_CONTROL, NO_STORE))
        .insert_header((VARY, ACCEPT.as_str()))
        .streaming(body))
}
