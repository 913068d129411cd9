//! Every code of the closed list is reached by something that may well happen, and says what to do about it.

use jiff::Timestamp;
use sectile::execute::Rollback;
use sectile::execute::carry::hold;
use sectile::execute::journal::Failure;
use sectile::model::memory::TakenUp;
use sectile::model::observed::{Known, Seated, Suspension, UnitState};
use sectile::model::plan::BlockCode;
use sectile::model::{Allowed, Block, Desired, Digest, Observed, Plan};
use sectile::plan::{self, guards};

use super::defects::{layout, managed, node, run, stateful, unit};
use super::fleets::Run;
use super::policy::{annotated, busy, daemon, fleet, lonely, mover, naked, switched, with_data, with_mig_manager};
use super::ready::{budget, workload};

/// The plan of a run, of which something was seen otherwise, or is gone.
fn bent(run: &Run, bend: impl Fn(&mut Observed)) -> Plan {
    let (_, mut observed, _) = run.plan();
    bend(&mut observed);
    let desired = run.resolve(&observed);
    planned(&desired, &observed)
}

fn planned(desired: &Desired, observed: &Observed) -> Plan {
    let plan = plan::plan(desired, observed, Timestamp::UNIX_EPOCH);
    assert_eq!(plan::check::check(desired, observed, &plan), []);
    plan
}

fn gpus(gpus: &[&str], goal: &[&str], policy: &str) -> Plan {
    run(&node("n", gpus), &[layout("n", goal)], policy).plan().2
}

/// One GPU and an entry that this is written for.
fn entry(selector: &str) -> Plan {
    let text = format!("nodes = [\"n\"]\n[[gpu]]\n{selector}\ninstances = [\"1g\"]\n");
    run(&node("n", &["0:1g.10gb"]), &[text], "").plan().2
}

/// A unit that holds an instance, and what binds it.
fn bound(binding: &str) -> Plan {
    let fleet = node("n", &["0:1g.10gb:unit:u.service"]);
    run(&fleet, &[layout("n", &["1g.10gb"]) + binding], "").plan().2
}

/// A node whose device plugin has that strategy.
fn strategy(word: &str, goal: &[&str]) -> Plan {
    let fleet = node("n", &["0:1g.10gb"]).replace("name = \"n\"\n", &format!("name = \"n\"\nstrategy = \"{word}\"\n"));
    run(&fleet, &[layout("n", goal)], "").plan().2
}

