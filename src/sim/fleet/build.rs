//! From the entries of a fleet file to the world that they describe.

use std::collections::{BTreeMap, BTreeSet};

use super::BEGIN_MS;
use super::entries::{Entries, GpuEntry, InstanceEntry, NodeEntry, UserEntry};
use super::read::{At, Problems, Span, nearest, suggestion};
use crate::model::observed::{Owner, PodPhase, WHOLE_GPU};
use crate::model::{Digest, Geometry, Memory, User, catalogue};
use crate::sim::controllers::{pod, uid, uuid};
use crate::sim::world::{SimGpu, SimNode, SimPod, SimProcess, SimWorkload, World};

/// Makes the world; settled, if nothing is wrong.
pub(super) fn world(entries: Entries, digest: Digest, out: &mut Problems) -> World {
    let Entries { nodes, workloads, budgets, latency, faults } = entries;
    let mut world = World {
        fleet: digest,
        clock_ms: BEGIN_MS,
        next_serial: 1,
        nodes: BTreeMap::new(),
        pods: BTreeMap::new(),
        workloads: Vec::new(),
        budgets: Vec::new(),
        ledger: Vec::new(),
        latency,
        memory: Memory::default(),
        faults,
        bound: Vec::new(),
        revisions: Vec::new(),
        events: Vec::new(),
        places: BTreeMap::new(),
        places_version: 0,
        salt: 0,
        sleepers: None,
    };
    for At { value, span } in workloads {
        let same = |w: &SimWorkload| w.namespace == value.namespace && w.name == value.name;
        if world.workloads.iter().any(same) {
            out.add(span, format!("workload {}/{} is there twice", value.namespace, value.name));
        } else {
            world.workloads.push(value);
        }
    }
    for At { value, span } in budgets {
        let alike = || world.workloads.iter().filter(|w| w.namespace == value.namespace).map(|w| w.name.as_str());
        let there = alike().any(|name| name == value.workload);
        // As in Kubernetes, a budget may cover nothing; only what looks like a slip of the finger is told.
        let near = nearest(&value.workload, alike()).filter(|_| !there).map(|near| format!("did you mean `{near}`?"));
        if let Some(hint) = near {
            out.add_with(span, format!("there is no workload {}/{}", value.namespace, value.workload), hint);
        } else if world.budgets.iter().any(|b| b.namespace == value.namespace && b.name == value.name) {
            out.add(span, format!("budget {}/{} is there twice", value.namespace, value.name));
        } else {
            world.budgets.push(value);
        }
    }
    let mut named = Named::default();
    for (at, workload) in world.workloads.iter().enumerate() {
        named.owners.entry(workload.namespace.clone()).or_default().insert(workload.name.clone(), at);
    }
    for entry in nodes {
        node(&mut world, entry, &mut named, out);
    }
    check_pods(&world, &named, out);
    if out.list.is_empty() {
        world.pass(0);
    }
    world
}

/// The pods that the file names.
#[derive(Default)]
struct Named {
    /// Where each is named first.
    spans: BTreeMap<String, Span>,
    /// Who may own them: workloads by namespace and name, each by its place.
    owners: BTreeMap<String, BTreeMap<String, usize>>,
}

fn node(world: &mut World, entry: NodeEntry, named: &mut Named, out: &mut Problems) {
    let NodeEntry { name: At { value: name, span }, labels, in_cluster, device_files, strategy, writers, gpus } = entry;
    if world.nodes.contains_key(&name) {
        out.add(span, format!("node `{name}` is there twice"));
        return;
    }
    let mut node = SimNode {
        labels,
        in_cluster,
        strategy,
        writers: writers.into_iter().collect(),
        tainted: false,
        clients_paused: false,
        advertised: BTreeMap::new(),
        device_files: BTreeMap::new(),
        gpus: Vec::new(),
        units: BTreeMap::new(),
        commands: BTreeMap::new(),
        shown: None,
    };
    for entry in gpus {
        gpu(world, &name, &mut node, entry, named, out);
    }
    let devices: BTreeSet<String> = node.devices().cloned().collect();
    node.device_files = device_files.into_iter().map(|files| (files, devices.clone())).collect();
    world.nodes.insert(name.clone(), node);
    if in_cluster {
        world.advertise(&name);
    }
}

/// The bus ids that real machines give their first eight GPUs look like these: 0x17, 0x2a, 0x3d…, ascending.
fn pci(index: usize) -> String {
    let slot = 0x17 + 0x13 * index;
    format!("{:08X}:{:02X}:00.0", slot / 0x100, slot % 0x100)
}

