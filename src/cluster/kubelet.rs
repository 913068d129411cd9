//! The kubelet's PodResources API (v1, GA since Kubernetes 1.28): which pod was given which device. gRPC over a Unix
//! socket that root may read.
//!
//! The messages are those of k8s.io/kubelet/pkg/apis/podresources/v1/api.proto; what is not needed of them is left out,
//! which protobuf allows.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::transport::words;
use crate::ports::{Port, PortError};

/// Where the kubelet has its socket.
pub const SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";
/// The kubelet answers from memory; one that does not answer in this time hangs.
const ANSWER: Duration = Duration::from_secs(10);
const LIST: &str = "/v1.PodResourcesLister/List";
const ALLOCATABLE: &str = "/v1.PodResourcesLister/GetAllocatableResources";

/// Asks for something; neither question has anything to say.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Empty {}

/// What the pods of the node were given.
#[derive(Clone, PartialEq, Message)]
pub struct Listed {
    /// By pod.
    #[prost(message, repeated, tag = "1")]
    pub pod_resources: Vec<PodResources>,
}

/// What one pod was given. Its UID is not told.
#[derive(Clone, PartialEq, Message)]
pub struct PodResources {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// By container.
    #[prost(message, repeated, tag = "3")]
    pub containers: Vec<ContainerResources>,
}

/// What one container was given.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerResources {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// By device plugins.
    #[prost(message, repeated, tag = "2")]
    pub devices: Vec<Devices>,
    /// By dynamic resource allocation (since 1.34 by default).
    #[prost(message, repeated, tag = "5")]
    pub dynamic_resources: Vec<DynamicResource>,
}

/// Devices of one resource.
#[derive(Clone, PartialEq, Message)]
pub struct Devices {
    /// `nvidia.com/mig-1g.10gb`.
    #[prost(string, tag = "1")]
    pub resource_name: String,
    /// UUIDs, with `::N` behind them where they are shared.
    #[prost(string, repeated, tag = "2")]
    pub device_ids: Vec<String>,
}

/// What a claim gave.
#[derive(Clone, PartialEq, Message)]
pub struct DynamicResource {
    /// The ResourceClaim's name.
    #[prost(string, tag = "2")]
    pub claim_name: String,
    /// Its namespace.
    #[prost(string, tag = "3")]
    pub claim_namespace: String,
    /// Its devices.
    #[prost(message, repeated, tag = "4")]
    pub claim_resources: Vec<ClaimResource>,
}

/// A device of a claim.
#[derive(Clone, PartialEq, Message)]
pub struct ClaimResource {
    /// Who manages it.
    #[prost(string, tag = "2")]
    pub driver_name: String,
    /// The pool.
    #[prost(string, tag = "3")]
    pub pool_name: String,
    /// Its name in the pool.
    #[prost(string, tag = "4")]
    pub device_name: String,
}

/// What the kubelet may give out, given out or not.
#[derive(Clone, PartialEq, Message)]
pub struct Allocatable {
    /// By resource.
    #[prost(message, repeated, tag = "1")]
    pub devices: Vec<Devices>,
}

/// The kubelet of this node.
#[derive(Clone, Debug)]
pub struct Kubelet {
    socket: PathBuf,
}

/// Tells one start of the kubelet from the next: it makes its socket anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start(u64, i64, i64);

impl Kubelet {
    /// The kubelet with that socket.
    pub fn new(socket: &Path) -> Self {
        Kubelet { socket: socket.to_owned() }
    }

    /// What pods were given.
    pub async fn list(&self) -> Port<Vec<PodResources>> {
        self.ask::<Listed>(LIST).await.map(|listed| listed.pod_resources)
    }

    /// What may be given out.
    pub async fn allocatable(&self) -> Port<Vec<Devices>> {
        self.ask::<Allocatable>(ALLOCATABLE).await.map(|all| all.devices)
    }

    /// Which start of the kubelet this is; `None`: it has no socket.
    pub fn start(&self) -> Option<Start> {
        let meta = std::fs::metadata(&self.socket).ok()?;
        Some(Start(meta.ino(), meta.ctime(), meta.ctime_nsec()))
    }

    async fn ask<T: Message + Default + Send + 'static>(&self, path: &'static str) -> Port<T> {
        let failed = |transient, code: String| PortError {
            transient,
            code,
            message: format!("asking the kubelet by {}", self.socket.display()),
        };
        if !self.socket.exists() {
            return Err(failed(true, "it has no such socket".to_owned()));
        }
        let endpoint = Endpoint::from_shared(format!("unix://{}", self.socket.display()));
        let endpoint = endpoint.map_err(|error| failed(false, error.to_string()))?.timeout(ANSWER);
        let channel = endpoint.connect().await.map_err(|error| failed(true, words(&error)))?;
        let mut client = Grpc::new(channel);
        client.ready().await.map_err(|error| failed(true, words(&error)))?;
        let codec = ProstCodec::<Empty, T>::default();
        let answer = client.unary(tonic::Request::new(Empty {}), PathAndQuery::from_static(path), codec).await;
        answer.map(tonic::Response::into_inner).map_err(|status| {
            let missing = status.code() == tonic::Code::Unimplemented;
            failed(!missing, format!("{}: {}", status.code(), status.message()))
        })
    }
}
