//! One request to one peer, which can be had back when it was in vain.

use std::time::Instant;

use super::{
    Context, Peer, PeerError, Reply, Request, clock, http, remove_hop_by_hop, take_length,
};
use actix_web::http::Method;

/// A request that is ready to be sent; see [`Peer::prepare`].
#[derive(Debug)]
pub struct Call<'a> {
    context: &'a Context,
    is_head: bool,
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
        let is_head = request.method == Method::HEAD;
        remove_hop_by_hop(&mut request.headers);
        take_length(&mut request.headers);
        context.write(&mut request.headers, now);
        let way = match peer {
            Peer::Http(peer) if kept => Way::Kept(peer.keep(request)),
            peer => Way::Once(peer, Some(request)),
        };
        Self { context, is_head, way }
    }

    /// Sends the request and waits for the head of the reply, which the content follows in a stream.
    ///
    /// # Errors
    /// When there is no reply within the time that the context has left, or the request is gone, or any of its
    /// content; see [`PeerError`].
    pub async fn send(&mut self) -> Result<Reply, PeerError> {
        let mut reply = match self.context.alarm() {
            Some(deadline) => {
                let outcome = clock::by(deadline, self.dispatch()).await;
                outcome.map_err(|_| PeerError::DeadlineExceeded)??
            }
            None => self.dispatch().await?,
        };
        remove_hop_by_hop(&mut reply.headers);
        let declared = take_length(&mut reply.headers);
        if self.is_head {
            reply.body = reply.body.into_head(declared);
        }
        Ok(reply)
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
                    Peer::Http(peer) => peer.send(request).await,
                    Peer::Local(peer) => peer.send(request).await,
                }
            }
        }
    }
}
