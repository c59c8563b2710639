//! Places, and how SQLite finds a page.

use bson::oid::ObjectId;
use chrono::DateTime;
use diesel::prelude::*;
use diesel::sql_types::Text;
use serde_json::Map;
use tempfile::TempDir;

use super::super::super::super::page::{Filter, Position, Rank, Sort};
use super::super::{insert, insert_with, live, migrate, products};
use super::conditions::bound;
use super::full_text::texts;
use super::page::Page;
use super::place::Start;
use super::{Additions, complete, full_text, is_complete, listing, page, place, remove};
use crate::contract::{Money, Product, Stock, Version};

fn file() -> (TempDir, SqliteConnection) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("product.db");
    migrate(&path).unwrap();
    let mut file = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    diesel::sql_query("PRAGMA synchronous = OFF").execute(&mut file).unwrap();
    (folder, file)
}

/// A lamp that was added at `created_at`.
fn product(created_at: i64, id: u64) -> Product {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&id.to_be_bytes());
    let time = DateTime::from_timestamp_micros(created_at).unwrap();
    Product {
        id: ObjectId::from_bytes(bytes),
        name: "Lamp".to_owned(),
        price: Money::from_minor(100).unwrap(),
        description: None,
        category: Some("Home".to_owned()),
        tags: Vec::new(),
        sku: None,
        images: Vec::new(),
        attributes: Map::new(),
        stock: Stock::default(),
        popularity: 0,
        created_at: time,
        updated_at: time,
        version: Version::first(),
    }
}

/// What comes first by age comes first, and of the same age by id.
fn sorted(products: &[Product]) -> Vec<String> {
    let mut keys = products
        .iter()
        .map(|product| (product.created_at, product.id.to_hex()))
        .collect::<Vec<_>>();
    keys.sort();
    keys.into_iter().map(|(_, id)| id).collect()
}

fn listed(file: &mut SqliteConnection) -> Vec<String> {
    listing::table.order_by(listing::seq).select(listing::id).load(file).unwrap()
}

/// The ids of all pages of two under `sort`; with words if it `searches`.
fn walk(file: &mut SqliteConnection, sort: Sort, searches: bool, all: &[Product]) -> Vec<String> {
    let words = if searches { vec!["lam".to_owned()] } else { Vec::new() };
    let filter = Filter { sort, words, ..Filter::default() };
    let (mut ids, mut position) = (Vec::<String>::new(), None);
    loop {
        let found = page(file, &filter, position.as_ref(), 2).unwrap();
        let Some(last) = found.last() else { return ids };
        let last = all.iter().find(|product| product.id.to_hex() == *last).unwrap();
        let rank = match sort {
            Sort::Newest => Rank::None,
            Sort::Name => Rank::Text("lamp".to_owned()),
            Sort::Popular | Sort::Relevance => Rank::Number(0),
            Sort::Price | Sort::PriceDescending => Rank::Number(100),
        };
        let created_at = last.created_at.timestamp_micros();
        position = Some(Position { rank, created_at, id: last.id });
        ids.extend(found);
    }
}

const SORTS: [Sort; 5] =
    [Sort::Newest, Sort::Price, Sort::PriceDescending, Sort::Name, Sort::Popular];

#[test]
fn places_are_in_the_order_of_age_and_id_however_products_come() {
    let (_folder, mut file) = file();
    let file = &mut file;
    let mut dice = fastrand::Rng::with_seed(17);
    let far = 200 * 366 * 86_400 * 1_000_000;
    let times = [-far, -2 * far / 3, -1, 0, 5, 5, 5, 6, 7, far, far];
    let mut all = Vec::new();
    for id in 0..250 {
        let new = product(*dice.choice(&times).unwrap(), dice.u64(..1_000_000) * 1000 + id);
        insert(file, &new).unwrap();
        all.push(new);
        if dice.u8(..5) == 0 {
            let gone = all.swap_remove(dice.usize(..all.len()));
            let (_, place) = live(file, gone.id).unwrap().unwrap();
            remove(file, place.unwrap()).unwrap();
            diesel::delete(products::table.find(gone.id.to_hex())).execute(file).unwrap();
        }
    }
    let oldest_first = sorted(&all);
    let newest_first = oldest_first.iter().rev().cloned().collect::<Vec<_>>();
    assert_eq!(listed(file), oldest_first);
    for sort in SORTS {
        let expected = if sort == Sort::Price { &oldest_first } else { &newest_first };
        assert_eq!(walk(file, sort, false, &all), *expected, "{sort:?}");
        assert_eq!(walk(file, sort, true, &all), *expected, "{sort:?} among lamps");
    }
    assert_eq!(walk(file, Sort::Relevance, true, &all), newest_first);
}

#[test]
fn a_microsecond_may_have_more_products_than_places() {
    let (_folder, mut file) = file();
    let file = &mut file;
    let mut all = (0..2200).map(|id| product(5, 2 * id)).collect::<Vec<_>>();
    all.extend([product(6, 1), product(4, 9999), product(5, 4001), product(7, 3), product(6, 7)]);
    for product in &all {
        insert(file, product).unwrap();
    }
    assert_eq!(listed(file), sorted(&all));
}

