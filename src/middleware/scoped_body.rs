//! The body of a response that is still being made when its head leaves, such as an export: what is logged then belongs to the
//! request, too.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;

use crate::telemetry::Scope;

struct ScopedBody {
    body: BoxBody,
    scope: Scope,
}

/// The same body, made for the request of `scope` if it is a stream.
pub(super) fn scoped(body: BoxBody, scope: &Scope) -> BoxBody {
    match body.size() {
        BodySize::Stream => BoxBody::new(ScopedBody { body, scope: scope.clone() }),
        BodySize::None | BodySize::Sized(_) => body,
    }
}

impl MessageBody for ScopedBody {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let Self { body, scope } = &mut *self;
        scope.enter(|| Pin::new(body).poll_next(cx))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::{BodyStream, to_bytes};
    use actix_web::http::header::HeaderValue;
    use futures_util::stream;

    use super::*;
    use crate::telemetry::{TraceContext, current_trace};

    #[actix_rt::test]
    async fn what_makes_a_stream_knows_its_request() {
        let scope = Scope::new("test", HeaderValue::from_static("id"), TraceContext::new(), None);
        let pieces = [(); 3].map(|()| async {
            let trace = current_trace().map(|trace| trace.to_string());
            Ok::<_, std::io::Error>(Bytes::from(trace.unwrap_or_default() + " "))
        });
        let pieces = futures_util::StreamExt::then(stream::iter(pieces), |piece| piece);
        let body = scoped(BoxBody::new(BodyStream::new(Box::pin(pieces))), &scope);
        assert_eq!(body.size(), BodySize::Stream);
        let text = to_bytes(body).await.unwrap();
        assert_eq!(text, format!("{} ", scope.trace()).repeat(3));
    }

    #[test]
    fn what_is_in_memory_stays_so() {
        let scope = Scope::new("test", HeaderValue::from_static("id"), TraceContext::new(), None);
        let bytes = scoped(BoxBody::new("text"), &scope).try_into_bytes();
        assert_eq!(bytes.unwrap(), "text");
    }
}
