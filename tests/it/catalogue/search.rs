//! Filters, orders and searches: both back ends give the pages that a plain list in memory has.

use std::cmp::Reverse;

use awc::http::Method;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::support::{Client, Shop, Storage, Topology};

const WORDS: [&str; 12] = [
    "lamp",
    "Lampshade",
    "Große",
    "grosse",
    "Straße",
    "desk",
    "Desktop",
    "İstanbul",
    "café",
    "CAFE",
    "東京",
    "🦊",
];
const CATEGORIES: [&str; 3] = ["Home", "Office & Co.", "Büro"];
const TAGS: [&str; 3] = ["new", "blue", "sale 50 %"];

/// A product as the model knows it, without what words look like.
#[derive(Clone, Debug)]
struct Item {
    id: String,
    name: String,
    price: u32,
    category: Option<String>,
    tags: Vec<String>,
    description: Option<String>,
    in_stock: bool,
}

fn sentence(words: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&WORDS[..]), words).prop_map(|words| words.join(" "))
}

fn item() -> impl Strategy<Value = Item> {
    (
        sentence(1..4),
        // Prices come several times.
        0..8_u32,
        prop::option::of(prop::sample::select(&CATEGORIES[..])),
        prop::sample::subsequence(&TAGS[..], 0..3),
        prop::option::of(sentence(1..5)),
        any::<bool>(),
    )
        .prop_map(|(name, price, category, tags, description, in_stock)| Item {
            id: String::new(),
            name,
            price,
            category: category.map(str::to_owned),
            tags: tags.into_iter().map(str::to_owned).collect(),
            description,
            in_stock,
        })
}

/// What is asked for.
#[derive(Clone, Debug)]
struct Asked {
    words: Option<String>,
    category: Option<String>,
    tag: Option<String>,
    least: Option<u32>,
    most: Option<u32>,
    in_stock: Option<bool>,
    sort: Option<&'static str>,
    limit: usize,
}

fn asked() -> impl Strategy<Value = Asked> {
    let begins = prop::sample::select(
        &[
            "la", "lamp", "LAMPS", "gros", "strass", "STRAẞ", "desk", "ist", "cafe", "Café", "東",
            "京", "🦊", "ne", "sa", "ho", "bu",
        ][..],
    );
    (
        prop::option::of(prop::collection::vec(begins, 1..3).prop_map(|words| words.join(" "))),
        prop::option::weighted(0.3, prop::sample::select(&CATEGORIES[..])),
        prop::option::weighted(0.3, prop::sample::select(&TAGS[..])),
        prop::option::weighted(0.3, 0..5_u32),
        prop::option::weighted(0.3, 4..9_u32),
        prop::option::weighted(0.3, any::<bool>()),
        prop::option::of(prop::sample::select(
            &["newest", "price", "-price", "name", "popular"][..],
        )),
        1..9_usize,
    )
        .prop_map(|(words, category, tag, least, most, in_stock, sort, limit)| Asked {
            words,
            category: category.map(str::to_owned),
            tag: tag.map(str::to_owned),
            least,
            most: most.filter(|most| least.is_none_or(|least| least <= *most)),
            in_stock,
            sort,
            limit,
        })
}

/// The words of these tests as they compare: without case and accents, an ideograph by itself.
fn words(text: &str) -> Vec<String> {
    let plain = text.replace(['ß', 'ẞ'], "ss").replace('İ', "i").replace(['é', 'É'], "e");
    let plain = plain.replace('ü', "u").to_lowercase();
    plain
        .split(|letter: char| !letter.is_alphanumeric() && letter != '🦊')
        .flat_map(|word| match word.chars().any(|letter| letter > '\u{2fff}') {
            true => word.chars().map(String::from).collect(),
            false => vec![word.to_owned()],
        })
        .filter(|word| !word.is_empty())
        .collect()
}

fn name_key(name: &str) -> String {
    name.replace('ß', "ss").replace('İ', "i").replace('é', "e").to_lowercase()
}

