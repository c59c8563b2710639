//! The HTTP handlers, for other roles.

use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder};
use chrono::TimeDelta;
use uuid::Uuid;

use super::super::ProductState;
use super::NewReservation;
use crate::contract::{Reservation, now};
use crate::error::Error;
use crate::middleware::Fields;

/// `PUT /internal/reservations/{id}`: reserves pieces, all of them or none, or takes over those of another reservation.
/// The same request again gets the same answer.
pub(in crate::product) async fn put(
    state: Data<ProductState>,
    id: Path<String>,
    fields: Fields,
) -> Result<impl Responder, Error> {
    let id = parse(&id)?;
    let NewReservation { wanted, seconds } = NewReservation::read(id, fields)?;
    let expires_at = now() + TimeDelta::seconds(seconds);
    let hold = state.products.reserve(id, wanted, expires_at, state.cache.clone()).await??;
    Ok(HttpResponse::Ok().json(Reservation::from(hold)))
}

/// `POST /internal/reservations/{id}/commit`: sells the pieces. 409 when they were given back before.
pub(in crate::product) async fn commit(
    state: Data<ProductState>,
    id: Path<String>,
) -> Result<impl Responder, Error> {
    let hold = state.products.commit(parse(&id)?, state.cache.clone()).await??;
    Ok(HttpResponse::Ok().json(Reservation::from(hold)))
}

/// `DELETE /internal/reservations/{id}`: gives back the pieces, held or sold, once. The id is used up.
pub(in crate::product) async fn release(
    state: Data<ProductState>,
    id: Path<String>,
) -> Result<impl Responder, Error> {
    state.products.release(parse(&id)?, state.cache.clone()).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn parse(id: &str) -> Result<Uuid, Error> {
    Uuid::parse_str(id).map_err(|_| Error::not_found("reservation"))
}
