//! The content of a request, which a handler reads when it wants to: what it does not take, the client cannot send.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::connection::ServerConnection;
use crate::http1::content::Framing;
use crate::http1::socket::Socket;
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::Stream;

/// See the module.
pub(super) struct RequestBody<S> {
    connection: Rc<RefCell<ServerConnection<S>>>,
    turn: u32,
    is_over: bool,
}

impl<S: Socket> RequestBody<S> {
    /// Of the request whose head was read last.
    pub(super) fn begin(
        connection: &Rc<RefCell<ServerConnection<S>>>,
        framing: Framing,
        expects: bool,
    ) -> Self {
        let turn = connection.borrow_mut().next_content(framing, expects);
        Self { connection: connection.clone(), turn, is_over: false }
    }
}

impl<S: Socket> Stream for RequestBody<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let polled = self.connection.borrow_mut().poll_content(self.turn, cx);
        self.is_over = matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }
}