impl Asked {
    fn path(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in [
            ("q", self.words.clone()),
            ("category", self.category.clone()),
            ("tag", self.tag.clone()),
            ("minPrice", self.least.map(|price| price.to_string())),
            ("maxPrice", self.most.map(|price| price.to_string())),
            ("inStock", self.in_stock.map(|in_stock| in_stock.to_string())),
            ("sort", self.sort.map(str::to_owned)),
            ("limit", Some(self.limit.to_string())),
        ] {
            query.extend_pairs(value.map(|value| (name, value)));
        }
        format!("/products?{}", query.finish())
    }

    /// The ids that it is to give of `items`, which are in the order in which they were added.
    fn expected(&self, items: &[Item]) -> Vec<String> {
        let begins = |there: &[String]| {
            let wanted = words(self.words.as_deref().unwrap_or_default());
            wanted.iter().all(|word| there.iter().any(|known| known.starts_with(word)))
        };
        let mut found = items
            .iter()
            .rev()
            .filter(|item| {
                let texts = item.tags.iter().chain(&item.category).chain(&item.description);
                let all =
                    texts.chain([&item.name]).flat_map(|text| words(text)).collect::<Vec<_>>();
                begins(&all)
                    && self
                        .category
                        .as_ref()
                        .is_none_or(|name| item.category.as_ref() == Some(name))
                    && self.tag.as_ref().is_none_or(|tag| item.tags.contains(tag))
                    && self.least.is_none_or(|least| item.price >= least)
                    && self.most.is_none_or(|most| item.price <= most)
                    && self.in_stock.is_none_or(|in_stock| item.in_stock == in_stock)
            })
            .collect::<Vec<_>>();
        match self.sort {
            Some("price") => {
                found.reverse();
                found.sort_by_key(|item| item.price);
            }
            Some("-price") => found.sort_by_key(|item| Reverse(item.price)),
            Some("name") => found.sort_by_key(|item| name_key(&item.name)),
            None if self.words.is_some() => found.sort_by_key(|item| !begins(&words(&item.name))),
            _ => {}
        }
        found.into_iter().map(|item| item.id.clone()).collect()
    }
}

fn body(item: &Item) -> Value {
    let mut body = json!({ "name": item.name, "price": item.price, "tags": item.tags });
    let fields = [("category", &item.category), ("description", &item.description)];
    for (name, value) in fields {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    if !item.in_stock {
        body["stock"] = json!(0);
    }
    body
}

/// Values of `strategy`, the same ones each time.
fn draw<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>, seed: u8, count: usize) -> Vec<T> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

async fn agrees(client: &Client, items: &[Item], asked: &Asked) {
    let found = client.walk(&asked.path()).await;
    let names = |ids: &[String]| {
        let name = |id: &String| {
            items.iter().find(|item| item.id == *id).map(|item| (item.name.clone(), item.price))
        };
        ids.iter().map(name).collect::<Vec<_>>()
    };
    let expected = asked.expected(items);
    assert_eq!(
        found,
        expected,
        "{asked:?}\nfound {:?}\nexpected {:?}",
        names(&found),
        names(&expected)
    );
}

each_storage!(pages_are_those_of_a_plain_list);
async fn pages_are_those_of_a_plain_list(storage: Storage) {
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &[]);
    let client = shop.admin().await;
    let mut items = draw(item(), 17, 60);
    for item in &mut items {
        let added = client.post("/products", body(item)).await;
        assert_eq!(added.status, 201, "{added:?}");
        item.id = added.json()["id"].as_str().unwrap().to_owned();
    }
    for asked in draw(asked(), 1, 150) {
        agrees(&client, &items, &asked).await;
    }
    // Others change, and some go.
    for (n, new) in draw(item(), 18, 30).into_iter().enumerate() {
        let (id, path) = (items[n].id.clone(), format!("/products/{}", items[n].id));
        let headers = [("content-type", "application/json")];
        let put = client.send(Method::PUT, &path, &headers, body(&new).to_string()).await;
        assert_eq!(put.status, 200, "{put:?}");
        items[n] = Item { id, ..new };
    }
    for item in items.drain(20..30) {
        let path = format!("/products/{}", item.id);
        assert_eq!(client.send(Method::DELETE, &path, &[], "").await.status, 204);
    }
    for asked in draw(asked(), 2, 150) {
        agrees(&client, &items, &asked).await;
    }
}

