//! A request that is kept until it is known that it need not be sent again.

use super::{Body, Peer, PeerError, Reply, Request};
use crate::transport::loan::Loan;

/// See the module.
pub(in crate::transport) struct Kept<'a> {
    peer: &'a Peer,
    /// Without its content.
    request: Request,
    body: Loan,
}

impl std::fmt::Debug for Kept<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("peer", self.peer).finish_non_exhaustive()
    }
}

impl<'a> Kept<'a> {
    pub(super) fn new(peer: &'a Peer, mut request: Request) -> Self {
        let body = std::mem::replace(&mut request.body, Body::None);
        Self { peer, request, body: Loan::new(body) }
    }

    pub(in crate::transport) async fn send(&self) -> Result<Reply, PeerError> {
        let body = self.body.lend().ok_or_else(|| PeerError::broken("sent before"))?;
        // Whoever keeps it repeats it, elsewhere where that is better.
        self.peer.exchange(&self.request, body, false).await
    }

    pub(in crate::transport) fn take_back(self) -> Option<Request> {
        Some(Request { body: self.body.into_body()?, ..self.request })
    }
}
