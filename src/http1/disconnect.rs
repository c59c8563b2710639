//! What becomes of a request whose client has closed its connection, or has reset its stream.

use std::cell::Cell;
use std::rc::Rc;

/// Whether a request that may write ends with its client. A server gives it to the handler with the request, and looks
/// at it while the answer is awaited; unless the handler allows it, the request runs on.
#[derive(Clone, Debug, Default)]
pub struct AbortOnDisconnect(Rc<Cell<bool>>);

impl AbortOnDisconnect {
    /// Lets the request end with its client.
    pub fn allow(&self) {
        self.0.set(true);
    }

    /// Whether it may.
    pub fn is_allowed(&self) -> bool {
        self.0.get()
    }
}
