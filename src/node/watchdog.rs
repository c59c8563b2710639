//! Ends a process that was told to stop and does not, whatever it is that holds it up.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::time::sleep;

use super::{stop_signals, told_to_stop};
use crate::telemetry;

/// What a process may need, beside the time that it gives to requests.
const GRACE: Duration = Duration::from_secs(1);

/// From now on, ends the process when it is still there `limit` and a little more after it was told to stop. Has a
/// thread and a runtime of its own, for those that serve may be what is stuck.
///
/// # Errors
/// When the system refuses the thread.
pub(super) fn start(limit: Duration) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let watch = move || {
        let told = runtime.block_on(async {
            told_to_stop(&mut stop_signals()?).await;
            sleep(limit + GRACE).await;
            Ok::<_, io::Error>(())
        });
        if let Err(error) = told {
            log::error!("nobody sees to it that the process stops when it is told to: {error}");
            return;
        }
        log::error!("the process did not stop in time, and is ended");
        telemetry::last_word(None);
        std::process::exit(1);
    };
    thread::Builder::new().name("watchdog".into()).spawn(watch).map(drop)
}
