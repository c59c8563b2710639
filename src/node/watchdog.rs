//! Ends a process that does not stop after a signal to do so, whatever it hangs in.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::time::sleep;

use super::{stop_signals, wait_for_stop};
use crate::telemetry;

/// How long a drain may take beyond the time for requests.
const GRACE: Duration = Duration::from_millis(1500);

/// Ends the process if it still runs `limit` and a little more after a signal to stop. Has a thread and a runtime of its
/// own, because the worker threads may be stuck.
///
/// # Errors
/// When the system refuses the thread.
pub(super) fn start(limit: Duration) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let watch = move || {
        let waited = runtime.block_on(async {
            wait_for_stop(&mut stop_signals()?).await;
            sleep(limit + GRACE).await;
            Ok::<_, io::Error>(())
        });
        if let Err(error) = waited {
            log::error!("the watchdog cannot wait for signals: {error}");
            return;
        }
        log::error!("the process did not stop in time and is killed");
        telemetry::last_word(None);
        std::process::exit(1);
    };
    thread::Builder::new().name("watchdog".into()).spawn(watch).map(drop)
}
