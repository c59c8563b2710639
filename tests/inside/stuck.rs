//! A worker that is stuck: whoever runs the process is told.

use std::time::Duration;

use actix_web::{HttpResponse, rt};
use app::auth::public;
use app::config::Sources;
use app::middleware::{Draining, path};
use app::server::{self, Heartbeats, Neighbours, Readiness, Reporter, Reports, Threads, Topology};
use app::telemetry::Metrics;

use crate::support::{Client, until};

#[actix_rt::test]
async fn a_worker_that_is_stuck_ends_the_good_report_of_livez() {
    let (settings, effective) = app::config::load(&Sources::default()).unwrap();
    let heartbeats = Heartbeats::default();
    let threads = Threads { workers: 1, heartbeats: heartbeats.clone() };
    let middleware = crate::middleware(&settings, 1000);
    let bind = || server::bind("test", "127.0.0.1:0".parse().unwrap(), &effective).unwrap();
    let (listener, management) = (bind(), bind());
    let (url, told_at) = (listener.url(), management.url());
    let stuck = async || {
        std::thread::sleep(Duration::from_secs(13));
        HttpResponse::Ok().finish()
    };
    let own = middleware.clone();
    let app = move || {
        own.clone().app(move |routes| _ = routes.service(path("/stuck").get(public(), stuck)))
    };
    rt::spawn(server::serve(listener, threads.clone(), &settings.server, app).unwrap());
    let report: Reporter = std::sync::Arc::new(Reports::default);
    let told = move || {
        let readiness = Readiness::new(Draining::default());
        let told = (readiness, heartbeats.clone(), Metrics::new(Vec::new()).unwrap());
        middleware.clone().app(server::management_routes(
            told,
            vec!["test"],
            report.clone(),
            (Topology::default(), Neighbours::default()),
            false,
        ))
    };
    rt::spawn(server::serve(management, threads, &settings.server, told).unwrap());
    let (client, management) = (Client::new(url), Client::new(told_at));
    assert_eq!(management.get("/livez").await.status, 200);
    let waiting = rt::spawn(async move { client.get("/stuck").await.status });
    until("it is seen", async || management.get("/livez").await.status == 503).await;
    assert_eq!(waiting.await.unwrap(), 200);
    until("it is well again", async || management.get("/livez").await.status == 200).await;
}