#[test]
fn words_that_begin_alike_are_found_however_many_they_are() {
    let (_folder, mut file) = file();
    let file = &mut file;
    let words = vec!["lampsh".to_owned()];
    let mut newest_first = Vec::new();
    for n in 0..40_u32 {
        let mut new = product(i64::from(n), n.into());
        new.name = format!("Lampsh{n:02}");
        insert(file, &new).unwrap();
        newest_first.insert(0, new.id.to_hex());
        for sort in [Sort::Newest, Sort::Relevance] {
            let filter = Filter { sort, words: words.clone(), ..Filter::default() };
            assert_eq!(page(file, &filter, None, 50).unwrap(), newest_first, "{n} {sort:?}");
        }
    }
}

/// How many bytes this thread has read from files (proc_pid_io(5)).
fn bytes_read() -> u64 {
    let counts = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
fn a_word_of_many_products_costs_no_look_at_all_of_them() {
    let (folder, mut file) = file();
    let mut additions = Additions::default();
    file.transaction(|file| {
        for n in 0..20_000 {
            insert_with(file, &product(n * 1000, n.unsigned_abs()), &mut additions).unwrap();
        }
        additions.finish(file)
    })
    .unwrap();
    let path = folder.path().join("product.db");
    let mut file = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    // "home" is in all of them, too, and was added with the first.
    let words = vec!["home".to_owned()];
    let filter = Filter { sort: Sort::Newest, words, ..Filter::default() };
    let before = bytes_read();
    assert_eq!(page(&mut file, &filter, None, 20).unwrap().len(), 20);
    let read = bytes_read() - before;
    assert!(read < 100_000, "{read} bytes of {}", std::fs::metadata(path).unwrap().len());
}

#[test]
fn words_that_an_earlier_version_has_written_are_found() {
    let (_folder, mut file) = file();
    let file = &mut file;
    complete(file).unwrap();
    let lampshade = |id: u64, name: &str| {
        let mut product = product(id.cast_signed(), id);
        product.name = name.to_owned();
        product
    };
    let words = vec!["lampsh".to_owned()];
    let filter = Filter { sort: Sort::Newest, words, ..Filter::default() };
    let mut newest_first = Vec::new();
    let mut check = |file: &mut SqliteConnection, new: Option<&Product>, has_all: bool| {
        newest_first.splice(0..0, new.map(|new| new.id.to_hex()));
        assert_eq!(page(file, &filter, None, 9).unwrap(), newest_first);
        assert_eq!(is_complete(file).unwrap(), has_all);
    };
    let first = lampshade(1, "Lampshades");
    insert(file, &first).unwrap();
    check(file, Some(&first), true);
    // As a version adds it that has no vocabulary.
    let second = lampshade(2, "Lampshade");
    let there = place(file, 2, second.id).unwrap();
    let row = (
        listing::seq.eq(there),
        listing::id.eq(second.id.to_hex()),
        listing::price.eq(second.price.minor()),
        listing::name_key.eq("lampshade"),
        listing::in_stock.eq(true),
    );
    diesel::insert_into(listing::table).values(row).execute(file).unwrap();
    full_text::add(file, there, texts(&second)).unwrap();
    check(file, Some(&second), false);
    let third = lampshade(3, "Lampshading");
    insert(file, &third).unwrap();
    check(file, Some(&third), false);
    complete(file).unwrap();
    check(file, None, true);
    let changed = diesel::update(listing::table.find(there)).set(listing::name_key.eq("lampshade"));
    changed.execute(file).unwrap();
    check(file, None, false);
}

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

#[test]
fn a_page_begins_behind_the_one_before_within_its_rank_too() {
    let (_folder, mut file) = file();
    let price = |minor| Some(Money::from_minor(minor).unwrap());
    let filters = [
        Filter::default(),
        Filter { category: Some("Home".to_owned()), ..Filter::default() },
        Filter { in_stock: Some(true), ..Filter::default() },
        Filter { min_price: price(5), max_price: price(50), ..Filter::default() },
    ];
    for (filter, sort) in filters.iter().flat_map(|filter| SORTS.map(|sort| (filter, sort))) {
        let filter = Filter { sort, ..filter.clone() };
        let rank = match sort {
            Sort::Newest => Rank::None,
            Sort::Name => Rank::Text("lamp".to_owned()),
            _ => Rank::Number(9),
        };
        let from = Some((rank, Start { above: 7, below: 7 }));
        let queries = Page { filter: &filter, from, limit: 20 }.queries();
        let (column, parts) = match sort {
            Sort::Newest => ("rowid", 1),
            Sort::Price | Sort::PriceDescending => ("price", 2),
            Sort::Name => ("name_key", 2),
            Sort::Popular | Sort::Relevance => ("popularity", 2),
        };
        assert_eq!(queries.len(), parts);
        let first = if filter.category.is_some() { "category=? AND " } else { "" };
        for (n, (sql, operands)) in queries.into_iter().enumerate() {
            let plan = bound(format!("EXPLAIN QUERY PLAN {sql}"), operands);
            let plan = plan.load::<Step>(&mut file).unwrap();
            let plan = plan.into_iter().map(|step| step.detail).collect::<Vec<_>>().join("; ");
            assert!(!plan.contains("SCAN") && !plan.contains("TEMP"), "{sql}: {plan}");
            let is_bound = match (parts, n) {
                (1, _) => plan.contains("rowid<?") || plan.contains("=? AND seq<?"),
                (_, 0) => plan.contains(&format!("({first}{column}=? AND seq")),
                _ => ["<", ">"].iter().any(|way| plan.contains(&format!("({first}{column}{way}"))),
            };
            assert!(is_bound, "{sql}: {plan}");
        }
    }
}
