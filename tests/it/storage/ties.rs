//! Products that were added at the same time, or at times that few shops know: they have one order on both back ends.

use super::copy::{copy, execute};
use crate::support::{Kind, Process, Shop, Storage, Topology};

/// Makes all of one price and one name, and of few times: some of one microsecond, others of 1960 and of 2200.
const TIES: &str = "
    UPDATE products SET price = 500, name = 'Lamp', on_hand = NULL,
        created_at = 1700000000000000 + unicode(substr(id, 24)) * 7 % 13;
    UPDATE products SET created_at = CASE WHEN id LIKE '%7' THEN -315619200000000 ELSE 7258118400000000 END
        WHERE id LIKE '%1' AND id > '65920082' OR id LIKE '%7';
";

each_storage!(products_of_one_microsecond_have_one_order);
async fn products_of_one_microsecond_have_one_order(storage: Storage) {
    let mut shop = Shop::start_on(Topology::OneProcess, storage.servers(), &[]);
    let folder = tempfile::TempDir::new().unwrap();
    let mut seed = Process::command(folder.path());
    seed.args(["seed", "--products", "120"]);
    assert!(Process::run(seed).status.success());
    let file = folder.path().join("data/product.db");
    execute(&file, TIES);
    let to = match storage {
        Storage::Embedded => format!("sqlite://{}/data/product.db", shop.folder.path().display()),
        _ => shop.server(Kind::Mongo).url(),
    };
    let (well, text) = copy(folder.path(), "sqlite://data/product.db", &to);
    assert!(well, "{text}");
    let client = shop.gateway();
    let newest = client.walk("/products?limit=7").await;
    assert_eq!(newest.len(), 120);
    let mut oldest = newest.clone();
    oldest.reverse();
    let times = async |id: &str| {
        let product = client.get(&format!("/products/{id}")).await.json();
        (product["createdAt"].as_str().unwrap().to_owned(), id.to_owned())
    };
    let mut keys = Vec::new();
    for id in &newest {
        keys.push(times(id).await);
    }
    assert!(keys.is_sorted_by(|one, other| one > other), "{keys:?}");
    for (query, expected) in [
        ("sort=price", &oldest),
        ("sort=-price", &newest),
        ("sort=name", &newest),
        ("sort=popular", &newest),
        ("inStock=true", &newest),
        ("q=lamp", &newest),
        ("q=lamp&sort=newest", &newest),
        ("q=lamp&sort=price", &oldest),
        ("q=lamp&sort=name", &newest),
        ("minPrice=5&maxPrice=5&sort=price", &oldest),
    ] {
        let found = client.walk(&format!("/products?{query}&limit=7")).await;
        assert_eq!(found, *expected, "{query}");
    }
}
