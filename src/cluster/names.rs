//! Labels, annotations, taints and names that Sectile shares with the cluster: all of them, in one place.

/// The taint that keeps new pods off a node while its instances change (effect NoSchedule).
pub const TAINT: &str = "sectile.dev/repartitioning";
/// The taint that autoscalers put on new nodes, taken off when a node has converged for the first time.
pub const NOT_READY: &str = "sectile.dev/not-ready";
/// Annotation of a node that is changed: the plan, and what was there before, as JSON.
pub const MARK: &str = "sectile.dev/repartitioning";
/// Label of a node: how it stands, of the closed list of states.
pub const STATE: &str = "sectile.dev/state";
/// Annotation of a node: which tree it was compared with last.
pub const REVISION: &str = "sectile.dev/revision";
/// Annotation of a node: what was seen of it, and when, as JSON.
pub const OBSERVED: &str = "sectile.dev/observed";
/// Label of every eviction that we ask for.
pub const AGENT: &str = "sectile.dev/agent";
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
