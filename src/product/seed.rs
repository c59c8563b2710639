//! A sample catalogue: the same products every time, except for their ETags.

use bson::oid::ObjectId;
use chrono::DateTime;
use serde_json::Map;

use super::store::Database;
use crate::config;
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
/// Things and their usual prices in minor units.
const THINGS: [(&str, u64); 16] = [
    ("Keyboard", 9_900),
    ("Desk Lamp", 4_900),
    ("Laptop", 129_900),
    ("Backpack", 7_900),
    ("Coffee Grinder", 6_500),
    ("Headphones", 14_900),
    ("Office Chair", 34_900),
    ("Water Bottle", 2_400),
    ("Monitor", 27_900),
    ("Notebook", 900),
    ("Bicycle", 89_900),
    ("Camera", 64_900),
    ("Kettle", 3_900),
    ("Phone Stand", 1_500),
    ("Speaker", 11_900),
    ("Watch", 19_900),
];

/// Adds the missing ones of the first `count` products to the store that `options` name. Reports to `progress` after each
/// batch how many products it has processed. Returns how many were added.
///
/// # Errors
/// When the store cannot be opened or fails; what was added before stays.
pub async fn seed(
    options: &config::Product,
    count: u32,
    progress: impl Fn(u32),
) -> Result<usize, SetupError> {
    let place = Database::find(options).await?;
    place.prepare().await?;
    let store = place.open()?;
    let mut added = 0;
    for first in (0..count).step_by(BATCH as usize) {
        let last = count.min(first + BATCH);
        let batch = (first..last).map(product).collect::<Vec<_>>();
        added += store.insert_missing(batch).await?;
        progress(last);
    }
    Ok(added)
}

fn product(number: u32) -> Product {
    let seconds = EPOCH + i64::from(number);
    let mut dice = Dice(u64::from(number));
    let (thing, about) = THINGS[dice.roll(THINGS.len())];
    let quality = QUALITIES[dice.roll(QUALITIES.len())];
    let material = MATERIALS[dice.roll(MATERIALS.len())];
    // 70 to 130 % of the usual price, ending in 0, 50, 90 or 99.
    let price = about * (70 + dice.roll(61) as u64) / 100;
    let price = price / 100 * 100 + [0, 50, 90, 99][dice.roll(4)];
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
        description: None,
        category: None,
        tags: Vec::new(),
        sku: None,
        images: Vec::new(),
        attributes: Map::new(),
        stock: Stock::default(),
        popularity: 0,
        created_at: time,
        updated_at: time,
        // New each time, because a removed product may be seeded again.
        version: Version::first(),
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

    #[test]
    fn the_catalogue_never_changes() {
        let names = (0..3).map(product).map(|p| format!("{} {} {}", p.id, p.name, p.price.minor()));
        insta::assert_snapshot!(names.collect::<Vec<_>>().join("\n"), @r"
        659200807365656400000000 Compact Wool Watch 100 19599
        659200817365656400000001 Modular Aluminium Desk Lamp 101 3550
        659200827365656400000002 Rugged Walnut Speaker 102 14150
        ");
    }
}
