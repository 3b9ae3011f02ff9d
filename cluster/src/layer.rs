//! A tower layer for HTTP services (feature `http`).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use cluster_ipc::board::Outcome;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode, Version};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use tracing::Span;

use crate::Connection;
use crate::worker::{Inner, Worker};

/// Counts requests and server errors on the worker's board, adds `Connection: close` to every HTTP/1 response
/// once the worker has been asked to leave (HTTP/2 has its own way, which the server's graceful shutdown takes), and has each request
/// handled in the worker's [span](crate::Worker::span). Made by [`Worker::layer`](crate::Worker::layer).
///
/// Where requests come with their [`Connection`] (in their extensions; with axum, see `Via`), it says of connections of HTTP/2, and of those that switch to another protocol (WebSockets), that
/// they are long-lived.
#[derive(Clone, Debug)]
pub struct ClusterLayer {
    worker: Arc<Inner>,
    span: Span,
}

impl Worker {
    /// A tower layer for the HTTP service: it counts requests and errors, says `Connection: close` in every
    /// response once the worker has been asked to leave, and gives records of handlers the worker's [`span`](Self::span).
    pub fn layer(&self) -> ClusterLayer {
        ClusterLayer { worker: Arc::clone(self.inner()), span: self.span() }
    }
}

impl<S> Layer<S> for ClusterLayer {
    type Service = ClusterService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ClusterService { inner, worker: Arc::clone(&self.worker), span: self.span.clone() }
    }
}

/// The service that [`ClusterLayer`] makes.
#[derive(Clone, Debug)]
pub struct ClusterService<S> {
    inner: S,
    worker: Arc<Inner>,
    span: Span,
}

impl<S, Q, B> Service<Request<Q>> for ClusterService<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let version = request.version();
        let may_last = version > Version::HTTP_11 || request.headers().contains_key(UPGRADE);
        let connection = may_last.then(|| connection(&request)).flatten();
        if version > Version::HTTP_11
            && let Some(connection) = &connection
        {
            connection.set_long_lived();
        }
        let inner = self.span.in_scope(|| self.inner.call(request));
        ResponseFuture {
            inner,
            version,
            connection,
            worker: Arc::clone(&self.worker),
            span: self.span.clone(),
        }
    }
}

/// The one that it came by, if the server says.
fn connection<Q>(request: &Request<Q>) -> Option<Connection> {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::ConnectInfo(crate::Via { connection, .. })) = request.extensions().get() {
        return Some(connection.clone());
    }
    request.extensions().get().cloned()
}

pin_project! {
    /// The future of [`ClusterService`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        version: Version,
        // Of a request that may make it a long-lived one.
        connection: Option<Connection>,
        worker: Arc<Inner>,
        span: Span,
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = ready!(this.span.in_scope(|| this.inner.poll(cx)));
        let failed = result.as_ref().map_or(true, |response| response.status().is_server_error());
        this.worker.board().count_request(if failed { Outcome::Error } else { Outcome::Success });
        let switches =
            result.as_ref().is_ok_and(|response| response.status() == StatusCode::SWITCHING_PROTOCOLS);
        if switches && let Some(connection) = this.connection {
            connection.set_long_lived();
        }
        if let Ok(response) = &mut result
            && this.worker.gate().is_leaving()
            && *this.version <= Version::HTTP_11
            // `Connection: upgrade` is what makes it one, and the connection is no longer HTTP after it.
            && !switches
        {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(result)
    }
}
