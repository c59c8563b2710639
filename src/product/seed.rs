//! A sample catalogue: the same products every time, except for their ETags.

use bson::oid::ObjectId;
use chrono::DateTime;
use serde_json::Map;

use super::store::Database;
use crate::config::{self, Currency};
use crate::contract::{Money, Product, Stock, Version};
use crate::storage::SetupError;

/// How many products are added per transaction.
const BATCH: u32 = 1000;
/// The time of the first product: 2024-01-01. Each further product is a second later.
const EPOCH: i64 = 1_704_067_200;

const QUALITIES: [&str; 12] = [
    "Compact",
    "Quiet",
    "Rugged",
    "Refurbished",
    "Wireless",
    "Foldable",
    "Solar",
    "Modular",
    "Vintage",
    "Professional",
    "Pocket",
    "Heavy-Duty",
];
const MATERIALS: [&str; 10] = [
    "Aluminium",
    "Walnut",
    "Carbon",
    "Ceramic",
    "Steel",
    "Bamboo",
    "Leather",
    "Glass",
    "Titanium",
    "Wool",
];
/// Tags of products of any kind.
const TAGS: [&str; 6] = ["new", "sale", "gift", "handmade", "limited", "recycled"];

/// Things: their names, usual prices in minor units, what their SKUs begin with, their categories, what they are good for,
/// and their tags.
type Thing = (&'static str, u64, &'static str, &'static str, &'static str, [&'static str; 2]);
const THINGS: [Thing; 16] = [
    (
        "Keyboard",
        9_900,
        "KEY",
        "Computers",
        "for long letters and short commands",
        ["desk", "typing"],
    ),
    (
        "Desk Lamp",
        4_900,
        "LMP",
        "Home",
        "with a warm light that keeps the rest of the room dark",
        ["desk", "light"],
    ),
    (
        "Laptop",
        129_900,
        "LAP",
        "Computers",
        "that starts before the kettle boils",
        ["travel", "work"],
    ),
    ("Backpack", 7_900, "BAG", "Travel", "with room for a weekend", ["travel", "school"]),
    ("Coffee Grinder", 6_500, "GRD", "Kitchen", "for beans of any roast", ["coffee", "breakfast"]),
    ("Headphones", 14_900, "HPH", "Audio", "that leave the street outside", ["music", "travel"]),
    ("Office Chair", 34_900, "CHR", "Furniture", "for those who sit all day", ["desk", "work"]),
    ("Water Bottle", 2_400, "BTL", "Outdoor", "that keeps cold for a day", ["sports", "school"]),
    ("Monitor", 27_900, "MON", "Computers", "with colours as they are printed", ["desk", "work"]),
    ("Notebook", 900, "NTB", "Stationery", "with paper that takes ink", ["school", "work"]),
    (
        "Bicycle",
        89_900,
        "BIC",
        "Outdoor",
        "for the way to work and the way around the lake",
        ["sports", "city"],
    ),
    (
        "Camera",
        64_900,
        "CAM",
        "Photography",
        "for what moves and for what stays",
        ["travel", "holiday"],
    ),
    ("Kettle", 3_900, "KTL", "Kitchen", "with a spout that does not drip", ["breakfast", "tea"]),
    (
        "Phone Stand",
        1_500,
        "STD",
        "Accessories",
        "that holds any phone, upright or across",
        ["desk", "phone"],
    ),
    (
        "Speaker",
        11_900,
        "SPK",
        "Audio",
        "that fills a room and not the next one",
        ["music", "party"],
    ),
    (
        "Watch",
        19_900,
        "WCH",
        "Accessories",
        "that shows the time and nothing else",
        ["city", "present"],
    ),
];

/// Adds the missing ones of the first `count` products, with prices in `currency`, to the store that `options` name. Reports to `progress` after each
/// batch how many products it has processed. Returns how many were added.
///
/// # Errors
/// When the store cannot be opened or fails; what was added before stays.
pub async fn seed(
    options: &config::Product,
    currency: Currency,
    count: u32,
    progress: impl Fn(u32),
) -> Result<usize, SetupError> {
    let place = Database::find(options).await?;
    place.prepare().await?;
    let store = place.open()?;
    let mut added = 0;
    for first in (0..count).step_by(BATCH as usize) {
        let last = count.min(first + BATCH);
        let batch = (first..last).map(|number| product(number, currency)).collect::<Vec<_>>();
        added += store.insert_missing(batch).await?;
        progress(last);
    }
    Ok(added)
}

fn product(number: u32, currency: Currency) -> Product {
    let seconds = EPOCH + i64::from(number);
    let mut dice = Dice(u64::from(number));
    let (thing, about, code, category, purpose, tags) = THINGS[dice.roll(THINGS.len())];
    let quality = QUALITIES[dice.roll(QUALITIES.len())];
    let material = MATERIALS[dice.roll(MATERIALS.len())];
    // 70 to 130 % of the usual price, ending in 0, 50, 90 or 99.
    let price = about * (70 + dice.roll(61) as u64) / 100;
    let (whole, part) = (price / 100 * 100, [0, 50, 90, 99][dice.roll(4)]);
    let price = if currency.decimals() == 0 { whole } else { whole + part };
    let description =
        format!("{quality} {} of {} {purpose}.", thing.to_lowercase(), material.to_lowercase());
    let mut id = [0; 12];
    id[..4].copy_from_slice(&(seconds as u32).to_be_bytes());
    id[4..8].copy_from_slice(b"seed");
    id[8..].copy_from_slice(&number.to_be_bytes());
    let time = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    Product {
        id: ObjectId::from_bytes(id),
        name: format!("{quality} {material} {thing} {}", 100 + number % 900),
        // Far below the limit.
        price: Money::from_minor(price as i64)
            .unwrap_or_else(|_| unreachable!("{price} is an amount")),
        description: Some(description),
        category: Some(category.to_owned()),
        tags: tags.into_iter().chain(TAGS.get(dice.roll(9)).copied()).map(str::to_owned).collect(),
        sku: Some(format!("{code}-{number:06}")),
        images: Vec::new(),
        attributes: Map::new(),
        stock: Stock { on_hand: pieces(&mut dice), reserved: 0 },
        popularity: 0,
        created_at: time,
        updated_at: time,
        // New each time, because a removed product may be seeded again.
        version: Version::first(),
    }
}

/// How many pieces there are: of one product in twelve none, of another nobody counts them.
fn pieces(dice: &mut Dice) -> Option<i64> {
    match dice.roll(12) {
        0 => Some(0),
        1 => None,
        _ => Some(1 + dice.roll(250) as i64),
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers on every machine and in every version.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_euro(number: u32) -> Product {
        product(number, Currency::try_from("EUR".to_owned()).unwrap())
    }

    #[test]
    fn prices_are_whole_where_the_currency_is() {
        let yen = Currency::try_from("JPY".to_owned()).unwrap();
        assert!(
            (0..100).map(|number| product(number, yen).price.minor()).all(|minor| yen.has(minor))
        );
    }

    #[test]
    fn the_catalogue_never_changes() {
        let names = (0..3).map(in_euro).map(|p| format!("{} {} {}", p.id, p.name, p.price.minor()));
        insta::assert_snapshot!(names.collect::<Vec<_>>().join("\n"), @r"
        659200807365656400000000 Compact Wool Watch 100 19599
        659200817365656400000001 Modular Aluminium Desk Lamp 101 3550
        659200827365656400000002 Rugged Walnut Speaker 102 14150
        ");
        let details = (0..3).map(in_euro).map(|product| {
            let (category, sku) = (product.category.unwrap(), product.sku.unwrap());
            let stock = product.stock.on_hand;
            format!(
                "{category} {sku} {stock:?} {:?} {}",
                product.tags,
                product.description.unwrap()
            )
        });
        insta::assert_snapshot!(details.collect::<Vec<_>>().join("\n"), @r#"
        Accessories WCH-000000 Some(191) ["city", "present", "handmade"] Compact watch of wool that shows the time and nothing else.
        Home LMP-000001 Some(34) ["desk", "light", "recycled"] Modular desk lamp of aluminium with a warm light that keeps the rest of the room dark.
        Audio SPK-000002 Some(6) ["music", "party"] Rugged speaker of walnut that fills a room and not the next one.
        "#);
    }
}
