//! A plain TCP load balancer, as a Kubernetes Service is one: each connection goes to the next process in turn
//! that says it is ready, and stays there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::{Client, Process};

/// How often each process is asked whether it is ready.
const PROBE: Duration = Duration::from_millis(50);

/// A running balancer; it ends with the test's runtime.
pub(crate) struct Balancer {
    pub(crate) url: String,
    ready: Ready,
}

/// The addresses behind it that get new connections.
type Ready = Rc<RefCell<BTreeMap<String, bool>>>;

impl Balancer {
    /// On a free port, with nothing behind it.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let ready = Ready::default();
        actix_rt::spawn(accept(listener, ready.clone()));
        Self { url, ready }
    }

    /// Lets `process`, which runs `role`, have connections for as long as it is ready.
    pub(crate) async fn add(&self, role: &str, process: &Process) {
        let address = process.urls[role].trim_start_matches("http://").to_owned();
        let (management, ready) = (process.client("management"), self.ready.clone());
        probe(&management, &ready, &address).await;
        actix_rt::spawn(async move {
            loop {
                actix_rt::time::sleep(PROBE).await;
                probe(&management, &ready, &address).await;
            }
        });
    }
}

async fn probe(management: &Client, ready: &Ready, address: &str) {
    let answer = management.try_send(awc::http::Method::GET, "/readyz", &[], "").await;
    let is_ready = answer.is_ok_and(|answer| answer.status == 200);
    ready.borrow_mut().insert(address.to_owned(), is_ready);
}

async fn accept(listener: TcpListener, ready: Ready) {
    for turn in 0_usize.. {
        let (client, _) = listener.accept().await.unwrap();
        let addresses = ready
            .borrow()
            .iter()
            .filter(|(_, ready)| **ready)
            .map(|(address, _)| address.clone())
            .collect::<Vec<_>>();
        // With nobody there the connection is closed, as a Service without endpoints refuses it.
        let Some(address) = addresses.get(turn % addresses.len().max(1)).cloned() else { continue };
        actix_rt::spawn(join(client, address));
    }
}

/// Passes bytes both ways until both sides have ended, or one has broken off.
async fn join(mut client: TcpStream, address: String) {
    let Ok(mut server) = TcpStream::connect(address).await else { return };
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let _ = copy_bidirectional(&mut client, &mut server).await;
}