/// Every product behind `path`, page by page.
async fn products(client: &Client, path: &str) -> Vec<Value> {
    let (mut all, mut target) = (Vec::new(), Some(path.to_owned()));
    while let Some(path) = target {
        let page = client.get(&path).await;
        assert_eq!(page.status, 200, "{path}: {page:?}");
        all.extend(page.json().as_array().unwrap().clone());
        target = page.next();
    }
    all
}

#[actix_rt::test]
async fn few_of_many_are_found_wherever_they_are() {
    let shop = Shop::start(Topology::OneProcess);
    assert!(shop.run(&["seed", "--products", "15000"]).status.success());
    let client = shop.admin().await;
    let all = products(&client, "/products?limit=100").await;
    assert_eq!(all.len(), 15_000);
    // The oldest are another category, and some of them are out of stock.
    for (n, product) in all.iter().rev().take(8).enumerate() {
        let path = format!("/products/{}", product["id"].as_str().unwrap());
        let headers = [("content-type", "application/merge-patch+json")];
        let moved = client.send(Method::PATCH, &path, &headers, r#"{"category":"Rare"}"#).await;
        assert_eq!(moved.status, 200, "{moved:?}");
        let stock = json!({ "onHand": n % 2 }).to_string();
        let counted = client.send(Method::PATCH, &format!("{path}/stock"), &headers, stock).await;
        assert_eq!(counted.status, 200, "{counted:?}");
    }
    let all = products(&client, "/products?limit=100").await;
    let price = |product: &Value| product["price"].as_f64().unwrap();
    let name = |product: &Value| product["name"].as_str().unwrap().to_lowercase();
    for sort in ["newest", "price", "-price", "name", "popular"] {
        for (query, least, most, category, in_stock) in [
            ("minPrice=100&maxPrice=101", 100.0, 101.0, None, None),
            ("minPrice=20&maxPrice=900", 20.0, 900.0, None, None),
            ("category=Rare", 0.0, f64::MAX, Some("Rare"), None),
            ("category=Rare&minPrice=100", 100.0, f64::MAX, Some("Rare"), None),
            ("category=Rare&inStock=true", 0.0, f64::MAX, Some("Rare"), Some(true)),
            ("inStock=false", 0.0, f64::MAX, None, Some(false)),
            ("inStock=false&maxPrice=300", 0.0, 300.0, None, Some(false)),
            ("category=None", 0.0, f64::MAX, Some("None"), None),
        ] {
            let path = format!("/products?{query}&sort={sort}&limit=100");
            let found = products(&client, &path).await;
            let passes = |product: &&Value| {
                (least..=most).contains(&price(product))
                    && category.is_none_or(|category| product["category"] == category)
                    && in_stock.is_none_or(|in_stock| product["inStock"] == in_stock)
            };
            let mut expected = all.iter().filter(passes).cloned().collect::<Vec<_>>();
            match sort {
                "price" => {
                    expected.reverse();
                    expected.sort_by(|one, other| price(one).total_cmp(&price(other)));
                }
                "-price" => expected.sort_by(|one, other| price(other).total_cmp(&price(one))),
                "name" => expected.sort_by_key(name),
                _ => {}
            }
            let ids = |products: &[Value]| {
                products.iter().map(|product| product["id"].clone()).collect::<Vec<_>>()
            };
            assert_eq!(ids(&found), ids(&expected), "{path}");
        }
    }
}

each_storage!(a_cursor_belongs_to_its_filter_and_its_order);
async fn a_cursor_belongs_to_its_filter_and_its_order(storage: Storage) {
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &[]);
    let client = shop.admin().await;
    for n in 0..4 {
        client
            .post(
                "/products",
                json!({ "name": format!("Lamp {n}"), "price": 1, "category": "Home" }),
            )
            .await;
    }
    let queries = [
        "limit=1",
        "sort=price&limit=1",
        "sort=-price&limit=1",
        "sort=name&limit=1",
        "q=lamp&limit=1",
        "q=lam&limit=1",
        "category=Home&limit=1",
        "minPrice=1&limit=1",
        "inStock=true&limit=1",
        "q=lamp&sort=newest&limit=1",
    ];
    for own in queries {
        let next = client.get(&format!("/products?{own}")).await.next().unwrap();
        assert_eq!(client.get(&next).await.status, 200, "{own}");
        let cursor = next.split("cursor=").nth(1).unwrap();
        for other in queries.iter().filter(|other| **other != own) {
            let answer = client.get(&format!("/products?{other}&cursor={cursor}")).await;
            assert_eq!(
                (answer.status, answer.problem().1),
                (422, vec!["cursor".to_owned()]),
                "{own} {other}"
            );
        }
    }
}

