//! The simulator's futures never wait, which this holds them to.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use sectile::sim::world::World;
use sectile::sim::{Shared, fleet};

/// The output of a future that is ready at once.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a future of the simulator waits"),
    }
}

/// The world of a fleet file.
pub(crate) fn world(text: &str) -> World {
    fleet::parse("FLEET.toml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The same, to share.
pub(crate) fn shared(text: &str) -> Shared {
    Arc::new(Mutex::new(world(text)))
}

/// A node with one H100 that is cut into these profiles, in order.
pub(crate) fn node(name: &str, profiles: &[&str]) -> String {
    let instances: Vec<String> = profiles.iter().map(|p| format!("{{ profile = \"{p}\" }}")).collect();
    format!(
        "[[node]]\nname = \"{name}\"\nlabels = {{ pool = \"{name}\" }}\n[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\nmig = true\n\
         instances = [{}]\n",
        instances.join(", ")
    )
}

/// A workload in namespace x that starts in 5 s and stops in 10.
pub(crate) fn workload(kind: &str, name: &str, replicas: u32, profile: &str, rest: &str) -> String {
    format!(
        "[[workload]]\nkind = \"{kind}\"\nnamespace = \"x\"\nname = \"{name}\"\nreplicas = {replicas}\n\
         profile = \"{profile}\"\nstart = \"5s\"\ngrace = \"10s\"\n{rest}\n"
    )
}

/// A budget in namespace x.
pub(crate) fn budget(workload: &str, max_unavailable: u32) -> String {
    format!(
        "[[budget]]\nnamespace = \"x\"\nname = \"{workload}\"\nworkload = \"{workload}\"\n\
         max_unavailable = {max_unavailable}\n"
    )
}
