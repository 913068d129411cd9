//! Labels, annotations, taints and names that Sectile shares with the cluster: all of them, in one place.

/// The taint that keeps new pods off a node while its instances change (effect NoSchedule).
pub const TAINT: &str = "sectile.dev/repartitioning";
/// The taint that autoscalers put on new nodes, taken off when a node has converged for the first time.
pub const NOT_READY: &str = "sectile.dev/not-ready";
/// Annotation of a node that is changed: the plan, and what was there before, as JSON.
pub const MARK: &str = "sectile.dev/repartitioning";
/// Label of a node: how it stands, of the closed list of states.
pub const STATE: &str = "sectile.dev/state";
/// Annotation of a node, or of [`BUDGETS`] for every node: that it is to be left alone, and why. JSON as we write it; any
/// other text, by whose hand it may be, is the reason.
pub const SUSPENDED: &str = "sectile.dev/suspended";
/// How far the GPU operator is with its upgrade of the driver.
pub const UPGRADE: &str = "nvidia.com/gpu-driver-upgrade-state";
/// The namespace that packaging/ makes.
pub const NAMESPACE: &str = "sectile";
/// The Lease of the one controller that acts (coordination.k8s.io).
pub const LEASE: &str = "sectile-controller";
/// The ConfigMap that holds what is taken of the budgets which nodes share: a key for each holder.
pub const BUDGETS: &str = "sectile-budgets";
/// Annotation of a node: which tree it was compared with last; of a workload: which one has set it.
pub const REVISION: &str = "sectile.dev/revision";
/// Annotation of a node: why it failed, is blocked or waits, a sentence.
pub const MESSAGE: &str = "sectile.dev/message";
/// Annotation of a node: what was seen of it, and when, as JSON.
pub const OBSERVED: &str = "sectile.dev/observed";
/// Label of every eviction that we ask for.
pub const AGENT: &str = "sectile.dev/agent";
/// Annotation of a workload: the binding that has set it.
pub const BINDING: &str = "sectile.dev/binding";
/// Whose the fields are that we set at workloads (server-side apply).
pub const MANAGER: &str = "sectile";
/// Where what belongs to no node is recorded: a ConfigMap and its namespace.
pub const RECORD: (&str, &str) = ("sectile", "sectile-bindings");
/// Annotation of [`RECORD`]: the revision of the tree that may take most of what was bound back.
pub const ACCEPTED: &str = "sectile.dev/accept-removal";
/// The key of it that tells which revisions of the tree were taken up, in order; no key of a workload begins so.
pub const REVISIONS: &str = "_revisions";
/// The name of our claim within a pod.
pub const CLAIM: &str = "sectile";
/// The class of NVIDIA's static and dynamic MIG devices in dynamic resource allocation (dra-driver-nvidia-gpu, charts).
pub const MIG_CLASS: &str = "mig.nvidia.com";
/// Who tells events.
pub const CONTROLLER: &str = "sectile.dev/agent";
/// Where events of nodes, which have no namespace, are told (client-go, tools/events).
pub const NODE_EVENTS: &str = "default";

/// What the resources of whole GPUs begin with, and those of MIG devices (k8s-device-plugin, README): `.shared` may stand
/// behind them. Other resources of NVIDIA's are network cards.
pub const GPU_RESOURCE: &str = "nvidia.com/gpu";
/// The same of MIG devices.
pub const MIG_RESOURCE: &str = "nvidia.com/mig-";
/// The driver of NVIDIA's devices in dynamic resource allocation.
pub const DRA_DRIVER: &str = "gpu.nvidia.com";
/// Node label that GPU feature discovery always writes.
pub const DISCOVERED: &str = "nvidia.com/mig.capable";
/// Node label of GPU feature discovery: how the device plugin names MIG devices.
pub const STRATEGY: &str = "nvidia.com/mig.strategy";
/// The value of a deploy label whose client runs.
pub const RUNS: &str = "true";
/// What mig-manager sets a deploy label to while it pauses a client (k8s-mig-manager, reconfigure.go): the operator
/// fills only labels that are missing or empty, so the value lasts.
pub const PAUSED: &str = "paused-for-mig-change";
/// Node labels by which NVIDIA's operator deploys what holds or advertises GPUs: those that mig-manager pauses
/// (v0.15.0, reconfigure.go), the device plugin first.
pub const DEPLOY: &[&str] = &[
    "nvidia.com/gpu.deploy.device-plugin",
    "nvidia.com/gpu.deploy.gpu-feature-discovery",
    "nvidia.com/gpu.deploy.dcgm-exporter",
    "nvidia.com/gpu.deploy.dcgm",
    "nvidia.com/gpu.deploy.nvsm",
    "nvidia.com/gpu.deploy.client",
];
/// Labels of the device plugin's pods: the operator's, the stand-alone chart's, the static manifest's
/// (k8s-device-plugin v0.20.0, gpu-operator).
pub const DEVICE_PLUGIN: &[(&str, &str)] = &[
    ("app", "nvidia-device-plugin-daemonset"),
    ("app.kubernetes.io/name", "nvidia-device-plugin"),
    ("name", "nvidia-device-plugin-ds"),
];
/// The container that tells GPU feature discovery from the device plugin, whose labels the chart gives both.
pub const DISCOVERY_CONTAINER: &str = "gpu-feature-discovery-ctr";
/// Labels of the pods of NVIDIA's DRA driver that publish a node's devices: its charts' and the operator's
/// (dra-driver-nvidia-gpu, v25.8.1 and later; gpu-operator).
pub const DRA_PLUGIN: &[(&str, &str)] = &[
    ("dra-driver-nvidia-gpu-component", "kubelet-plugin"),
    ("nvidia-dra-driver-gpu-component", "kubelet-plugin"),
    ("app", "nvidia-dra-driver-kubelet-plugin"),
];
/// Label of mig-manager's pods.
pub const MIG_MANAGER: (&str, &str) = ("app", "nvidia-mig-manager");
/// Annotation by which HAMi registers a node's GPUs, with the mode of each (HAMi, pkg/device/nvidia/device.go): JSON, or
/// in older versions fields, the mode the last one.
pub const HAMI: &str = "hami.io/node-nvidia-register";
/// How HAMi writes that it cuts GPUs by MIG.
pub const HAMI_MIG: &[&str] = &["\"mode\":\"mig\"", ",mig:"];
/// What the resources of the dynamic accelerator slicer begin with (instaslice-operator).
pub const SLICER: &str = "mig.das.com/";
