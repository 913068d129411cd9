//! What goes wrong: calls that fail in every way, and somebody else at work.

use sectile::execute::at_once;
use sectile::ports::{Cluster as _, Removal};
use sectile::sim::Shared;
use sectile::sim::cluster::SimCluster;
use sectile::sim::fault::{Fate, PortKind, port_of};
use sectile::sim::lock;
use sectile::sim::world::{SimProcess, World};

use crate::rig::Dice;

/// Every way in which a call can go wrong.
pub(crate) fn ways(call: &str) -> Vec<Fate> {
    let port = port_of(call).unwrap();
    if port == PortKind::Clock {
        return vec![Fate::Takes(90), Fate::Takes(3_600)];
    }
    let codes = port.codes();
    let fails = codes.iter().map(|(code, _)| Fate::Fails(code.clone()));
    let loses = codes.iter().map(|(code, _)| Fate::Loses(code.clone()));
    fails.chain(loses).chain([Fate::Hangs, Fate::Swallows, Fate::Takes(90)]).collect()
}

/// One of them.
pub(crate) fn way(call: &str, dice: &mut Dice) -> Fate {
    let ways = ways(call);
    ways[dice.pick(ways.len())].clone()
}

/// Somebody else does something that is legal to do: with nvidia-smi, kubectl or systemctl. Nothing that anybody holds
/// is destroyed: that would be their doing. What they did, in words.
pub(crate) fn interfere(shared: &Shared, dice: &mut Dice) -> String {
    let name = {
        let world = lock(shared);
        let with_gpus: Vec<&String> = world.nodes.iter().filter(|(_, n)| !n.gpus.is_empty()).map(|(n, _)| n).collect();
        with_gpus[dice.pick(with_gpus.len())].clone()
    };
    match dice.pick(7) {
        0 => create(&mut lock(shared), &name, dice),
        1 => destroy(&mut lock(shared), &name, dice),
        2 => process(&mut lock(shared), &name, dice),
        3 => {
            let mut world = lock(shared);
            for gpu in &mut world.nodes.get_mut(&name).unwrap().gpus {
                gpu.processes.clear();
                gpu.instances.iter_mut().flat_map(|gi| &mut gi.compute).for_each(|ci| ci.processes.clear());
            }
            format!("every process on {name} ends")
        }
        4 => evict(shared, dice),
        5 => {
            let mut world = lock(shared);
            let all = world.workloads.len();
            let Some(workload) = world.workloads.get_mut(dice.pick(all)) else { return "nothing".to_owned() };
            workload.replicas = if dice.chance(50) { workload.replicas + 1 } else { workload.replicas.max(2) - 1 };
            let told = format!("{} is scaled to {}", workload.name, workload.replicas);
            world.pass(0);
            told
        }
        _ => {
            let mut world = lock(shared);
            let all = world.budgets.len();
            let Some(budget) = world.budgets.get_mut(dice.pick(all)) else { return "nothing".to_owned() };
            budget.max_unavailable = u32::try_from(dice.pick(3)).unwrap();
            format!("budget {} allows {}", budget.name, budget.max_unavailable)
        }
    }
}

fn create(world: &mut World, name: &str, dice: &mut Dice) -> String {
    let gpu = dice.pick(world.nodes[name].gpus.len());
    let profile = ["1g.10gb", "2g.20gb", "1g.20gb", "1g.6gb", "3g.40gb"][dice.pick(5)];
    let start = u32::try_from(dice.pick(8)).unwrap();
    let on = world.nodes[name].gpus[gpu].mode;
    let made = on && world.place(name, gpu, profile.parse().unwrap(), start, None).is_ok();
    tell(world, name);
    if made { format!("{profile} at {start} is made on GPU {gpu} of {name}") } else { "nothing".to_owned() }
}

fn destroy(world: &mut World, name: &str, dice: &mut Dice) -> String {
    let gpu = dice.pick(world.nodes[name].gpus.len());
    let idle = |gi: &sectile::sim::world::SimGi| gi.compute.iter().all(|ci| world.holders(name, &ci.uuid).is_empty());
    let all: Vec<usize> = {
        let instances = &world.nodes[name].gpus[gpu].instances;
        (0..instances.len()).filter(|at| idle(&instances[*at])).collect()
    };
    if all.is_empty() {
        return "nothing".to_owned();
    }
    let at = all[dice.pick(all.len())];
    let gone = world.nodes.get_mut(name).unwrap().gpus[gpu].instances.remove(at);
    tell(world, name);
    format!("the idle instance at {} of GPU {gpu} of {name} is destroyed", gone.placement.start)
}

/// Whoever cuts GPUs by hand tells the host, too.
fn tell(world: &mut World, name: &str) {
    let node = world.nodes.get_mut(name).unwrap();
    let there: std::collections::BTreeSet<String> = node.devices().cloned().collect();
    node.device_files.values_mut().for_each(|named| named.clone_from(&there));
}

fn process(world: &mut World, name: &str, dice: &mut Dice) -> String {
    let gpus = &mut world.nodes.get_mut(name).unwrap().gpus;
    let gpu = dice.pick(gpus.len());
    let pid = 70_000 + u32::try_from(dice.pick(10_000)).unwrap();
    let process = SimProcess { pid, name: "stranger".to_owned() };
    let mut compute: Vec<_> = gpus[gpu].instances.iter_mut().flat_map(|gi| &mut gi.compute).collect();
    if compute.is_empty() {
        return "nothing".to_owned();
    }
    let at = dice.pick(compute.len());
    compute[at].processes.push(process);
    format!("process {pid} begins on GPU {gpu} of {name}")
}

fn evict(shared: &Shared, dice: &mut Dice) -> String {
    let pod = {
        let world = lock(shared);
        world.pods.iter().nth(dice.pick(world.pods.len())).map(|(key, pod)| (key.clone(), pod.uid.clone()))
    };
    let Some((key, uid)) = pod else { return "nothing".to_owned() };
    let (namespace, name) = key.split_once('/').unwrap();
    let how = Removal { grace_period_s: None, delete: false, dry_run: false };
    let cluster = SimCluster { world: shared.clone() };
    let became = at_once(cluster.remove_pod(namespace, name, &uid, how)).unwrap();
    format!("somebody evicts {key}: {became:?}")
}
