//! Switches a client's connection to another protocol (RFC 9110, section 7.8).

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use actix_web::web::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{self, ServerConnection};
use crate::http1::Upgraded;
use crate::http1::lines::{header, line, status_line};
use crate::http1::shutdown::Shutdown;
use crate::http1::socket::Socket;

/// Sends `response`, and tunnels between the client's connection and `upgraded` until that ends or the process shuts
/// down: the client can then connect to another one.
pub(super) async fn switch_protocols<S: Socket + 'static>(
    connection: &Rc<RefCell<ServerConnection<S>>>,
    response: &HttpResponse,
    upgraded: Upgraded,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let mut head = BytesMut::with_capacity(1024);
    status_line(&mut head, response.status(), response.head().reason());
    line(&mut head, &[b"connection: upgrade"]);
    for (name, value) in response.headers() {
        if ![CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name) {
            header(&mut head, name, value);
        }
    }
    head.extend_from_slice(b"\r\n");
    connection::write(connection, &head).await?;
    let sent = connection.borrow_mut().input.split().freeze();
    tokio::select! {
        ended = upgraded.tunnel(RawStream(connection.clone()), sent) => ended,
        () = shutdown.begun() => Ok(()),
    }
}

/// The uninterpreted bytes of a connection.
struct RawStream<S>(Rc<RefCell<ServerConnection<S>>>);

impl<S: Socket> AsyncRead for RawStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, buffer)
    }
}

impl<S: Socket> AsyncWrite for RawStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_shutdown(cx)
    }
}
