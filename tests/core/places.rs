//! A pod goes to no node where it may not run although its labels say so.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sectile::execute::protocol::{Answer, Command, Effect, Event};
use sectile::execute::{Machine, Outcome};
use sectile::model::plan::Verdict;
use sectile::model::{NodePlan, Observed, Plan, Policy};
use sectile::plan;
use sectile::ports::Eviction;

use super::defects::{layout, node, run, stateful};
use super::fleets::Run;

/// A pod of node a, with a free instance there and on b and c.
fn scene(here: &str) -> Run {
    let fleet = node("a", &["0:1g.10gb:pod:x/w-0", here]) + &node("b", &["0:1g.10gb"]) + &node("c", &["0:1g.10gb"]);
    run(&(fleet + &stateful("w")), &[layout("a", &["7g.80gb"])], "")
}

fn barred(run: &Run, nodes: &[&str]) -> (Observed, Plan) {
    let (desired, mut observed, _) = run.plan();
    let nodes: BTreeSet<String> = nodes.iter().map(ToString::to_string).collect();
    observed.cluster.pods.iter_mut().for_each(|pod| pod.barred.clone_from(&nodes));
    let plan = plan::plan(&desired, &observed, Timestamp::UNIX_EPOCH);
    assert_eq!(plan::check::check(&desired, &observed, &plan), []);
    (observed, plan)
}

/// Where the pod goes; `None`: nowhere, and that is what blocks.
fn goes(run: &Run, nodes: &[&str]) -> Option<String> {
    let (_, plan) = barred(run, nodes);
    let [moved] = plan.nodes[0].disruptions.as_slice() else { panic!("{:?}", plan.nodes[0].disruptions) };
    let codes: Vec<_> = plan.nodes[0].blocked.iter().map(|block| block.code.word()).collect();
    match moved.verdict {
        Verdict::Move => assert_eq!(codes, [] as [&str; 0]),
        _ => assert_eq!(codes, ["no-capacity"]),
    }
    moved.moves_to.clone()
}

#[test]
fn a_barred_node_is_no_place_and_its_own_may_be_one() {
    let (alone, beside) = (scene("0:2g.20gb"), scene("0:1g.10gb"));
    assert_eq!(goes(&alone, &[]).as_deref(), Some("b"));
    assert_eq!(goes(&alone, &["b"]).as_deref(), Some("c"));
    assert_eq!(goes(&alone, &["b", "c"]), None);
    assert_eq!(goes(&beside, &["b", "c"]).as_deref(), Some("GPU 1"));
    assert_eq!(goes(&beside, &["a"]).as_deref(), Some("b"));
    assert_eq!(goes(&beside, &["a", "b", "c"]), None);
}

/// How a node's plan ends where the cluster looks like that when the guards ask.
fn ends(plan: &NodePlan, cluster: &Observed) -> Outcome {
    let mut machine = Machine::new(plan, &Policy::default());
    let mut event = Event::Start;
    loop {
        let answer = match machine.next(event, Timestamp::UNIX_EPOCH) {
            Command::Done(outcome) => return outcome,
            Command::Wait(_) => panic!("nothing is waited for"),
            Command::Do(Effect::Ask(_)) => Answer::Evicted(Eviction::Accepted),
            Command::Do(Effect::LookStopped) => Answer::Stopped(None),
            Command::Do(Effect::LookAdmitted) => Answer::Missing(Vec::new()),
            Command::Do(Effect::LookCluster) => Answer::Cluster(Box::new(cluster.cluster.clone())),
            // The eviction is as far as one has to look.
            Command::Do(Effect::Act(sectile::model::StepKind::EvictPod { .. })) => return Outcome::Done,
            Command::Do(_) => Answer::Done,
        };
        event = Event::Answer(Ok(answer));
    }
}

#[test]
fn what_is_barred_meanwhile_holds_the_eviction() {
    let run = scene("0:1g.10gb");
    let (free, plan) = barred(&run, &["c"]);
    assert_eq!(ends(&plan.nodes[0], &free), Outcome::Done);
    for (nodes, held) in [(&["a", "c"][..], false), (&["b", "c"], false), (&["a", "b", "c"], true)] {
        let (seen, _) = barred(&run, nodes);
        let outcome = ends(&plan.nodes[0], &seen);
        assert_eq!(matches!(outcome, Outcome::Held { .. }), held, "{nodes:?}: {outcome:?}");
    }
}
