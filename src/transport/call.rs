//! One request to one peer, which can be had back when it was in vain.

use std::time::Instant;

use super::clock::{self, Elapsed};
use super::{Context, Peer, PeerError, Reply, Request, http, remove_of_connection};

/// A request that is ready to be sent; see [`Peer::prepare`].
#[derive(Debug)]
pub struct Call<'a> {
    context: &'a Context,
    way: Way<'a>,
}

#[derive(Debug)]
enum Way<'a> {
    /// Gone with the first attempt.
    Once(&'a Peer, Option<Request>),
    Kept(http::Kept<'a>),
}

impl<'a> Call<'a> {
    pub(super) fn new(
        peer: &'a Peer,
        mut request: Request,
        context: &'a Context,
        kept: bool,
        now: Instant,
    ) -> Self {
        remove_of_connection(&mut request.headers);
        context.write(&mut request.headers, now);
        let way = match peer {
            Peer::Http(peer) if kept => Way::Kept(peer.keep(request)),
            peer => Way::Once(peer, Some(request)),
        };
        Self { context, way }
    }

    /// Sends the request and waits for the head of the reply, which the content follows in a stream.
    ///
    /// # Errors
    /// When there is no reply within the time that the context has left, or the request is gone, or any of its
    /// content; see [`PeerError`].
    pub async fn send(&mut self) -> Result<Reply, PeerError> {
        match self.context.alarm() {
            Some(deadline) => match clock::by(deadline, self.dispatch()).await {
                Ok(outcome) => outcome,
                Err(Elapsed) => Err(PeerError::DeadlineExceeded),
            },
            None => self.dispatch().await,
        }
    }

    /// The request, to be sent elsewhere; nothing where it is gone, or any of its content is.
    pub fn take_back(self) -> Option<Request> {
        match self.way {
            Way::Once(_, request) => request,
            Way::Kept(kept) => kept.take_back(),
        }
    }

    async fn dispatch(&mut self) -> Result<Reply, PeerError> {
        match &mut self.way {
            Way::Kept(kept) => kept.send().await,
            Way::Once(peer, request) => {
                let request = request.take().ok_or_else(|| PeerError::broken("sent before"))?;
                match peer {
                    // Boxed, for a gateway's calls go the other way.
                    Peer::Http(peer) => Box::pin(peer.send(request)).await,
                    Peer::Local(peer) => peer.send(request).await,
                }
            }
        }
    }
}
