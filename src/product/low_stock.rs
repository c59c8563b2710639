//! The products of which few pieces are left.

use std::str::FromStr;

use actix_web::http::header::LINK;
use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bson::oid::ObjectId;
use utoipa::IntoParams;

use super::ProductState;
use super::model::MOST_PIECES;
use crate::contract::LowStock;
use crate::error::Error;
use crate::middleware::{Limit, Query};

/// Fewer pieces than this are few, unless the request says how many.
const BELOW: i64 = 10;

/// The parameters of [`LowStockPage`].
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters for the OpenAPI document")]
pub(super) struct LowStockQuery {
    /// Products with fewer available pieces than this.
    #[param(minimum = 1, maximum = 1000000000, default = 10)]
    below: Option<i64>,
    /// How many a page has.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u8>,
    /// From the `Link` header of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]{27}$")]
    cursor: Option<String>,
}

/// A requested page of products of which few pieces are left, the fewest first.
#[derive(Clone, Debug)]
pub(super) struct LowStockPage {
    pub(super) below: i64,
    limit: Limit,
    /// The last product of the page before.
    pub(super) after: Option<Position>,
}

/// A place among products by their available pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) available: i64,
    pub(super) id: ObjectId,
}

/// How many pieces are few: 1 to 1,000,000,000.
struct Below(i64);

impl FromStr for Below {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().ok().filter(|number| (1..=MOST_PIECES).contains(number));
        number.map(Self).ok_or("must be a whole number from 1 to 1000000000")
    }
}

impl Position {
    /// The position as links have it.
    fn encode(self) -> String {
        URL_SAFE_NO_PAD.encode([&self.available.to_be_bytes()[..], &self.id.bytes()].concat())
    }
}

impl FromStr for Position {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let foreign = "must come from the Link header of a page before";
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| foreign)?;
        let (available, id) = bytes.split_first_chunk::<8>().ok_or(foreign)?;
        let id = id.try_into().map_err(|_| foreign)?;
        Ok(Self { available: i64::from_be_bytes(*available), id: ObjectId::from_bytes(id) })
    }
}

impl LowStockPage {
    /// Reads the parameters.
    ///
    /// # Errors
    /// 422 with one entry per invalid parameter.
    fn read(mut query: Query) -> Result<Self, Error> {
        let limit = query.optional("limit").unwrap_or_default();
        let after = query.optional("cursor");
        let below = query.optional("below").unwrap_or(Below(BELOW)).0;
        query.finish(Self { below, limit, after })
    }

    /// One more than the page's size, which tells whether another page follows.
    pub(super) fn limit_and_one(&self) -> i64 {
        self.limit.get() as i64 + 1
    }

    /// Cuts `products` to the page; also returns the target of the next page if there is one.
    fn cut(&self, mut products: Vec<LowStock>) -> (Vec<LowStock>, Option<String>) {
        let limit = self.limit.get();
        let more = products.len() > limit;
        products.truncate(limit);
        let last = products.last().filter(|_| more);
        let next = last.map(|LowStock { id, stock, .. }| {
            let available = stock.available.unwrap_or_default();
            let cursor = Position { available, id: *id }.encode();
            format!("/products/stock?below={}&limit={limit}&cursor={cursor}", self.below)
        });
        (products, next)
    }
}

/// Lists the products of which few pieces are left, the fewest first.
///
/// Products whose pieces are not counted are not among them. A product whose pieces change while somebody pages may be seen
/// twice or not at all.
#[utoipa::path(
    get,
    path = "/products/stock",
    operation_id = "listLowStock",
    tag = "products",
    params(LowStockQuery),
    responses(
        (status = 200, description = "A page", body = Vec<LowStock>, headers(
            ("Link" = String, description = "Where the next page is, with `rel=\"next\"`; absent on the last"),
        )),
    )
)]
pub(super) async fn list(state: Data<ProductState>, query: Query) -> Result<impl Responder, Error> {
    let page = LowStockPage::read(query)?;
    let (products, next) = page.cut(state.products.low_stock(page.clone()).await?);
    let mut response = HttpResponse::Ok();
    if let Some(next) = next {
        response.insert_header((LINK, format!("<{next}>; rel=\"next\"")));
    }
    Ok(response.json(products))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_position_survives_the_link(available: i64, id: [u8; 12]) {
            let position = Position { available, id: ObjectId::from_bytes(id) };
            prop_assert_eq!(position.encode().parse(), Ok(position));
        }

        #[test]
        fn what_is_no_position_is_refused(text in ".{0,40}") {
            prop_assume!(text.len() != 27);
            prop_assert!(text.parse::<Position>().is_err());
        }
    }
}
