//! Fleet files: what they become, and what is told of wrong ones.

use sectile::model::observed::PodPhase;
use sectile::sim::fault::{Fate, Fault};
use sectile::sim::fleet::{self, BUILTIN, FleetErrors};
use sectile::sim::world::World;

const GPU: &str = "[[node]]\nname = \"a\"\n[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\n";

fn read(text: &str) -> World {
    fleet::parse("FLEET.toml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str) -> FleetErrors {
    *fleet::parse("FLEET.toml", text).expect_err(text)
}

/// The messages, with the text that each caret is under.
fn told(text: &str) -> Vec<String> {
    errors(text).errors.iter().map(|e| format!("{}: {}", &text[e.span.clone()], e.message)).collect()
}

#[test]
fn the_builtin_fleet_is_read() {
    let world = fleet::parse(fleet::BUILTIN_NAME, BUILTIN).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(!world.nodes.is_empty());
    assert_eq!(world.clock_ms, fleet::BEGIN_MS);
}

#[test]
fn the_example_of_the_manual_is_read() {
    let world = read(
        r#"
[[node]]
name = "gpu-a-01"
labels = { pool = "inference" }
  [[node.gpu]]
  model = "h100-80gb-sxm"                # a catalogue id
  mig = true
  instances = [
    { profile = "3g.40gb", start = 4, users = ["pod:inference/llama-chat-7d9f"] },
    { profile = "2g.20gb", start = 0 },
    { profile = "1g.10gb", start = 2 },
  ]
  processes = []
[[workload]]
kind = "Deployment"
namespace = "inference"
name = "llama-chat"
replicas = 1
profile = "3g.40gb"
[[workload]]
kind = "Deployment"
namespace = "inference"
name = "embed"
profile = "2g.20gb"
[[budget]]
namespace = "inference"
name = "embed"
workload = "embed"
max_unavailable = 1
[fault.latency]
clients = "9s"
"#,
    );
    let node = &world.nodes["gpu-a-01"];
    assert_eq!(node.labels["pool"], "inference");
    assert!(node.gpus[0].mode && node.gpus[0].pending);
    assert_eq!(node.gpus[0].instances.len(), 3);
    assert_eq!(node.advertised.len(), 3);
    let pod = &world.pods["inference/llama-chat-7d9f"];
    assert_eq!(pod.phase, PodPhase::Running);
    assert_eq!(pod.owner.as_ref().map(|o| o.name.as_str()), Some("llama-chat"));
    assert_eq!(pod.devices.len(), 1);
    assert_eq!((world.latency_ms("clients", 1), world.latency_ms("unit", 1)), (9_000, 1));
    // The pod that nobody named was made by its controller, and the scheduler found it a place.
    let (name, made) = world.pods.iter().find(|(key, _)| key.starts_with("inference/embed-")).unwrap();
    assert_eq!((made.phase, made.node.as_deref()), (PodPhase::Pending, Some("gpu-a-01")));
    let tail: Vec<usize> = name.rsplit('-').take(2).map(str::len).collect();
    assert_eq!(tail, [5, 5], "{name}");
}

#[test]
fn reading_twice_gives_the_same_world_and_identities_differ() {
    let text = format!("{GPU}count = 8\n[[node]]\nname = \"b\"\n[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\n");
    assert_eq!(read(&text), read(&text));
    let world = read(&text);
    let mut uuids: Vec<&str> = world.nodes.values().flat_map(|n| &n.gpus).map(|g| g.uuid.as_str()).collect();
    assert!(uuids.iter().all(|uuid| uuid.starts_with("GPU-") && uuid.len() == 40));
    uuids.sort_unstable();
    uuids.dedup();
    assert_eq!(uuids.len(), 9);
    let pci: Vec<&str> = world.nodes["a"].gpus.iter().map(|g| g.pci.as_str()).collect();
    assert_eq!(pci[0], "00000000:17:00.0");
    assert!(pci.is_sorted() && pci.iter().all(|pci| pci.len() == 16));
}

#[test]
fn a_node_of_64_gpus_has_ascending_bus_ids() {
    let world = read(&format!("{GPU}count = 64\n"));
    let pci: Vec<&String> = world.nodes["a"].gpus.iter().map(|g| &g.pci).collect();
    assert!(pci.is_sorted() && pci.windows(2).all(|two| two[0] != two[1]));
}

#[test]
fn every_kind_of_user_holds_what_it_is_named_on() {
    let world = read(&format!(
        "{GPU}instances = [
  {{ profile = \"2g\", start = 0, users = [\"unit:embedder.service\"] }},
  {{ profile = \"1g.10gb\", start = 2, users = [\"command:desktop-vm-7\"] }},
  {{ profile = \"1g.10gb\", users = [\"process:4711/python3\", \"process:train\"] }},
  {{ profile = \"3g.40gb\", start = 4, compute = [\"2c.3g.40gb\", \"1c.3g.40gb\"], users = [\"pod:x/lone\", \"unit:u\"] }},
]
[[node.gpu]]
model = \"h100-80gb-sxm\"
processes = [\"process:12/Xorg\", \"blender\", \"pod:x/whole\"]
"
    ));
    let node = &world.nodes["a"];
    let uuid = |gi: usize, ci: usize| node.gpus[0].instances[gi].compute[ci].uuid.clone();
    assert!(node.units["embedder.service"].active);
    assert_eq!(node.units["embedder.service"].devices, [uuid(0, 0)]);
    assert_eq!(node.commands["desktop-vm-7"].devices, [uuid(1, 0)]);
    let processes = &node.gpus[0].instances[2].compute[0].processes;
    assert_eq!((processes[0].pid, processes[0].name.as_str()), (4711, "python3"));
    assert_eq!(processes[1].name, "train");
    assert!(processes[1].pid > 4000);
    // No start was given: the lowest that is legal and free.
    assert_eq!(node.gpus[0].instances[2].placement.start, 3);
    let lone = &world.pods["x/lone"];
    assert_eq!((&lone.owner, lone.phase), (&None, PodPhase::Running));
    assert!(lone.devices.contains(&uuid(3, 0)));
    assert_eq!(node.units["u"].devices, [uuid(3, 1)]);
    assert_eq!(node.gpus[1].processes.len(), 2);
    assert!(!node.gpus[1].mode);
    assert_eq!(world.pods["x/whole"].requests["nvidia.com/gpu"], 1);
}

#[test]
fn the_longest_workload_name_owns_a_pod() {
    let world = read(&format!(
        "{GPU}instances = [
  {{ profile = \"1g.10gb\", users = [\"pod:x/chat-large-abc\"] }},
  {{ profile = \"1g.10gb\", users = [\"pod:x/chat-7\"] }},
  {{ profile = \"1g.10gb\", users = [\"pod:x/chatter\"] }},
  {{ profile = \"1g.10gb\", users = [\"pod:y/chat-7\"] }},
]
[[workload]]
kind = \"Deployment\"
namespace = \"x\"
name = \"chat\"
[[workload]]
kind = \"Deployment\"
namespace = \"x\"
name = \"chat-large\"
"
    ));
    let owner = |key: &str| world.pods[key].owner.as_ref().map(|owner| owner.name.clone());
    assert_eq!(owner("x/chat-large-abc").as_deref(), Some("chat-large"));
    assert_eq!(owner("x/chat-7").as_deref(), Some("chat"));
    assert_eq!(owner("x/chatter"), None);
    assert_eq!(owner("y/chat-7"), None);
}

#[test]
fn bare_metal_is_in_no_cluster() {
    let world = read("[[node]]\nname = \"a\"\ncluster = false\n[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\nmig = true\n");
    assert!(!world.nodes["a"].in_cluster);
    assert!(world.nodes["a"].advertised.is_empty());
    let text = "[[node]]\nname = \"a\"\ncluster = false\n[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\n\
        instances = [{ profile = \"1g.10gb\", users = [\"pod:x/y\"] }]\n";
    assert_eq!(told(text), ["\"pod:x/y\": pod x/y can't run on a, which is in no cluster"]);
}

#[test]
fn all_errors_are_told_at_once_with_place_and_a_way_out() {
    let errors = errors(
        "[[node]]
nam = \"a\"
[[node]]
name = \"b\"
labels = { pool = 1 }
  [[node.gpu]]
  model = \"h100-80gb-sxm\"
  mig = \"yes\"
  count = 0
  instances = [{ profile = \"3g.40gb\", strat = 4 }, { start = 99 }, { profile = \"5g.x\" }]
  processes = [\"pid:7\"]
  [[node.gpu]]
  model = \"k80\"
[[workload]]
kind = \"Deploymnet\"
namespace = \"x\"
name = \"w\"
profile = \"3g\"
start = \"soon\"
[[budget]]
namespace = \"x\"
name = \"b\"
workload = \"w\"
[faults]
",
    );
    insta::assert_snapshot!(errors.render(false));
    assert_ne!(errors.render(true), errors.render(false));
}

#[test]
fn what_does_not_fit_the_gpu_is_told() {
    let gpu = |rest: &str| errors(&format!("{GPU}{rest}")).errors.remove(0);
    let wrong = gpu("instances = [{ profile = \"4g.40gb\", start = 4 }]");
    assert!(wrong.message.starts_with("4g.40gb at 4 does not fit GPU 0 of a: "), "{wrong:?}");
    assert_eq!((wrong.line, wrong.column), (5, 14));
    assert_eq!(wrong.hint.as_deref(), Some("it may start at 0, where nothing else lies"));
    let wrong = gpu("instances = [{ profile = \"4g.40gb\" }, { profile = \"1g.10gb\", start = 3 }]");
    assert!(wrong.message.starts_with("1g.10gb at 3 does not fit GPU 0 of a: "), "{wrong:?}");
    let wrong = gpu("instances = [{ profile = \"7g.80gb\" }, { profile = \"1g.10gb\" }]");
    assert!(wrong.message.starts_with("1g.10gb does not fit GPU 0 of a: "), "{wrong:?}");
    let wrong = gpu("instances = [{ profile = \"1g.5gb\" }]");
    assert_eq!(wrong.message, "h100-80gb-sxm has no 1g.5gb");
    assert!(wrong.hint.is_some_and(|hint| hint.starts_with("it offers 1g.10gb, ")));
    // What is wrong with one of alike GPUs is told once.
    assert_eq!(told(&format!("{GPU}count = 8\ninstances = [{{ profile = \"1g.5gb\" }}]")).len(), 1);
}

#[test]
fn what_makes_no_sense_is_told() {
    let gpu = |rest: &str| told(&format!("{GPU}{rest}"));
    let workload = |kind: &str, rest: &str| {
        format!("[[workload]]\nkind = \"{kind}\"\nnamespace = \"x\"\nname = \"w\"\nprofile = \"1g.10gb\"\n{rest}\n")
    };
    let budget =
        |of: &str| format!("[[budget]]\nnamespace = \"x\"\nname = \"b\"\nworkload = \"{of}\"\nmax_unavailable = 1\n");
    let user =
        |profile: &str, user: &str| format!("instances = [{{ profile = \"{profile}\", users = [\"{user}\"] }}]\n");
    assert_eq!(
        gpu("mig = false\ninstances = [{ profile = \"1g\" }]"),
        ["[{ profile = \"1g\" }]: a GPU with MIG mode off has no instances"]
    );
    assert_eq!(gpu("[[node]]\nname = \"a\""), ["\"a\": node `a` is there twice"]);
    assert_eq!(gpu(&format!("count = 2\n{}", user("1g", "unit:u"))), ["\"unit:u\": the same user on several GPUs"]);
    assert_eq!(
        gpu("instances = [{ profile = \"1g\", compute = [], users = [\"unit:u\"] }]"),
        ["\"unit:u\": an instance without compute instances has no users"]
    );
    assert_eq!(
        gpu(&format!("{}{}", user("2g", "pod:x/w-a"), workload("Deployment", ""))),
        ["\"pod:x/w-a\": pod x/w-a holds 1 nvidia.com/mig-2g.20gb, and its workload asks for 1 nvidia.com/mig-1g.10gb"]
    );
    assert_eq!(
        gpu(&format!("{}{}", user("1g", "pod:x/w-a"), workload("Deployment", "replicas = 0"))),
        ["\"pod:x/w-a\": more pods of workload x/w are named than it wants (0)"]
    );
    assert_eq!(
        gpu(&format!("{}{}", user("1g", "pod:x/w-a"), workload("StatefulSet", "replicas = 2"))),
        ["\"pod:x/w-a\": pod x/w-a can't be one of StatefulSet x/w"]
    );
    let job = workload("Job", "");
    assert_eq!(told(&format!("{job}{}", workload("Deployment", ""))), ["\"w\": workload x/w is there twice"]);
    let wrong = errors(&format!("{job}{}", budget("ww")));
    assert_eq!(wrong.errors[0].message, "there is no workload x/ww");
    assert_eq!(wrong.errors[0].hint.as_deref(), Some("did you mean `w`?"));
    assert_eq!(told(&format!("{job}{}{}", budget("w"), budget("w"))), ["\"w\": budget x/b is there twice"]);
    let pod = user("1g", "pod:x/p");
    let two = format!("{GPU}{pod}{}{pod}", GPU.replace("\"a\"", "\"b\""));
    assert_eq!(told(&two), ["\"pod:x/p\": pod x/p is on two nodes"]);
}

#[test]
fn of_a_syntax_error_only_the_first_is_told() {
    let errors = errors("[[node]]\nname = \"a\nlabels = {\n[[node.gpu]\n");
    assert_eq!(errors.errors.len(), 1);
    assert_eq!(errors.errors[0].line, 2);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[\\[\\]a-z={}\"0-9.\\n,é ]{0,80}") {
        if let Err(errors) = fleet::parse("x", &text) {
            proptest::prop_assert!(!errors.render(false).is_empty());
        }
    }

    #[test]
    fn no_damage_to_a_good_file_panics(at in 0usize..BUILTIN.len(), with in "[\\[\\]a-z={}\"0-9é]{0,3}", len in 0usize..9) {
        let fit = |at: usize| (0..=at.min(BUILTIN.len())).rev().find(|&at| BUILTIN.is_char_boundary(at)).unwrap_or(0);
        let (from, to) = (fit(at), fit(at + len));
        let text = format!("{}{with}{}", &BUILTIN[..from], &BUILTIN[to..]);
        if let Err(errors) = fleet::parse("x", &text) {
            proptest::prop_assert!(!errors.render(true).is_empty());
        }
    }
}

#[test]
fn a_call_goes_wrong_in_one_way_that_its_port_has() {
    let call = |text: &str| format!("{GPU}[[fault.call]]\n{text}\n");
    let fault = |text: &str| read(&call(text)).faults[0].clone();
    let wrong = fault("name = \"destroy_gi\"\nnth = 3\nfails = \"IN_USE\"");
    let fate = Fate::Fails("IN_USE".to_owned());
    assert_eq!(wrong, Fault { call: "destroy_gi".to_owned(), nth: 3, times: 1, fate, seen: 0 });
    assert_eq!(fault("name = \"set_taint\"\nloses = \"503\"").fate, Fate::Loses("503".to_owned()));
    assert_eq!(fault("name = \"set_taint\"\nhangs = \"before\"").fate, Fate::Hangs);
    assert_eq!(fault("name = \"set_taint\"\nhangs = \"after\"").fate, Fate::Swallows);
    assert_eq!(fault("name = \"set_taint\"\ntakes = \"2m\"").fate, Fate::Takes(120));
    assert_eq!(fault("name = \"set_taint\"\nstalls = \"1s\"").fate, Fate::Stalls(1));
    for (text, said) in [
        ("name = \"set_tain\"\nhangs = \"before\"", "\"set_tain\": no port has a call `set_tain`"),
        ("name = \"set_taint\"\nfails = \"IN_USE\"", "\"IN_USE\": `IN_USE` is no code that this call fails with"),
        ("name = \"bind\"\nhangs = \"x\"", "\"x\": a call hangs \"before\" or \"after\" it took effect, not \"x\""),
    ] {
        assert_eq!(told(&call(text)), [said]);
    }
    let none = told(&call("name = \"bind\""));
    assert!(none[0].contains("goes wrong in one way: one of `fails`, `loses`, `hangs`, `takes`, `stalls`"), "{none:?}");
    assert_eq!(told(&call("name = \"bind\"\nfails = \"503\"\ntakes = \"1s\"")).len(), 1);
}
