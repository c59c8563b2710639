//! A request that is kept until it is known that it need not be sent again.

use awc::FrozenClientRequest;

use super::{Peer, PeerError, Reply, Request};
use crate::transport::loan::Loan;

/// See the module. Its headers are copied only when it is had back.
pub(in crate::transport) struct Kept<'a> {
    peer: &'a Peer,
    request: FrozenClientRequest,
    body: Loan,
}

impl std::fmt::Debug for Kept<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("peer", self.peer).finish_non_exhaustive()
    }
}

impl<'a> Kept<'a> {
    pub(super) fn new(peer: &'a Peer, request: FrozenClientRequest, body: super::Body) -> Self {
        Self { peer, request, body: Loan::new(body) }
    }

    pub(in crate::transport) async fn send(&self) -> Result<Reply, PeerError> {
        let permit = self.peer.permit()?;
        let body = self.body.lend().ok_or_else(|| PeerError::broken("sent before"))?;
        self.peer.complete(self.request.send_body(body.into_box_body()), permit).await
    }

    pub(in crate::transport) fn can_be_sent(&self) -> bool {
        self.body.is_here()
    }

    pub(in crate::transport) fn take_back(self) -> Option<Request> {
        let body = self.body.into_body()?;
        let (method, target) = (self.request.get_method(), self.request.get_uri());
        Some(Request {
            body,
            headers: self.request.headers().clone(),
            ..Request::new(method.clone(), target.clone())
        })
    }
}
