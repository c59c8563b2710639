//! The catalogue of a demo.

use std::io;

use actix_web::web::Bytes;
use futures_util::{TryStreamExt as _, stream};
use serde_json::{Map, Value, json};
use url::Url;

use super::super::{Failure, Role};
use crate::config::{Currency, Effective, Settings};
use crate::product::{self, Format, Parser};

/// The products, one per line, as an import takes them; prices are in a currency with decimals.
const PRODUCTS: &str = include_str!("catalogue.ndjson");
/// Mixes categories in the list of what is new, the same way each time.
const SEED: u64 = 7;

/// Fills the catalogue with products whose pictures are at `gateway`.
///
/// # Errors
/// When the store fails.
pub(super) async fn fill(loaded: (&Settings, &Effective), gateway: &str) -> Result<(), Failure> {
    let mut lines = lines(gateway, loaded.0.shop.currency)?;
    fastrand::Rng::with_seed(SEED).shuffle(&mut lines);
    import(loaded, lines.concat()).await
}

/// Moves the pictures of all products that are at the gateway `from` to the gateway `to`.
///
/// # Errors
/// When the store fails.
pub(super) async fn move_pictures(
    (settings, effective): (&Settings, &Effective),
    from: &str,
    to: &str,
) -> Result<(), Failure> {
    let exported = product::export_to(&settings.product, Format::Ndjson).await;
    let exported = exported.map_err(|error| effective.blame(Role::Product.store(), error))?;
    let text = exported.map_ok(|piece| piece.to_vec()).try_concat().await;
    let text = text.map_err(io::Error::other)?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    let at = |gateway: &str| format!("\"{gateway}/shop/pictures/");
    // A product without an article number would be added once more, and the demo's own all have one.
    let moved = text.lines().filter(|line| line.contains(&at(from)) && line.contains("\"sku\":\""));
    let moved = moved.map(|line| line.replace(&at(from), &at(to)) + "\n").collect::<String>();
    import((settings, effective), moved).await
}

async fn import(
    (settings, effective): (&Settings, &Effective),
    text: String,
) -> Result<(), Failure> {
    let pieces = stream::iter([Ok::<_, io::Error>(Bytes::from(text))]);
    let parser = Parser::new(Format::Ndjson, settings.shop.currency);
    let imported = Box::pin(product::import_from(&settings.product, parser, pieces)).await;
    let report = imported.map_err(|error| effective.blame(Role::Product.store(), error))??;
    match report.errors.first() {
        Some(wrong) => {
            Err(Failure::Other(format!("line {} of the catalogue: {}", wrong.line, wrong.detail)))
        }
        None => Ok(()),
    }
}

/// The lines of an import, with pictures at `gateway` and prices in `currency`.
fn lines(gateway: &str, currency: Currency) -> Result<Vec<String>, Failure> {
    let line = |text: &str| {
        let mut product = serde_json::from_str::<Map<String, Value>>(text)?;
        let text_of = |name: &str| product.get(name).and_then(Value::as_str).unwrap_or_default();
        let picture = picture(gateway, text_of("category"), text_of("name"));
        product.insert("images".to_owned(), json!(picture.as_slice()));
        if currency.decimals() == 0 {
            let price = product.get("price").and_then(Value::as_f64).unwrap_or_default();
            product.insert("price".to_owned(), json!((price * 100.0).round() as i64));
        }
        Ok(format!("{}\n", serde_json::to_string(&product)?))
    };
    let lines = PRODUCTS.lines().map(line).collect::<Result<Vec<_>, serde_json::Error>>();
    lines.map_err(|error| Failure::Other(format!("the catalogue: {error}")))
}

/// The URL of the picture that `gateway` draws of a product.
fn picture(gateway: &str, category: &str, name: &str) -> Option<String> {
    let mut url = Url::parse(gateway).ok()?;
    let file = format!("{name}.svg");
    url.path_segments_mut().ok()?.extend(["shop", "pictures", category, &file]);
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const GATEWAY: &str = "http://127.0.0.1:8000";

    fn products(currency: &str) -> Vec<Map<String, Value>> {
        let currency = Currency::try_from(currency.to_owned()).unwrap();
        let lines = lines(GATEWAY, currency).unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn the_catalogue_has_something_of_everything() {
        let products = products("EUR");
        assert!((110..=130).contains(&products.len()), "{}", products.len());
        let mut categories = BTreeMap::<&str, usize>::new();
        for product in &products {
            *categories.entry(product["category"].as_str().unwrap()).or_default() += 1;
        }
        assert!((8..=10).contains(&categories.len()), "{categories:?}");
        assert!(categories.values().all(|count| *count >= 8), "{categories:?}");
        let unique = |field: &str| {
            products.iter().map(|product| product[field].to_string()).collect::<BTreeSet<_>>().len()
        };
        assert_eq!([unique("sku"), unique("name"), unique("images")], [products.len(); 3]);
        let stock = |product: &Map<String, Value>| product.get("stock").map(Value::as_i64);
        let count = |matches: fn(Option<i64>) -> bool| {
            products.iter().filter(|product| matches(stock(product).flatten())).count()
        };
        assert!(count(|stock| stock.is_none()) >= 5, "some are not counted");
        assert!(count(|stock| stock == Some(0)) >= 3, "some are out of stock");
        assert!(count(|stock| matches!(stock, Some(1..=4))) >= 6, "of some few are left");
        let is_rtl = |letter: char| ('\u{590}'..='\u{6ff}').contains(&letter);
        let names = products.iter().map(|product| product["name"].as_str().unwrap());
        assert!(names.clone().filter(|name| name.contains(is_rtl)).count() >= 3);
        assert!(names.filter(|name| name.contains(['é', 'ü', 'ø', 'ã', 'ñ'])).count() >= 3);
    }

    #[test]
    fn prices_are_whole_where_the_currency_is() {
        let all_whole = |currency: &str| {
            let is_whole = |product: &Map<String, Value>| product["price"].is_i64();
            products(currency).iter().all(is_whole)
        };
        assert!(all_whole("JPY") && !all_whole("EUR"));
    }

    #[test]
    fn pictures_are_urls_of_the_gateway() {
        let url = picture(GATEWAY, "Home & Light", "Lämpchen 100%").unwrap();
        let wanted = "/shop/pictures/Home%20&%20Light/L%C3%A4mpchen%20100%25.svg";
        assert_eq!(url, format!("{GATEWAY}{wanted}"));
    }
}
