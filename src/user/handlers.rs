//! HTTP in, HTTP out.

use actix_web::http::header::LOCATION;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder};
use log::warn;
use uuid::Uuid;

use super::Shared;
use super::model::NewUser;
use crate::contract::{Dashboard, Product, User};
use crate::edge::Fields;
use crate::error::{Error, Kind};
use crate::storage::StoreError;
use crate::transport::Context;

/// `POST /auth/register`
pub(super) async fn register(
    shared: Data<Shared>,
    fields: Fields,
) -> Result<impl Responder, Error> {
    let new = NewUser::read(fields)?;
    let user = new.into_user();
    shared.users.insert(&user).await.map_err(|error| match error {
        StoreError::Duplicate => {
            Error::new(Kind::Conflict, "an account with this e-mail address exists")
        }
        error => error.into(),
    })?;
    let location = format!("/auth/dashboard/{}", user.id);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(user))
}

/// `GET /auth/dashboard/{id}`
pub(super) async fn dashboard(
    shared: Data<Shared>,
    id: Path<String>,
    context: Context,
) -> Result<impl Responder, Error> {
    let user = find(&shared, &id).await?;
    let (recommended_products, degraded) = match recommend(&shared, &context).await {
        Ok(products) => (products, Vec::new()),
        Err(error) => {
            let id = context.request_id.as_str();
            warn!(role = "user", requestId = id; "no recommendations: {}", error.chain());
            (Vec::new(), vec!["product".to_owned()])
        }
    };
    Ok(HttpResponse::Ok().json(Dashboard { user, recommended_products, degraded }))
}

async fn find(shared: &Shared, id: &str) -> Result<User, Error> {
    let unknown = || Error::not_found("user");
    let id = Uuid::try_parse(id).map_err(|_| unknown())?;
    shared.users.find(id).await?.ok_or_else(unknown)
}

async fn recommend(shared: &Shared, context: &Context) -> Result<Vec<Product>, Error> {
    let options = &shared.options;
    if options.recommendations == 0 {
        return Ok(Vec::new());
    }
    let context = context.within(options.recommendations_timeout);
    shared.products.newest(options.recommendations, &context).await
}
