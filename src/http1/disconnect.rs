//! What happens to a request whose client closes its connection or resets its stream.

use std::cell::Cell;
use std::rc::Rc;

/// Whether a handler that may write is aborted when its client disconnects. The server passes it with the request, and
/// reads it while the handler runs; unless the handler allows the abort, it runs on.
#[derive(Clone, Debug, Default)]
pub struct AbortOnDisconnect(Rc<Cell<bool>>);

impl AbortOnDisconnect {
    /// Allows the abort.
    pub fn allow(&self) {
        self.0.set(true);
    }

    /// Whether the handler has allowed it.
    pub fn is_allowed(&self) -> bool {
        self.0.get()
    }
}
