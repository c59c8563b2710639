//! What a process tells of its stores and of their connections.

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use serde_json::json;

use crate::support::{Shop, Storage, Topology, until};

const POOL: &str = "db_client_connection_pool_name";
const CALLS: &str = "db_client_operation_duration_seconds_count";

each_storage!(calls_to_stores_are_counted_by_name);
async fn calls_to_stores_are_counted_by_name(storage: Storage) {
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &[]);
    let client = shop.gateway();
    let user = client.register("neo").await.parse().unwrap();
    let lamp = client.add_product("Lamp", 1.0).await;
    assert_eq!(client.get("/products?sort=price").await.status, 200);
    assert_eq!(client.order(user, &[(&lamp, 1)]).await.status, 201);
    let published = [("db_operation_name", "events.publish")];
    until("the order's event is looked at", async || {
        shop.process("gateway").samples().await.sum(CALLS, &published).is_some()
    })
    .await;
    let samples = shop.process("gateway").samples().await;
    let (sql, documents) = match storage {
        Storage::Embedded => ("sqlite", "sqlite"),
        Storage::Polyglot | Storage::Pooled => ("postgresql", "mongodb"),
    };
    for (system, operation) in [
        (sql, "user.insert"),
        (sql, "order.insert"),
        (sql, "events.publish"),
        (documents, "product.insert"),
        (documents, "product.page"),
    ] {
        let labels = [("db_system_name", system), ("db_operation_name", operation)];
        assert!(samples.value(CALLS, &labels) >= 1.0, "{operation}");
    }
    if storage == Storage::Polyglot {
        assert!(samples.value(CALLS, &[("db_system_name", "redis")]) >= 1.0);
    }
    for pool in ["user.database", "product.database", "order.database"] {
        let value =
            |name: &str| samples.value(&format!("db_client_connection_{name}"), &[(POOL, pool)]);
        assert!(value("max") >= 1.0 && value("used") <= value("max"), "{pool}");
        assert!(value("wait_time_seconds_count") >= 1.0, "{pool}");
        assert_eq!(value("timeouts_total"), 0.0, "{pool}");
    }
}

#[actix_rt::test]
async fn all_that_a_thread_reads_from_a_file_shares_its_connections() {
    let set = [
        ("APP__SERVER__WORKERS", "1"),
        ("APP__USER__POOL_SIZE", "5"),
        ("APP__PRODUCT__POOL_SIZE", "6"),
        ("APP__ORDER__POOL_SIZE", "7"),
    ];
    let shop = Shop::start_with(Topology::OneProcess, &set);
    let user = shop.gateway().register("neo").await.parse().unwrap();
    let lamp = shop.gateway().add_product("Lamp", 1.0).await;
    assert_eq!(shop.gateway().order(user, &[(&lamp, 1)]).await.status, 201);
    let samples = shop.process("gateway").samples().await;
    for (pool, size) in [("user.database", 5.0), ("product.database", 6.0), ("order.database", 7.0)]
    {
        let most = samples.value("db_client_connection_max", &[(POOL, pool)]);
        assert_eq!(most, 2.0 * size, "those of the worker, and those of the tasks: {pool}");
    }
}

#[actix_rt::test]
async fn writes_to_a_file_that_another_process_has_locked_are_seen_to_wait_and_to_fail() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    client.register("neo").await;
    let waiting = async |pool| {
        let samples = shop.process("gateway").samples().await;
        samples.value("db_client_connection_pending_requests", &[(POOL, pool)])
    };
    let path = shop.folder.path().join("data/user.db");
    let mut file = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    file.batch_execute("BEGIN IMMEDIATE").unwrap();
    let request = actix_rt::spawn(async move {
        let body = json!({ "username": "t", "email": "t@example.com" });
        client.post("/auth/register", body).await.status
    });
    until("it waits", async || waiting("user.database").await >= 1.0).await;
    assert_eq!(request.await.unwrap(), 503);
    file.batch_execute("ROLLBACK").unwrap();
    until("nothing waits", async || waiting("user.database").await == 0.0).await;
    let failed = async || {
        let samples = shop.process("gateway").samples().await;
        let insert = ("db_operation_name", "user.insert");
        let errors = ["unreachable", "connection", "failed"];
        errors
            .into_iter()
            .filter_map(|error| samples.sum(CALLS, &[insert, ("error_type", error)]))
            .sum()
    };
    until("it is counted with its error", async || {
        let failed: f64 = failed().await;
        failed >= 1.0
    })
    .await;
}
