//! How many calls of NVML observing and applying cost: on a real GPU each may take seconds.

use sectile::gpu::Gpus;
use sectile::model::plan::SlotRef;
use sectile::model::{ComputeName, Placement};
use sectile::sim::lock;

use crate::door::TestDriver;
use crate::support::{NODE, hardware, root};

/// For each GPU, and for each instance, once what they can be cut into is known.
const GPU: u64 = 30;
const INSTANCE: u64 = 8;
/// What a change of one instance may cost beside the looks before and after the plan. To look who uses one takes nine:
/// whether the GPU is still the one, the instance and where it lies, its compute instance and its device, that one's UUID
/// and three lists of processes. To destroy it then takes three: whether the handle still stands for it, and the two.
const CHANGE: u64 = 12;

fn counted<T>(gpus: &Gpus<TestDriver>, run: impl FnOnce() -> T) -> (u64, T) {
    let before = gpus.driver().calls();
    let done = run();
    (gpus.driver().calls() - before, done)
}

#[test]
fn observing_costs_few_calls() {
    for board in ["a30-24gb", "a100-40gb", "h100-80gb-sxm", "h200-141gb", "b200-180gb", "rtx-pro-6000-blackwell"] {
        let world = hardware(&[(board, true), (board, true)]);
        let gpus = Gpus::new(root(&world));
        let geometry = gpus.observe().unwrap().0[0].geometry.clone().unwrap();
        let (empty, _) = counted(&gpus, || gpus.observe().unwrap());
        let smallest = geometry.profiles.iter().find(|p| p.slices == 1 && p.max_instances >= 4).unwrap();
        for start in smallest.starts.iter().take(4) {
            lock(&world).place(NODE, 0, smallest.name, *start, None).unwrap();
        }
        gpus.observe().unwrap();
        let (full, (seen, gaps, _)) = counted(&gpus, || gpus.observe().unwrap());
        assert!(seen[0].instances.len() == 4 && gaps.is_empty(), "{gaps:?}");
        println!("{board}: {empty} calls for two GPUs, {full} with four instances");
        assert!(empty <= 1 + 2 * GPU, "{board}: {empty}");
        assert!(full <= empty + 4 * INSTANCE, "{board}: {full} after {empty}");
    }
}

/// What the executor does for one step: look who uses what it touches, and then the step.
#[test]
fn changing_one_instance_costs_few_calls() {
    let world = hardware(&[("h100-80gb-sxm", true)]);
    let gpus = Gpus::new(root(&world));
    lock(&world).place(NODE, 0, "1g.10gb".parse().unwrap(), 6, None).unwrap();
    let two = SlotRef {
        gpu: "GPU-0".to_owned(),
        profile: "2g.20gb".parse().unwrap(),
        placement: Placement { start: 0, size: 2 },
    };
    let whole: [ComputeName; 1] = ["2g.20gb".parse().unwrap()];
    // Once, so that it is known what can be cut into what.
    gpus.observe().unwrap();
    gpus.create(&two, &whole).unwrap();
    gpus.destroy(&two).unwrap();
    let (create, _) = counted(&gpus, || gpus.create(&two, &whole).unwrap());
    let (destroy, _) = counted(&gpus, || {
        gpus.at(&two).unwrap().unwrap();
        gpus.destroy(&two).unwrap();
    });
    println!("creating: {create} calls; looking who uses it, and destroying: {destroy}");
    assert!(create <= CHANGE && destroy <= CHANGE, "{create} {destroy}");
}