fn gpu(world: &mut World, name: &str, node: &mut SimNode, entry: GpuEntry, named: &mut Named, out: &mut Problems) {
    let At { value: model, span } = &entry.model;
    let Some(board) = catalogue::by_id(model) else {
        let known: Vec<&str> = catalogue::all().map(|board| board.id).collect();
        out.add_with(span.clone(), format!("`{model}` is no board of the catalogue"), suggestion(model, known));
        return;
    };
    let geometry = board.shared_geometry();
    if entry.mig && geometry.is_none() {
        out.add(span.clone(), format!("where instances lie on `{model}` is not known, so it can't be simulated"));
        return;
    }
    if let Some(user) = entry.instances.iter().flat_map(|i| &i.users).next().filter(|_| entry.count > 1) {
        out.add_with(
            user.span.clone(),
            "the same user on several GPUs",
            "write these GPUs one by one, without `count`",
        );
        return;
    }
    for copy in 0..entry.count {
        let index = node.gpus.len();
        let id = format!("GPU-{}", uuid([b"gpu".as_slice(), name.as_bytes(), &index.to_le_bytes()]));
        let mut gpu = SimGpu::new(&id, &pci(index), model, entry.half_swapped);
        (gpu.mode, gpu.pending) = (entry.mig, entry.mig);
        node.gpus.push(gpu);
        // What is wrong with the first of alike GPUs is wrong with all.
        let before = out.list.len();
        for instance in &entry.instances {
            let Some(geometry) = &geometry else { continue };
            place(world, name, node, geometry, instance, named, out);
        }
        for user in &entry.processes {
            let place = Device { node: name, gpu: index, uuid: &id, resource: WHOLE_GPU };
            hold(world, node, &place, user, named, out);
        }
        if copy == 0 && out.list.len() > before {
            return;
        }
    }
}

/// Puts an instance on the node's last GPU.
fn place(
    world: &mut World,
    name: &str,
    node: &mut SimNode,
    geometry: &Geometry,
    entry: &InstanceEntry,
    named: &mut Named,
    out: &mut Problems,
) {
    let Some((index, gpu)) = node.gpus.iter_mut().enumerate().next_back() else { return };
    let Some((profile, _)) = geometry.resolve(entry.profile) else {
        let offers: Vec<String> = geometry.offers().iter().map(ToString::to_string).collect();
        let hint = format!("it offers {}", offers.join(", "));
        out.add_with(entry.span.clone(), format!("{} has no {}", gpu.board, entry.profile), hint);
        return;
    };
    let starts = entry.start.as_ref().map_or(profile.starts.as_slice(), std::slice::from_ref);
    let mut result = Err(crate::ports::NvmlCode::InsufficientResources);
    for &start in starts {
        result = gpu.place(&mut world.next_serial, profile.name, start, entry.compute.as_deref());
        if result.is_ok() {
            break;
        }
    }
    match result {
        Ok(uuids) => {
            if entry.users.is_empty() {
                return;
            }
            let resource = node.strategy.resource(profile.name).unwrap_or_default();
            // With several compute instances the users take one each, in order, and the last one the rest.
            for (user, at) in entry.users.iter().zip(0..) {
                let Some(uuid) = uuids.get(at).or(uuids.last()) else {
                    out.add(user.span.clone(), "an instance without compute instances has no users");
                    continue;
                };
                hold(world, node, &Device { node: name, gpu: index, uuid, resource: &resource }, user, named, out);
            }
        }
        Err(code) => {
            let at = entry.start.map(|start| format!(" at {start}")).unwrap_or_default();
            let starts: Vec<String> = profile.starts.iter().map(ToString::to_string).collect();
            let hint = format!("it may start at {}, where nothing else lies", starts.join(", "));
            let message = format!("{}{at} does not fit GPU {index} of {name}: {}", profile.name, code.words());
            out.add_with(entry.span.clone(), message, hint);
        }
    }
}

/// A device that somebody holds.
struct Device<'a> {
    node: &'a str,
    gpu: usize,
    uuid: &'a str,
    resource: &'a str,
}