each_storage!(categories_are_counted_after_each_write);
async fn categories_are_counted_after_each_write(storage: Storage) {
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &[]);
    let client = shop.admin().await;
    let categories = async || {
        let answer = client.get("/categories").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    assert_eq!(categories().await, json!([]));
    let mut paths = Vec::new();
    for category in [Some("Office"), Some("Home"), Some("Home"), None] {
        let mut body = json!({ "name": "Lamp", "price": 1 });
        if let Some(category) = category {
            body["category"] = json!(category);
        }
        paths.push(client.post("/products", body).await.header("location").to_owned());
    }
    let expected = json!([{ "name": "Home", "products": 2 }, { "name": "Office", "products": 1 }]);
    assert_eq!(categories().await, expected);
    assert_eq!(client.get("/categories").await.header("x-cache"), "HIT");
    let headers = [("content-type", "application/merge-patch+json")];
    let moved = client.send(Method::PATCH, &paths[0], &headers, r#"{"category":"Home"}"#).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    assert_eq!(categories().await, json!([{ "name": "Home", "products": 3 }]));
    assert_eq!(client.send(Method::DELETE, &paths[1], &[], "").await.status, 204);
    let none = client.send(Method::PATCH, &paths[2], &headers, r#"{"category":null}"#).await;
    assert_eq!(none.status, 200, "{none:?}");
    assert_eq!(categories().await, json!([{ "name": "Home", "products": 1 }]));
    assert_eq!(client.get("/categories?limit=1").await.status, 422);
}

#[actix_rt::test]
async fn what_cannot_be_asked_for_is_named() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    for (query, field) in [
        ("q=", "q"),
        ("q=a", "q"),
        ("q=vitamin%20c", "q"),
        ("q=%26", "q"),
        ("minPrice=2&maxPrice=1", "minPrice"),
        ("minPrice=x", "minPrice"),
        ("minPrice=1.001", "minPrice"),
        ("maxPrice=-1", "maxPrice"),
        ("maxPrice=1e3", "maxPrice"),
        ("inStock=yes", "inStock"),
        ("sort=cheapest", "sort"),
        ("sort=relevance", "sort"),
        ("category=", "category"),
        ("tag=a%0Ab", "tag"),
        ("colour=blue", "colour"),
        ("sort=price&sort=name", "sort"),
    ] {
        let answer = client.get(&format!("/products?{query}")).await;
        assert_eq!((answer.status, answer.problem().1), (422, vec![field.to_owned()]), "{query}");
    }
    for query in ["minPrice=0&maxPrice=0", "q=%E6%9D%B1", "q=lamp&sort=relevance", "sort=newest"] {
        assert_eq!(client.get(&format!("/products?{query}")).await.status, 200, "{query}");
    }
}
