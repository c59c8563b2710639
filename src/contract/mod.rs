//! The values that roles exchange with each other and with clients, and typed clients for them; no logic.

mod dead_letter;
mod event;
mod health;
mod money;
mod order;
mod product;
mod reservation;
mod user;

pub use dead_letter::DeadLetter;
pub use event::{Event, OrderData, USER_ERASED, WEBHOOK_TEST, order_kind};
pub use health::{Health, PATH as HEALTH_PATH, health};
pub use money::{Money, MoneyError};
pub use order::{ORDERS_AT_ONCE, Order, OrderClient, OrderLine, OrderStatus};
pub use product::{
    CategorySummary, LowStock, MOST_WITH, Product, ProductClient, Stock, StockReport, Version,
};
pub use reservation::{NewLine, NewReservation, Reservation, ReservedLine};
pub use user::{
    Account, Dashboard, Jwk, JwkSet, RecentOrder, Revocation, User, UserClient, UserRole,
};

use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::http::{Method, Uri};
use chrono::{DateTime, SecondsFormat, SubsecRound as _, Utc};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use crate::error::{Error, Kind};
use crate::peer::{Body, Context, Peer, Reply, Request};

/// A point in time, to the microsecond, as every store keeps it; RFC 3339 in UTC in JSON.
pub type Timestamp = DateTime<Utc>;

/// The current time, to the microsecond.
pub fn now() -> Timestamp {
    Utc::now().trunc_subsecs(6)
}

/// Writes `time` with all six digits of its microseconds, so that times sort as texts.
///
/// # Errors
/// Those of `serializer`.
pub fn in_microseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// Gets `target` from `peer`: at most `limit` bytes of JSON.
async fn get<T: DeserializeOwned>(
    peer: &Peer,
    target: &str,
    limit: usize,
    context: &Context,
) -> Result<T, Error> {
    read(peer.send(request(Method::GET, target)?, context).await?, limit).await
}

/// Sends `body` as JSON to `target` of `peer`.
async fn put(
    peer: &Peer,
    target: &str,
    body: &impl Serialize,
    context: &Context,
) -> Result<Reply, Error> {
    let mut request = request(Method::PUT, target)?;
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.body = Body::Full(serde_json::to_vec(body).map_err(Error::internal)?.into());
    Ok(peer.send(request, context).await?)
}

fn request(method: Method, target: &str) -> Result<Request, Error> {
    Ok(Request::new(method, target.parse::<Uri>().map_err(Error::internal)?))
}

async fn read<T: DeserializeOwned>(reply: Reply, limit: usize) -> Result<T, Error> {
    let reply = reply.into_success().await?;
    let body = reply.body.read(limit).await.map_err(Error::internal)?;
    serde_json::from_slice(&body).map_err(|error| {
        let detail = "another role gave an invalid response";
        Error::new(Kind::BadGateway, detail).caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_six_digits_of_its_second() {
        for (micros, text) in [(0, "000000"), (120_000, "120000"), (1, "000001")] {
            let time = DateTime::from_timestamp_micros(micros).unwrap();
            let written = in_microseconds(&time, serde_json::value::Serializer).unwrap();
            assert_eq!(written, format!("1970-01-01T00:00:00.{text}Z"));
        }
    }
}
