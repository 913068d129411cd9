//! The simulated host behind its port.

use std::collections::BTreeSet;

use sectile::ports::{CommandCall, CommandPhase, Host};
use sectile::sim::host::SimHost;
use sectile::sim::lock;

use crate::ready::{node, ready, shared};

fn host() -> SimHost {
    let fleet = node("a", &["1g.10gb", "2g.20gb", "3g.40gb"])
        .replace("\"1g.10gb\"", "\"1g.10gb\", users = [\"unit:e.service\", \"process:77/python3\"]")
        .replace("\"2g.20gb\"", "\"2g.20gb\", users = [\"command:vm\"]");
    let fleet = fleet + "[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\nprocesses = [\"process:77/python3\"]\n";
    SimHost { world: shared(&fleet), node: "a".into() }
}

fn uuid(host: &SimHost, gi: usize) -> String {
    lock(&host.world).nodes["a"].gpus[0].instances[gi].compute[0].uuid.clone()
}

fn run(host: &SimHost, workload: &str, phase: CommandPhase, uuids: &[String]) -> i32 {
    let argv = ["/bin/true".to_owned()];
    ready(host.run(CommandCall { workload, phase, argv: &argv, uuids })).unwrap()
}

#[test]
fn a_unit_stops_and_starts_in_a_second_with_what_it_is_given() {
    let host = host();
    let names: BTreeSet<String> = ["e.service".to_owned(), "unknown.service".to_owned()].into();
    let units = ready(host.units(&names)).unwrap();
    assert_eq!(units.len(), 1);
    assert!(units["e.service"].active);
    assert_eq!(units["e.service"].devices, [uuid(&host, 0)]);
    let begin = lock(&host.world).clock_ms;
    ready(host.stop_unit("e.service", &[])).unwrap();
    ready(host.stop_unit("e.service", &[])).unwrap();
    ready(host.stop_unit("unknown.service", &[])).unwrap();
    assert_eq!(lock(&host.world).clock_ms - begin, 1_000, "what is inactive takes no time to stop");
    let stopped = ready(host.units(&names)).unwrap()["e.service"].clone();
    assert!(!stopped.active && stopped.devices.is_empty());
    let given = [uuid(&host, 2)];
    ready(host.start_unit("e.service", "CUDA_VISIBLE_DEVICES", &given)).unwrap();
    ready(host.start_unit("unknown.service", "CUDA_VISIBLE_DEVICES", &given)).unwrap();
    assert_eq!(lock(&host.world).clock_ms - begin, 3_000);
    let units = ready(host.units(&names)).unwrap();
    assert!(units.values().all(|unit| unit.active && unit.devices == given));
    let error = ready(host.start_unit("e.service", "E", &["MIG-gone".to_owned()])).unwrap_err();
    assert!(!error.transient);
    assert!(error.message.contains("MIG-gone"), "{error}");
}

#[test]
fn a_command_lets_go_two_seconds_after_its_drain() {
    let host = host();
    let held = || ready(host.commands()).unwrap()["vm"].clone();
    assert_eq!(held(), [uuid(&host, 1)]);
    assert_eq!(run(&host, "vm", CommandPhase::Ready, &[]), 0);
    assert_eq!(run(&host, "vm", CommandPhase::Drain, &[]), 0);
    lock(&host.world).pass(1_000);
    assert_eq!(run(&host, "vm", CommandPhase::Drain, &[]), 0, "a second drain does not begin anew");
    lock(&host.world).pass(999);
    assert_eq!(run(&host, "vm", CommandPhase::Drained, &[]), 1);
    lock(&host.world).pass(1);
    assert_eq!(run(&host, "vm", CommandPhase::Drained, &[]), 0);
    assert_eq!(run(&host, "vm", CommandPhase::Ready, &[]), 1);
    assert!(held().is_empty());
    assert_eq!(run(&host, "vm", CommandPhase::Resume, &["MIG-gone".to_owned()]), 1);
    let given = [uuid(&host, 2)];
    assert_eq!(run(&host, "vm", CommandPhase::Resume, &given), 0);
    assert_eq!(run(&host, "vm", CommandPhase::Ready, &[]), 0);
    assert_eq!(held(), given);
    // One that nobody knew is made.
    assert_eq!(run(&host, "new", CommandPhase::Drained, &[]), 0);
    assert!(ready(host.commands()).unwrap().contains_key("new"));
}

#[test]
fn a_process_ends_wherever_it_is() {
    let host = host();
    assert_eq!(ready(host.terminate(1)), Ok(()), "it has ended already");
    ready(host.terminate(77)).unwrap();
    let world = lock(&host.world);
    let gpus = &world.nodes["a"].gpus;
    assert!(gpus[1].processes.is_empty());
    assert!(gpus[0].instances[0].compute[0].processes.is_empty());
}

#[test]
fn a_reset_tells_the_drivers_words() {
    let host = host();
    let pci = lock(&host.world).nodes["a"].gpus[1].pci.clone();
    let error = ready(host.reset_gpu(&pci)).unwrap_err();
    assert_eq!((error.code.as_str(), error.transient), ("In use by another client", true));
    ready(host.terminate(77)).unwrap();
    ready(host.reset_gpu(&pci)).unwrap();
    assert_eq!(ready(host.reset_gpu("00000000:ff:00.0")).unwrap_err().code, "Not Found");
    let other = SimHost { node: "nowhere".into(), ..host };
    assert!(ready(other.commands()).is_err());
}
