//! Several agents and controllers at once.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::stage::{Running, Stage, kubectl, wait_for};
use crate::{FLEET, filled_with};

/// Every node of the fleet, GPU 0 and GPU 1 as in `LAYOUT`.
const LAYOUT: &str = r#"
nodes = ["live-crew*"]
[[gpu]]
index = [0]
instances = [{ profile = "2g.20gb", start = 0 }, { profile = "3g.40gb", start = 4 }]
[[gpu]]
index = [1]
instances = ["4g.40gb", "3g.40gb"]
"#;
const POLICY: &str = "nodes = [\"*\"]\n[drain]\ntimeout = \"90s\"\n[budget]\ncanary = 1\nmax_nodes = 2\n";

/// So many nodes, with an agent each.
struct Crew {
    stages: Vec<Stage>,
    agents: Vec<Running>,
}

/// How a node is shown.
#[derive(Clone, Debug, PartialEq)]
struct Shown {
    tainted: bool,
    state: String,
}

impl Crew {
    fn set(scene: &str, nodes: usize, fleet: impl Fn(usize) -> String) -> Self {
        let stages = (1..=nodes).map(|n| filled_with(&fleet(n), &format!("crew{scene}-{n}"), 1));
        let crew = Crew { stages: stages.collect(), agents: Vec::new() };
        crew.edit(LAYOUT, POLICY, scene);
        crew
    }

    /// Gives every node the same tree. Nodes of other scenes are not its business.
    fn edit(&self, layout: &str, policy: &str, scene: &str) {
        for stage in &self.stages {
            stage.edit_layout(&layout.replace("live-crew*", &format!("live-crew{scene}-*")));
            stage.edit_policy(&policy.replace("\"*\"", &format!("\"live-crew{scene}-*\"")));
        }
    }

    fn begin(&mut self) {
        self.agents = self.stages.iter().map(|stage| stage.begin(&["run", "--resync", "5s"])).collect();
    }

    fn shown(&self) -> BTreeMap<String, Shown> {
        let all: Value = serde_json::from_str(&kubectl(&["get", "nodes", "-o", "json"], "")).unwrap();
        let mut shown = BTreeMap::new();
        for stage in &self.stages {
            let node = all["items"].as_array().unwrap().iter().find(|n| n["metadata"]["name"] == stage.name.as_str());
            let node = node.unwrap();
            let tainted = node["spec"]["taints"].to_string().contains("sectile.dev/repartitioning");
            let state = node["metadata"]["labels"]["sectile.dev/state"].as_str().unwrap_or_default().to_owned();
            shown.insert(stage.name.clone(), Shown { tainted, state });
        }
        shown
    }

    /// Nodes under change at once, the most of them; until all are in that state.
    fn watch_until(&self, what: &str, so: impl Fn(&BTreeMap<String, Shown>) -> bool) -> usize {
        let (mut most, canary) = (0, self.stages[0].name.clone());
        wait_for(what, || {
            let shown = self.shown();
            most = most.max(shown.values().filter(|node| node.tainted).count());
            let others = shown.iter().any(|(name, node)| *name != canary && node.tainted);
            assert!(!others || shown[&canary].state == "converged", "before its canary: {shown:?}");
            so(&shown)
        });
        most
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.agents.drain(..).for_each(Running::kill);
    }
}

#[test]
#[ignore = "needs KUBECONFIG of a cluster to play with, and kubectl"]
fn five_agents_at_once_begin_with_the_canary_and_never_change_more_nodes_than_they_may() {
    let mut crew = Crew::set("", 5, |_| FLEET.to_owned());
    crew.begin();
    let most = crew.watch_until("all nodes to converge", |shown| {
        shown.values().all(|node| node.state == "converged" && !node.tainted)
    });
    assert!((1..=2).contains(&most), "{most} nodes changed at once");
    for stage in &crew.stages {
        wait_for("embed to run again", || stage.running("embed") == 1);
        let log = stage.log();
        assert!(log.robbed.is_empty() && log.rejected.is_empty(), "{}: {log:?}", stage.name);
    }
    let budgets = kubectl(&["get", "configmap", "sectile-budgets", "-n", "sectile", "-o", "json"], "");
    assert!(!budgets.contains("live-crew-"), "a place was not given back: {budgets}");
    // Nothing more is done, until somebody stops them all.
    let fleet = crew.stages[0].preview(&["status", "--fleet"]);
    assert!(fleet.code == 0 && fleet.stdout.matches("converged").count() >= 5, "{fleet:?}");
}

#[test]
#[ignore = "needs KUBECONFIG of a cluster to play with, and kubectl"]
fn a_roll_out_that_fails_stops_at_the_canary() {
    let broken = "\n[[fault.call]]\nname = \"create_gi_at\"\ntimes = 1000\nfails = \"INSUFFICIENT_RESOURCES\"\n";
    let mut crew = Crew::set("bad", 3, |n| if n == 1 { FLEET.to_owned() + broken } else { FLEET.to_owned() });
    let before: Vec<_> = crew.stages.iter().map(|stage| (stage.uids("llama"), stage.uids("embed"))).collect();
    crew.begin();
    let canary = crew.stages[0].name.clone();
    crew.watch_until("the canary to fail", |shown| shown[&canary].state == "failed");
    crew.watch_until("the others to wait", |shown| {
        shown.iter().all(|(name, node)| *name == canary || node.state == "waiting")
    });
    // They had every reason to go on, and did not.
    std::thread::sleep(std::time::Duration::from_secs(6));
    let shown = crew.shown();
    assert!(shown.values().all(|node| !node.tainted), "{shown:?}");
    for (stage, before) in crew.stages.iter().zip(&before).skip(1) {
        assert_eq!((stage.uids("llama"), stage.uids("embed")), *before, "{}", stage.name);
    }
    let fleet = crew.stages[0].preview(&["status", "--fleet"]);
    assert!(fleet.stdout.contains("canary") && fleet.stdout.contains("Insufficient Resources"), "{fleet:?}");
}

#[test]
#[ignore = "needs KUBECONFIG of a cluster to play with, and kubectl"]
fn everybody_stops_before_the_next_step_where_somebody_says_so() {
    let mut crew = Crew::set("stop", 2, |_| FLEET.to_owned());
    let told = crew.stages[0].admin(&["suspend", "--fleet", "--reason", "INC-4711: a bad day"]);
    assert_eq!(told.code, 0, "{told:?}");
    let before: Vec<_> = crew.stages.iter().map(|stage| stage.uids("embed")).collect();
    crew.agents = crew.stages.iter().map(|stage| stage.begin(&["run", "--resync", "5s"])).collect();
    wait_for("all nodes to be suspended", || crew.shown().values().all(|node| node.state == "suspended"));
    let fleet = crew.stages[0].preview(&["status", "--fleet"]);
    assert!(fleet.stdout.contains("INC-4711: a bad day"), "{fleet:?}");
    assert_eq!(crew.stages.iter().map(|stage| stage.uids("embed")).collect::<Vec<_>>(), before);
    let told = crew.stages[0].admin(&["resume", "--fleet", "--reason", "INC-4711 is over"]);
    assert_eq!(told.code, 0, "{told:?}");
    crew.watch_until("all nodes to converge", |shown| shown.values().all(|node| node.state == "converged"));
}
