//! What was sold, by the events of paid orders. It makes products popular, and tells what is bought together.

use bson::oid::ObjectId;

use super::store::Store;
use crate::contract::{Event, OrderStatus, order_kind};
use crate::events::{Consumer, Refusal};

/// The consumer that counts.
pub(super) const POPULARITY: &str = "product.popularity";
/// How many lines of an order make pairs.
const PAIRED: usize = 20;
/// How many sales are counted together.
const TOGETHER: usize = 50;

/// The products of a paid order.
#[derive(Clone, Debug)]
pub(super) struct Sale {
    /// The id of the event that tells of it.
    pub(super) event: String,
    /// Products, each once, and how many pieces of them.
    pub(super) lines: Vec<(ObjectId, i64)>,
}

impl Sale {
    /// Every two products of its first lines, both ways round.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (ObjectId, ObjectId)> {
        let products = self.lines.iter().take(PAIRED).map(|(product, _)| *product);
        let others = products.clone();
        products.flat_map(move |product| {
            let others = others.clone().filter(move |other| *other != product);
            others.map(move |other| (product, other))
        })
    }
}

impl TryFrom<&Event> for Sale {
    type Error = Refusal;

    fn try_from(event: &Event) -> Result<Self, Refusal> {
        let order = event.order().map_err(|error| Refusal::Invalid(error.to_string()))?;
        let mut lines = Vec::<(ObjectId, i64)>::new();
        for line in order.items {
            let product = ObjectId::parse_str(&line.product_id);
            let product = product.map_err(|error| Refusal::Invalid(error.to_string()))?;
            match lines.iter_mut().find(|(known, _)| *known == product) {
                Some((_, quantity)) => *quantity += line.quantity,
                None => lines.push((product, line.quantity)),
            }
        }
        Ok(Self { event: event.id.to_string(), lines })
    }
}

/// What counts in `products` what was sold.
pub(super) fn consumer(products: Store) -> Consumer {
    let take = move |events| take(products.clone(), events);
    Consumer::new(POPULARITY, vec![order_kind(OrderStatus::Paid)], take)
}

async fn take(products: Store, events: Vec<Event>) -> Result<(), Refusal> {
    let sales = events.iter().map(Sale::try_from).collect::<Result<Vec<_>, _>>()?;
    for sales in sales.chunks(TOGETHER) {
        products.count_sales(sales.to_vec()).await?;
    }
    Ok(())
}
