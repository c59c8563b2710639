//! Somebody who listens to the live stream, and comes back after each break.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use actix_rt::time::{sleep, timeout};

use super::outcome::told;
use crate::orders::history::Told;
use crate::support::Client;

/// Longer than the pause between two comments of the stream would be a break that nobody tells of.
const PATIENCE: Duration = Duration::from_secs(17);

/// It listens until it is dropped.
pub(super) struct Listener {
    heard: Rc<RefCell<Vec<Told>>>,
    task: actix_rt::task::JoinHandle<()>,
}

impl Listener {
    /// Listens from the beginning of the log on.
    pub(super) fn start(client: Client) -> Self {
        let heard = Rc::<RefCell<Vec<Told>>>::default();
        Self { heard: heard.clone(), task: actix_rt::spawn(listen(client, heard)) }
    }

    /// What it has heard so far.
    pub(super) fn heard(&self) -> Vec<Told> {
        self.heard.borrow().clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(client: Client, heard: Rc<RefCell<Vec<Told>>>) {
    let mut last = "0".to_owned();
    loop {
        if let Ok(mut stream) = client.try_listen("/events", Some(&last)).await {
            while let Ok(Some((id, event))) = timeout(PATIENCE, stream.next()).await {
                last = id;
                heard.borrow_mut().push(told(&event));
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}
