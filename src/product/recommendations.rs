//! What goes with products that somebody has bought.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::str::FromStr;

use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};
use bson::oid::ObjectId;

use super::ProductState;
use super::store::Store;
use crate::contract::{MOST_WITH, Product};
use crate::error::Error;
use crate::middleware::{Limit, Query};
use crate::storage::StoreError;

/// The products that are asked about.
#[derive(Default)]
struct With(Vec<ObjectId>);

impl FromStr for With {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ids = text.split(',').map(ObjectId::parse_str).collect::<Result<Vec<_>, _>>();
        let ids = ids.ok().filter(|ids| ids.len() <= MOST_WITH);
        ids.map(Self).ok_or("must be at most 20 ids of products, separated by commas")
    }
}

/// `GET /internal/recommendations`: what was most often bought with products, then what is popular, then what is new.
pub(super) async fn list(
    state: Data<ProductState>,
    mut query: Query,
) -> Result<impl Responder, Error> {
    let With(with) = query.optional("with").unwrap_or_default();
    let limit = query.optional::<Limit>("limit").unwrap_or_default();
    let (with, limit) = query.finish((with, limit.get()))?;
    Ok(HttpResponse::Ok().json(recommend(&state.products, &with, limit).await?))
}

/// At most `limit` products, none of them of `with`.
async fn recommend(
    store: &Store,
    with: &[ObjectId],
    limit: usize,
) -> Result<Vec<Product>, StoreError> {
    let mut products = bought_with(store, with, limit).await?;
    let missing = limit - products.len();
    if missing > 0 {
        let popular = store.popular((limit + with.len()) as i64).await?;
        let is_new = |product: &Product| {
            !with.contains(&product.id) && !products.iter().any(|known| known.id == product.id)
        };
        let popular = popular.into_iter().filter(is_new).take(missing).collect::<Vec<_>>();
        products.extend(popular);
    }
    Ok(products)
}

/// At most `limit` products that were bought with those of `with`: what is in stock first, and then by the number of orders.
async fn bought_with(
    store: &Store,
    with: &[ObjectId],
    limit: usize,
) -> Result<Vec<Product>, StoreError> {
    // Some may have been removed.
    let most = 2 * limit;
    let mut orders = HashMap::<_, i64>::new();
    for (product, number) in store.bought_with(with.to_vec(), most as i64).await? {
        *orders.entry(product).or_default() += number;
    }
    let mut ids = orders.keys().copied().collect::<Vec<_>>();
    ids.sort_unstable_by_key(|id| Reverse((orders.get(id), *id)));
    ids.truncate(most);
    let mut products = store.among(ids).await?;
    products.sort_unstable_by_key(|product| {
        let Product { id, stock, popularity, created_at, .. } = product;
        Reverse((stock.is_in(), orders.get(id), *popularity, *created_at, *id))
    });
    products.truncate(limit);
    Ok(products)
}