/// What is to be seen where that code is told.
fn scenario(code: BlockCode) -> Option<Plan> {
    let one = |node| Plan { nodes: vec![node], ..bound("") };
    let of = |run: Run| run.plan().2;
    let mode = |word: &str| of(mover().under(&format!("[apply]\nmode = \"{word}\"\n")));
    let pod = |scene: super::policy::Scene| of(scene.under(""));
    Some(match code.word() {
        "window" => of(mover().under("[window]\nopen = [\"Fri 00:00-01:00\"]\n")),
        "budget" => {
            let shut = run(
                &(node("n", &["0:1g.10gb:pod:x/w-0", "0:1g.10gb"]) + &stateful("w") + &budget("w", 0)),
                &[layout("n", &["7g.80gb", "1g.10gb"])],
                "",
            );
            assert!(of(shut).nodes[0].waiting.iter().all(|b| b.code == code && b.object == "pod x/w-0"));
            of(fleet(2, "[budget]\nmax_nodes = 1\n"))
        }
        "process-wait" => of(busy().under("[protect]\nprocesses = \"wait\"\n")),
        "manual-mode" => mode("manual"),
        "undisruptive-mode" => mode("undisruptive"),
        "no-policy" => {
            let fleet = node("n", &["0:1g.10gb:pod:x/w-0", "0:1g.10gb"]) + &stateful("w");
            of(Run::new(&fleet, &[("layouts/n.toml", &layout("n", &["7g.80gb", "1g.10gb"]))]))
        }
        "protected" => of(mover().under("[protect]\npods = [{ namespace = \"x\" }]\n")),
        "annotated" => pod(annotated("sectile.dev/do-not-disrupt", "true")),
        "unmanaged-pod" => pod(naked()),
        "emptydir" => pod(with_data()),
        "daemonset-pod" => pod(daemon()),
        "mirror-pod" => pod(mover().with_pod(|pod| pod.mirror = true)),
        "shared-claim" => bent(&mover().under("[drain]\nforce = true\n"), |observed| {
            observed.cluster.pods.iter_mut().for_each(|pod| _ = pod.shared_claims.insert("x/slice".to_owned()));
        }),
        "process" => pod(busy()),
        "unbound-user" => gpus(&["0:1g.10gb:unit:foreign.service"], &["7g.80gb"], ""),
        "two-budgets" => {
            let twice = budget("w", 1) + &budget("w", 1).replace("name = \"w\"\nw", "name = \"v\"\nw");
            let fleet = node("n", &["0:1g.10gb:pod:x/w-0", "0:1g.10gb"]) + &stateful("w") + &twice;
            of(run(&fleet, &[layout("n", &["7g.80gb", "1g.10gb"])], ""))
        }
        "immutable" => {
            let fleet = node("n", &["0:1g.10gb:pod:x/j-a 2:2g.20gb"]) + &workload("Job", "j", 1, "1g.10gb", "");
            of(run(&fleet, &[layout("n", &["1g.10gb 2g.20gb"]) + &managed("Job", "j", "2g.20gb")], ""))
        }
        "rebind" => {
            let fleet = node("n", &["0:1g.10gb:pod:x/w-0"]) + &stateful("w");
            of(run(&fleet, &[layout("n", &["7g.80gb"]) + &managed("StatefulSet", "w", "7g.80gb")], ""))
        }
        "no-capacity" => {
            let fleet = node("n", &["0:1g.10gb:pod:x/w-0"]) + &stateful("w");
            of(run(&fleet, &[layout("n", &["7g.80gb"])], ""))
        }
        "unknown-users" => bent(&run(&node("n", &["0:1g.10gb"]), &[layout("n", &["7g.80gb"])], ""), |observed| {
            observed.nodes.get_mut("n").unwrap().gpus[0].instances[0].users = Known::Unknown;
        }),
        "does-not-fit" => gpus(&["0:1g.10gb"], &["4g.40gb 4g.40gb"], ""),
        "unknown-profile" => gpus(&["0:1g.10gb"], &["1g.5gb"], ""),
        "unknown-geometry" => bent(&run(&node("n", &["0:1g.10gb"]), &[layout("n", &["2g"])], ""), |observed| {
            observed.nodes.get_mut("n").unwrap().gpus[0].geometry = None;
        }),
        "not-mig-capable" => bent(&run(&node("n", &["off"]), &[layout("n", &["2g"])], ""), |observed| {
            observed.nodes.get_mut("n").unwrap().gpus[0].mig.capable = false;
        }),
        "mode-change" => one(switched("off", "h100-80gb-sxm", "[gpu]\nmode_change = \"refuse\"\n")),
        "gpu-in-use" => one(switched("off !9/x", "h100-80gb-sxm", "[protect]\nprocesses = \"terminate\"\n")),
        "reset" => one(switched("off", "a100-80gb", "[gpu]\nreset = \"refuse\"\n")),
        "too-few-gpus" => entry("count = 2"),
        "no-such-gpu" => entry("index = [3]"),
        "undecided" => {
            let text = "nodes = [\"n\"]\nlabels = { pool = \"a\" }\n[[gpu]]\ninstances = [\"1g\"]\n".to_owned();
            bent(&run(&node("n", &["0:1g.10gb"]), &[text], ""), |observed| {
                observed.nodes.get_mut("n").unwrap().labels = Known::Unknown;
            })
        }
        "foreign-writer" => of(with_mig_manager(&[]).under("")),
        "allocation-unsupported" => of(mover().under("[clients]\nallocation = \"dra\"\n")),
        "strategy-single" => strategy("single", &["1g.10gb 2g.20gb"]),
        "strategy-none" => strategy("none", &["1g.10gb"]),
        "uncoordinated" => one(lonely("[budget]\nmax_nodes = 1\n")),
        "compute-split-unsupported" => {
            let cut = "nodes = [\"n\"]\n[[gpu]]\ninstances = [{ profile = \"3g.40gb\", compute = [\"1c.3g.40gb\"] }]\n";
            of(run(&node("n", &["0:1g.10gb"]), &[cut.to_owned()], ""))
        }
        "over-bound" => {
            let twice = unit("u", "1g.10gb").replace("profile =", "per_replica = 2\nprofile =");
            bound(&twice)
        }
        "no-such-target" => bound(&unit("v", "1g.10gb")),
        "not-allowed" => {
            let (mut desired, observed, _) = mover().under("[clients]\nsystemd = [\"u.service\"]\n").plan();
            guards::permit(&mut desired, &Allowed::default());
            planned(&desired, &observed)
        }
        "stops-others" => {
            let takes = |unit: &'static str, others: &'static [&str]| {
                move |observed: &mut Observed| {
                    let units = &mut observed.nodes.get_mut("n").unwrap().units;
                    let takes = others.iter().map(|other| (*other).to_owned()).collect();
                    let state = UnitState { active: true, takes, ..units.remove(unit).unwrap_or_default() };
                    units.insert(unit.to_owned(), state);
                }
            };
            // Those that are paused together may stop together.
            let paused = "[clients]\nsystemd = [\"a.service\", \"b.service\"]\n";
            let run = mover().under(paused);
            let both = |others| {
                move |observed: &mut Observed| {
                    [takes("a.service", others), takes("b.service", &[])].iter().for_each(|take| take(observed))
                }
            };
            assert!(!bent(&run, both(&["b.service"])).nodes[0].steps.is_empty());
            assert!(bent(&run, takes("a.service", &["b.service"])).nodes[0].steps.is_empty());
            let refused = bent(&run, both(&["b.service", "web.service"]));
            let told = |plan: &Plan| plan.nodes[0].blocked.iter().any(|block| block.message.contains("web.service"));
            assert!(told(&refused) && refused.nodes[0].steps.is_empty());
            // Where nothing is paused, it is nobody's concern.
            assert_eq!(bent(&mover().under(""), takes("a.service", &["web.service"])).nodes[0].blocked, []);
            let layout = layout("n", &["7g.80gb", "1g.10gb"]) + &unit("u", "1g.10gb");
            let run = super::defects::run(&node("n", &["0:1g.10gb:unit:u.service", ""]), &[layout], "");
            assert!(!bent(&run, |_| {}).nodes[0].steps.is_empty());
            let refused = bent(&run, takes("u.service", &["web.service"]));
            assert!(told(&refused) && !refused.nodes[0].steps.iter().any(|step| step.kind.word() == "stop_unit"));
            refused
        }
        "unobserved" => {
            let (desired, mut observed, _) = mover().under("").plan();
            observed.nodes.clear();
            planned(&desired, &observed)
        }
        "suspended" => bent(&mover().under(""), |observed| {
            let since = "2026-01-01T00:00:00Z".to_owned();
            let why = Suspension { reason: "racks move".to_owned(), since, ..Suspension::default() };
            observed.nodes.get_mut("n").unwrap().suspended = Some(why);
        }),
        "failed" => {
            let mut plan = of(mover().under(""));
            let (what, why, rollback) = (None, "`set_taint`: 403".to_owned(), Rollback::Whole);
            let failure = Failure { step: 1, what, why, left: Vec::new(), rollback, inputs: Digest::of([]) };
            hold(&mut plan.nodes[0], &failure);
            plan
        }
        "mass-removal" => {
            let (mut desired, observed, _) = mover().under("").plan();
            let before = TakenUp { digest: Digest::of([]), layouts: 3, bindings: Default::default() };
            let block = guards::removal(&before, &TakenUp { layouts: 0, ..before.clone() }).unwrap();
            guards::hold_tree(&mut desired, &block);
            planned(&desired, &observed)
        }
        "inventory-changed" => bent(&mover().under(""), |observed| {
            let node = observed.nodes.get_mut("n").unwrap();
            node.inventory = vec![Seated { index: 0, pci: "00000000:FF:00.0".to_owned(), uuid: "GPU-0".to_owned() }];
        }),
        _ => return None,
    })
}

#[test]
fn every_code_is_reached_and_tells_its_object_and_a_way_out() {
    for code in BlockCode::ALL {
        let plan = scenario(*code).unwrap_or_else(|| panic!("no scenario yields {code}"));
        let waiting = || plan.nodes.iter().flat_map(|node| &node.waiting);
        let blocked = || plan.nodes.iter().flat_map(|node| &node.blocked).chain(&plan.cluster.blocked);
        let found: Vec<&Block> = waiting().chain(blocked()).filter(|block| block.code == *code).collect();
        assert!(!found.is_empty(), "{code}: {:?}", waiting().chain(blocked()).collect::<Vec<_>>());
        for block in found {
            let told = [&block.message, &block.object, &block.hint].iter().all(|text| !text.is_empty());
            assert!(told && block.message != block.hint, "{block:?}");
        }
        assert_eq!(waiting().any(|block| block.code == *code), code.waits(), "{code}");
        // Where it is blocked nobody is disturbed, and what waits is not done.
        for node in plan.nodes.iter().filter(|node| !node.blocked.is_empty()) {
            assert!(node.steps.iter().all(|step| !step.disruptive || step.waits.is_some()), "{code}");
        }
    }
}