fn hold(
    world: &mut World,
    node: &mut SimNode,
    device: &Device<'_>,
    user: &At<UserEntry>,
    named: &mut Named,
    out: &mut Problems,
) {
    let user_of = match &user.value {
        UserEntry::Known(user) => user.clone(),
        // Process ids of a machine that is up for a while: above the first few thousand.
        UserEntry::Process(name) => {
            let pid = u32::try_from(world.serial()).unwrap_or(u32::MAX).saturating_add(4000);
            User::Process { pid, name: name.clone() }
        }
    };
    let serial = world.serial();
    match user_of {
        User::Unit(name) => {
            let unit = node.units.entry(name).or_default();
            unit.active = true;
            unit.devices.push(device.uuid.to_owned());
        }
        User::Command(name) => node.commands.entry(name).or_default().devices.push(device.uuid.to_owned()),
        User::Process { pid, name } => {
            let Some(gpu) = node.gpus.get_mut(device.gpu) else { return };
            let compute = gpu.instances.iter_mut().flat_map(|gi| &mut gi.compute).find(|ci| ci.uuid == device.uuid);
            let processes = compute.map_or(&mut gpu.processes, |ci| &mut ci.processes);
            processes.push(SimProcess { pid, name });
        }
        User::Pod { namespace, name } => {
            let key = format!("{namespace}/{name}");
            if !node.in_cluster {
                out.add(user.span.clone(), format!("pod {key} can't run on {}, which is in no cluster", device.node));
                return;
            }
            if device.resource.is_empty() {
                out.add(
                    user.span.clone(),
                    format!("pod {key} can't be given a MIG device: {} advertises none", device.node),
                );
                return;
            }
            let new = || owned(named.owner(&world.workloads, &namespace, &name), uid(&key, serial));
            let pod = world.pods.entry(key.clone()).or_insert_with(new);
            if pod.node.as_deref().is_some_and(|node| node != device.node) {
                out.add(user.span.clone(), format!("pod {key} is on two nodes"));
                return;
            }
            pod.node = Some(device.node.to_owned());
            pod.phase = PodPhase::Running;
            if pod.devices.insert(device.uuid.to_owned()) {
                *pod.requests.entry(device.resource.to_owned()).or_default() += 1;
            }
            named.spans.entry(key).or_insert_with(|| user.span.clone());
        }
    }
}

impl Named {
    /// The workload whose name a pod's begins with, the longest such.
    fn owner<'w>(&self, workloads: &'w [SimWorkload], namespace: &str, name: &str) -> Option<&'w SimWorkload> {
        let there = self.owners.get(namespace)?;
        let mut begins = name.rmatch_indices('-').filter_map(|(at, _)| name.get(..at));
        let at = there.get(name).or_else(|| begins.find_map(|begin| there.get(begin)))?;
        workloads.get(*at)
    }
}

/// A pod that the file names: of that workload, else without a controller.
fn owned(workload: Option<&SimWorkload>, uid: String) -> SimPod {
    let mut new = match workload {
        Some(workload) => {
            let owner = Owner { kind: workload.kind.clone(), name: workload.name.clone() };
            pod(workload, uid, owner)
        }
        None => SimPod {
            uid,
            owner: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            requests: BTreeMap::new(),
            affinity: Default::default(),
            node: None,
            devices: Default::default(),
            phase: PodPhase::Running,
            until_ms: None,
            grace_period_s: 30,
            empty_dir: false,
            mirror: false,
        },
    };
    // It asks for what it holds; that is counted device by device.
    new.requests.clear();
    new
}

/// What the file says of pods must be a state that the controllers would leave alone.
fn check_pods(world: &World, named: &Named, out: &mut Problems) {
    let list = |requests: &BTreeMap<String, u32>| {
        let list: Vec<String> = requests.iter().map(|(resource, count)| format!("{count} {resource}")).collect();
        list.join(" and ")
    };
    for workload in &world.workloads {
        let id = format!("{}/{}", workload.namespace, workload.name);
        let pods: Vec<_> = world.pods_of(workload).collect();
        let wanted = world.wanted(workload) as usize;
        let requests = workload.requests();
        for (at, (key, pod)) in pods.into_iter().enumerate() {
            let Some(span) = named.spans.get(key) else { continue };
            if at == wanted {
                let hint = "name fewer, or raise `replicas`";
                out.add_with(
                    span.clone(),
                    format!("more pods of workload {id} are named than it wants ({wanted})"),
                    hint,
                );
            }
            if !requests.is_empty() && pod.requests != requests {
                let (holds, asks) = (list(&pod.requests), list(&requests));
                out.add(span.clone(), format!("pod {key} holds {holds}, and its workload asks for {asks}"));
            }
            let ordinal = key.rsplit('-').next().and_then(|tail| tail.parse::<u32>().ok());
            if workload.kind == "StatefulSet" && ordinal.is_none_or(|ordinal| ordinal >= workload.replicas) {
                let hint = format!("the pods of a StatefulSet are named {}-0, {}-1…", workload.name, workload.name);
                out.add_with(span.clone(), format!("pod {key} can't be one of StatefulSet {id}"), hint);
            }
        }
    }
}
