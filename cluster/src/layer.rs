//! A tower layer for HTTP services (feature `http`).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use cluster_ipc::board::Outcome;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::worker::{Inner, Worker};

/// Counts requests and server errors on the worker's board, and adds `Connection: close` to every HTTP/1 response
/// once the worker has been asked to leave (HTTP/2 has its own way, which the server's graceful shutdown takes). Made by
/// [`Worker::layer`](crate::Worker::layer).
#[derive(Clone, Debug)]
pub struct ClusterLayer {
    worker: Arc<Inner>,
}

impl Worker {
    /// A tower layer for the HTTP service: it counts requests and errors, and says `Connection: close` in every
    /// response once the worker has been asked to leave.
    pub fn layer(&self) -> ClusterLayer {
        ClusterLayer { worker: Arc::clone(self.inner()) }
    }
}

impl<S> Layer<S> for ClusterLayer {
    type Service = ClusterService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ClusterService { inner, worker: Arc::clone(&self.worker) }
    }
}

/// The service that [`ClusterLayer`] makes.
#[derive(Clone, Debug)]
pub struct ClusterService<S> {
    inner: S,
    worker: Arc<Inner>,
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
        ResponseFuture { inner: self.inner.call(request), version, worker: Arc::clone(&self.worker) }
    }
}

pin_project! {
    /// The future of [`ClusterService`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        version: Version,
        worker: Arc<Inner>,
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = ready!(this.inner.poll(cx));
        let failed = result.as_ref().map_or(true, |response| response.status().is_server_error());
        this.worker.board().count_request(if failed { Outcome::Error } else { Outcome::Success });
        if let Ok(response) = &mut result
            && this.worker.gate().is_leaving()
            && *this.version <= Version::HTTP_11
            // `Connection: upgrade` is what makes it one, and the connection is no longer HTTP after it.
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(result)
    }
}
