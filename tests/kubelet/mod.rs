//! A stand-in for the kubelet's PodResources API: answers on a Unix socket what it was told to.

use std::convert::Infallible;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use sectile::cluster::kubelet::{Allocatable, Empty, Listed};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// What the kubelet tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) listed: Listed,
    pub(crate) allocatable: Allocatable,
    /// It answers nothing but this.
    pub(crate) fails: Option<Status>,
    /// Questions so far.
    pub(crate) asked: u32,
}

/// A kubelet on a socket, as long as it is not dropped.
pub(crate) struct Kubelet {
    pub(crate) told: Arc<Mutex<Told>>,
    pub(crate) socket: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Kubelet {
    /// Begins to answer; to be called within tokio. A socket that is there is made anew, as a restart does.
    pub(crate) fn begin(socket: &Path, told: Arc<Mutex<Told>>) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        let service = Lister(Arc::clone(&told));
        let task = tokio::spawn(async move {
            let server = tonic::transport::Server::builder();
            server.serve_with_incoming(service, UnixListenerStream::new(listener)).await.unwrap();
        });
        Kubelet { told, socket: socket.to_owned(), task }
    }
}

#[derive(Clone)]
struct Lister(Arc<Mutex<Told>>);

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;

impl UnaryService<Empty> for Lister {
    type Response = Listed;
    type Future = Answer<Response<Listed>>;

    fn call(&mut self, _: Request<Empty>) -> Self::Future {
        let mut told = self.0.lock().unwrap();
        told.asked += 1;
        let answer = told.fails.clone().map_or_else(|| Ok(Response::new(told.listed.clone())), Err);
        Box::pin(std::future::ready(answer))
    }
}

struct Allocates(Arc<Mutex<Told>>);

impl UnaryService<Empty> for Allocates {
    type Response = Allocatable;
    type Future = Answer<Response<Allocatable>>;

    fn call(&mut self, _: Request<Empty>) -> Self::Future {
        let mut told = self.0.lock().unwrap();
        told.asked += 1;
        let answer = told.fails.clone().map_or_else(|| Ok(Response::new(told.allocatable.clone())), Err);
        Box::pin(std::future::ready(answer))
    }
}

impl tower_service::Service<http::Request<Body>> for Lister {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            Ok(match path.as_str() {
                "/v1.PodResourcesLister/List" => {
                    Grpc::new(ProstCodec::<Listed, Empty>::default()).unary(this, request).await
                }
                "/v1.PodResourcesLister/GetAllocatableResources" => {
                    let service = Allocates(this.0);
                    Grpc::new(ProstCodec::<Allocatable, Empty>::default()).unary(service, request).await
                }
                _ => Status::unimplemented("no such question").into_http(),
            })
        })
    }
}
