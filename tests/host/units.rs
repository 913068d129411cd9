//! Units: what is seen of them, stopping and starting them, and what may go wrong with that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sectile::host::given::Given;
use sectile::host::node::NodeHost;
use sectile::host::plain::PlainHost;
use sectile::host::systemd::Systemd;
use sectile::model::Allowed;
use sectile::model::observed::UnitState;
use sectile::ports::{Host as _, Port};

use super::stand_in::{Manner, StandIn, World};

/// How long a unit is watched here.
const SETTLE: Duration = Duration::from_millis(400);

/// The host of a node on that bus.
pub(crate) fn host(stand_in: &StandIn, units: &[&str], commands: &[&str]) -> NodeHost {
    let state = stand_in.path().join("state");
    std::fs::create_dir_all(&state).unwrap();
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    NodeHost {
        node: "n".to_owned(),
        allowed: Allowed { file: "/etc/s.toml".to_owned(), units: texts(units), commands: texts(commands) },
        plain: PlainHost::new(Some("true".to_owned()), Some("true".to_owned()), || {}),
        systemd: Systemd::new(Some(stand_in.address.clone()), stand_in.path(), SETTLE),
        given: Given::open(&state, true).unwrap(),
    }
}

const ENV: &str = "CUDA_VISIBLE_DEVICES";

fn uuids(list: &[&str]) -> Vec<String> {
    list.iter().map(|uuid| (*uuid).to_owned()).collect()
}

async fn seen(host: &NodeHost, names: &[&str]) -> BTreeMap<String, UnitState> {
    host.units(&names.iter().map(|name| (*name).to_owned()).collect()).await.unwrap()
}

/// Starts a unit of that manner with a device.
async fn start(manner: Manner) -> (StandIn, Port<()>) {
    let stand_in = StandIn::start();
    stand_in.world().unit("e.service", manner);
    let host = host(&stand_in, &["e.service"], &[]);
    let started = host.start_unit("e.service", ENV, &uuids(&["MIG-1"])).await;
    (stand_in, started)
}

/// Calls but for the subscriptions.
fn calls(world: &World) -> Vec<&str> {
    world.calls.iter().map(String::as_str).filter(|call| *call != "Subscribe").collect()
}

#[tokio::test]
async fn a_unit_is_given_its_devices_before_it_starts_and_loses_them_when_it_stops() {
    let stand_in = StandIn::start();
    stand_in.world().unit("e@1.service", Manner::Well);
    stand_in.world().unit("e@2.service", Manner::Well);
    let host = host(&stand_in, &["e@*.service"], &[]);
    assert!(!seen(&host, &["e@1.service"]).await["e@1.service"].active);
    host.start_unit("e@1.service", ENV, &uuids(&["MIG-1", "MIG-2"])).await.unwrap();
    let text = stand_in.drop_in("e@1.service").unwrap();
    assert!(text.ends_with("[Service]\nEnvironment=\"CUDA_VISIBLE_DEVICES=MIG-1,MIG-2\"\n"), "{text}");
    assert_eq!(stand_in.drop_in("e@2.service"), None);
    assert_eq!(calls(&stand_in.world()), ["Reload", "StartUnit e@1.service"]);
    assert_eq!(stand_in.world().units["e@1.service"].runs_with, ["CUDA_VISIBLE_DEVICES=MIG-1,MIG-2"]);
    // Also where the tree does not name it any more.
    let units = seen(&host, &[]).await;
    assert_eq!((units.len(), &units["e@1.service"].devices), (1, &uuids(&["MIG-1", "MIG-2"])));
    host.stop_unit("e@1.service", &[]).await.unwrap();
    let state = &seen(&host, &["e@1.service"]).await["e@1.service"];
    assert!(!state.active && state.devices.is_empty());
    // Whoever starts it by hand finds none.
    assert!(stand_in.drop_in("e@1.service").unwrap().ends_with("Environment=\"CUDA_VISIBLE_DEVICES=\"\n"));
    assert_eq!(stand_in.world().units["e@1.service"].environment, ["CUDA_VISIBLE_DEVICES="]);
    // Once more has nothing to do.
    host.stop_unit("e@1.service", &[]).await.unwrap();
    assert_eq!(calls(&stand_in.world()).len(), 4);
}

#[tokio::test]
async fn what_a_unit_was_given_by_others_and_what_its_processes_use_is_seen() {
    let stand_in = StandIn::start();
    {
        let mut world = stand_in.world();
        let unit = world.unit("e.service", Manner::Well);
        unit.environment = vec!["NVIDIA_VISIBLE_DEVICES=MIG-7, GPU-8".to_owned(), "NAME=x".to_owned()];
        unit.processes = vec![4711];
        (unit.active, unit.sub) = ("deactivating".to_owned(), "stop-sigterm".to_owned());
    }
    let host = host(&stand_in, &["*.service"], &[]);
    let units = seen(&host, &["e.service", "absent.service", "e@.service"]).await;
    assert_eq!(units.keys().collect::<Vec<_>>(), ["e.service"]);
    // What is about to end still holds it.
    let UnitState { active, devices, processes, .. } = &units["e.service"];
    assert_eq!((*active, devices, processes), (true, &uuids(&["GPU-8", "MIG-7"]), &BTreeSet::from([4711])));
}

#[tokio::test]
async fn a_unit_that_is_not_allowed_is_never_touched() {
    let stand_in = StandIn::start();
    stand_in.world().unit("sshd.service", Manner::Well);
    for allowed in [&[][..], &["e*.service"]] {
        let host = host(&stand_in, allowed, &[]);
        assert!(seen(&host, &["sshd.service"]).await.is_empty());
        for error in [
            host.start_unit("sshd.service", ENV, &[]).await.unwrap_err(),
            host.start_unit("sshd.service", "", &[]).await.unwrap_err(),
            host.stop_unit("sshd.service", &[]).await.unwrap_err(),
            host.stop_unit("e/../../x.service", &[]).await.unwrap_err(),
        ] {
            assert!(!error.transient && error.code == "not allowed", "{error:?}");
            assert!(error.message.contains("`units` of [host] in /etc/s.toml"), "{error:?}");
        }
    }
    assert!(stand_in.world().calls.is_empty());
    assert_eq!(std::fs::read_dir(stand_in.path().join("system")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_unit_that_does_not_come_up_is_told_with_its_end() {
    for (manner, code, how) in [
        (Manner::Fails, "job failed", "exit status 3"),
        (Manner::Dies, "org.freedesktop.systemd1.JobFailed", "signal, signal 11"),
        (Manner::Ends, "org.freedesktop.systemd1.JobFailed", "it ended by itself, with exit status 0"),
        (Manner::Flaps, "org.freedesktop.systemd1.JobFailed", "again and again"),
    ] {
        let (stand_in, started) = start(manner).await;
        let error = started.unwrap_err();
        let active = stand_in.world().units["e.service"].active.clone();
        assert!(["inactive", "failed"].contains(&active.as_str()), "it is not left to itself: {active}");
        assert!(!error.transient && error.code == code, "{manner:?}: {error:?}");
        assert!(error.message.contains("e.service") && error.message.contains(how), "{manner:?}: {error:?}");
    }
    let stand_in = StandIn::start();
    let host = host(&stand_in, &["*"], &[]);
    let error = host.start_unit("absent.service", ENV, &[]).await.unwrap_err();
    assert_eq!((error.transient, error.code.as_str()), (false, "org.freedesktop.systemd1.NoSuchUnit"));
    assert_eq!(stand_in.drop_in("absent.service"), None);
}

#[tokio::test]
async fn a_unit_that_is_started_again_is_not_stopped() {
    let stand_in = StandIn::start();
    stand_in.world().unit("e.service", Manner::Returns).active = "active".to_owned();
    let host = host(&stand_in, &["e.service"], &[]);
    let error = host.stop_unit("e.service", &[]).await.unwrap_err();
    assert!(error.transient && error.message.contains("is started again"), "{error:?}");
}

#[tokio::test]
async fn a_job_that_is_over_before_its_number_is_known_is_not_waited_for() {
    let (stand_in, started) = start(Manner::AtOnce).await;
    started.unwrap();
    assert_eq!(stand_in.world().units["e.service"].starts, 1);
}

#[tokio::test]
async fn a_job_of_whose_end_nobody_tells_is_looked_for() {
    let (stand_in, started) = start(Manner::Silently).await;
    started.unwrap();
    assert_eq!(stand_in.world().units["e.service"].active, "active");
}

#[tokio::test]
async fn a_unit_that_somebody_else_started_meanwhile_is_started_anew_with_its_devices() {
    let stand_in = StandIn::start();
    {
        let mut world = stand_in.world();
        let unit = world.unit("e.service", Manner::Well);
        (unit.active, unit.own) = ("active".to_owned(), vec![format!("{ENV}=MIG-0")]);
        world.reload();
    }
    let host = host(&stand_in, &["e.service"], &[]);
    host.start_unit("e.service", ENV, &uuids(&["MIG-1"])).await.unwrap();
    assert_eq!(calls(&stand_in.world()), ["Reload", "RestartUnit e.service"]);
    assert_eq!(stand_in.world().units["e.service"].runs_with, ["CUDA_VISIBLE_DEVICES=MIG-1"]);
    // What runs with the right ones is left alone: an earlier try may not have been heard of to its end.
    host.start_unit("e.service", ENV, &uuids(&["MIG-1"])).await.unwrap();
    assert_eq!(calls(&stand_in.world())[2..], ["StartUnit e.service"]);
}

/// A unit that runs with `MIG-0` and was to be given `MIG-1`, by somebody who was cut short: before systemd had read that, or
/// before the unit was started again.
async fn cut_short(read: bool) -> (StandIn, NodeHost) {
    let stand_in = StandIn::start();
    stand_in.world().unit("e.service", Manner::Well);
    let host = host(&stand_in, &["e.service"], &[]);
    host.start_unit("e.service", ENV, &uuids(&["MIG-0"])).await.unwrap();
    assert_eq!(held(&host).await, (false, uuids(&["MIG-0"])));
    {
        let mut world = stand_in.world();
        world.units.get_mut("e.service").unwrap().manner = Manner::Hangs;
        world.refuses = (!read).then_some("Reload");
    }
    let devices = uuids(&["MIG-1"]);
    let start = host.start_unit("e.service", ENV, &devices);
    let cut = tokio::time::timeout(Duration::from_millis(300), start).await;
    assert_eq!(cut.is_err(), read, "{cut:?}");
    {
        let mut world = stand_in.world();
        world.units.get_mut("e.service").unwrap().manner = Manner::Well;
        world.refuses = None;
    }
    (stand_in, host)
}

/// Whether the unit may hold others than it should, and what it may hold.
async fn held(host: &NodeHost) -> (bool, Vec<String>) {
    let state = &seen(host, &["e.service"]).await["e.service"];
    (state.stale, state.devices.clone())
}

#[tokio::test]
async fn a_unit_that_still_ran_with_what_it_had_before_was_taken_to_hold_what_it_was_given_last() {
    let (stand_in, host) = cut_short(true).await;
    {
        let unit = &stand_in.world().units["e.service"];
        assert_eq!((&unit.environment[0], &unit.runs_with[0]), (&format!("{ENV}=MIG-1"), &format!("{ENV}=MIG-0")));
    }
    assert_eq!(held(&host).await, (true, uuids(&["MIG-0", "MIG-1"])));
    // It is started again, though systemd tells that it has what it is to have.
    host.start_unit("e.service", ENV, &uuids(&["MIG-1"])).await.unwrap();
    assert_eq!(stand_in.world().units["e.service"].runs_with, [format!("{ENV}=MIG-1")]);
    assert_eq!(held(&host).await, (false, uuids(&["MIG-1"])));
}

#[tokio::test]
async fn a_unit_whose_drop_in_was_read_for_somebody_else_was_taken_to_run_with_it() {
    let (stand_in, host) = cut_short(false).await;
    assert_eq!(held(&host).await, (true, uuids(&["MIG-0", "MIG-1"])));
    stand_in.world().reload();
    assert_eq!(held(&host).await, (true, uuids(&["MIG-0", "MIG-1"])));
    // Whether a start came before or behind that, nobody can tell.
    stand_in.world().started("e.service");
    assert_eq!(held(&host).await, (true, uuids(&["MIG-0", "MIG-1"])));
    host.stop_unit("e.service", &[]).await.unwrap();
    host.start_unit("e.service", ENV, &uuids(&["MIG-1"])).await.unwrap();
    assert_eq!(held(&host).await, (false, uuids(&["MIG-1"])));
}

#[tokio::test]
async fn a_unit_that_somebody_restarts_behind_a_change_of_its_drop_in_holds_the_new_alone() {
    let (stand_in, host) = cut_short(true).await;
    stand_in.world().started("e.service");
    assert_eq!(held(&host).await, (false, uuids(&["MIG-1"])));
}

#[tokio::test]
async fn what_another_drop_in_sets_since_a_unit_started_was_taken_for_what_it_holds() {
    let stand_in = StandIn::start();
    stand_in.world().unit("e.service", Manner::Well);
    let host = host(&stand_in, &["e.service"], &[]);
    host.start_unit("e.service", ENV, &uuids(&["MIG-1"])).await.unwrap();
    {
        let mut world = stand_in.world();
        world.units.get_mut("e.service").unwrap().last = vec![format!("{ENV}=MIG-9")];
        world.reload();
    }
    assert_eq!(held(&host).await, (false, uuids(&["MIG-1", "MIG-9"])));
    // And it can't be given any other.
    let error = host.start_unit("e.service", ENV, &uuids(&["MIG-2"])).await.unwrap_err();
    assert!(!error.transient && error.message.contains("something else of it sets CUDA_VISIBLE_DEVICES"), "{error:?}");
}

#[tokio::test]
async fn a_file_of_variables_that_wins_over_a_drop_in_was_not_looked_at() {
    let stand_in = StandIn::start();
    let file = stand_in.path().join("embedder.env");
    std::fs::write(&file, format!("# its own\n{ENV}=\"MIG-7\"\nNAME=x\n")).unwrap();
    stand_in.world().unit("e.service", Manner::Well).files = vec![file.display().to_string(), "/absent".to_owned()];
    stand_in.world().started("e.service");
    let host = host(&stand_in, &["e.service"], &[]);
    assert_eq!(held(&host).await, (false, uuids(&["MIG-7"])));
    host.stop_unit("e.service", &[]).await.unwrap();
    let error = host.start_unit("e.service", ENV, &uuids(&["MIG-1"])).await.unwrap_err();
    assert!(!error.transient && error.message.contains("something else of it sets CUDA_VISIBLE_DEVICES"), "{error:?}");
    assert!(stand_in.drop_in("e.service").unwrap().ends_with("=\"\n"), "what it is not started with is taken back");
    std::fs::write(&file, "NAME=x\n").unwrap();
    host.start_unit("e.service", ENV, &uuids(&["MIG-1"])).await.unwrap();
}

#[tokio::test]
async fn a_unit_that_was_given_none_is_started_as_it_was_before() {
    let stand_in = StandIn::start();
    {
        let mut world = stand_in.world();
        world.unit("e.service", Manner::Well).own = vec![format!("{ENV}=0")];
        world.reload();
    }
    let host = host(&stand_in, &["e.service"], &[]);
    host.start_unit("e.service", ENV, &uuids(&["MIG-1"])).await.unwrap();
    host.stop_unit("e.service", &[]).await.unwrap();
    host.start_unit("e.service", ENV, &[]).await.unwrap();
    assert_eq!(stand_in.drop_in("e.service"), None);
    assert_eq!(stand_in.world().units["e.service"].runs_with, [format!("{ENV}=0")]);
}

#[tokio::test]
async fn whoever_needs_a_unit_was_stopped_with_it() {
    let stand_in = StandIn::start();
    {
        let mut world = stand_in.world();
        // By way of one that does not run.
        world.unit("a.service", Manner::Well).needed_by = vec!["b.service".to_owned(), "absent.service".to_owned()];
        world.unit("b.service", Manner::Well).needed_by = vec!["c.service".to_owned(), "a.service".to_owned()];
        world.unit("c.service", Manner::Well);
        world.started("a.service");
    }
    let host = host(&stand_in, &["a.service", "b.service", "c.service"], &[]);
    let takes = async || seen(&host, &["a.service"]).await["a.service"].takes.clone();
    assert!(takes().await.is_empty());
    stand_in.world().started("c.service");
    assert_eq!(takes().await, BTreeSet::from(["c.service".to_owned()]));
    for refused in [
        host.stop_unit("a.service", &["a.service".to_owned()]).await,
        // It would be started anew, and those with it.
        host.start_unit("a.service", ENV, &uuids(&["MIG-1"])).await,
    ] {
        let error = refused.unwrap_err();
        assert!(!error.transient && error.message.contains("would stop c.service with it"), "{error:?}");
    }
    assert_eq!(calls(&stand_in.world()), ["Reload"]);
    assert_eq!(stand_in.world().units["a.service"].active, "active");
    // Those that are paused together may stop together.
    host.stop_unit("a.service", &["a.service".to_owned(), "c.service".to_owned()]).await.unwrap();
    assert_eq!(stand_in.world().units["a.service"].active, "inactive");
}

#[tokio::test]
async fn whoever_conflicts_with_a_unit_was_stopped_by_its_start() {
    let stand_in = StandIn::start();
    let against = vec!["other.service".to_owned(), "shutdown.target".to_owned()];
    stand_in.world().unit("e.service", Manner::Well).conflicts = against;
    stand_in.world().unit("other.service", Manner::Well);
    stand_in.world().started("other.service");
    let host = host(&stand_in, &["e.service"], &[]);
    let error = host.start_unit("e.service", ENV, &uuids(&["MIG-1"])).await.unwrap_err();
    assert!(!error.transient && error.message.contains("would stop other.service"), "{error:?}");
    assert!(calls(&stand_in.world()).is_empty());
    stand_in.world().units.get_mut("other.service").unwrap().active = "inactive".to_owned();
    host.start_unit("e.service", ENV, &uuids(&["MIG-1"])).await.unwrap();
}

#[tokio::test]
async fn where_systemd_does_not_tell_a_units_processes_it_was_taken_to_have_none() {
    let stand_in = StandIn::start();
    stand_in.world().unit("e.service", Manner::Well);
    stand_in.world().started("e.service");
    let host = host(&stand_in, &["e.service"], &[]);
    stand_in.world().refuses = Some("GetUnitProcesses");
    let error = host.units(&BTreeSet::from(["e.service".to_owned()])).await.unwrap_err();
    assert!(error.message.contains("systemd does not tell the processes of e.service"), "{error:?}");
}

#[tokio::test]
async fn a_client_is_only_started() {
    let stand_in = StandIn::start();
    stand_in.world().unit("dcgm.service", Manner::Well);
    let host = host(&stand_in, &["dcgm.service"], &[]);
    host.start_unit("dcgm.service", "", &[]).await.unwrap();
    assert_eq!(calls(&stand_in.world()), ["StartUnit dcgm.service"]);
    assert_eq!(stand_in.drop_in("dcgm.service"), None);
}

#[tokio::test]
async fn a_job_that_hangs_is_left_by_who_waits_for_it() {
    let stand_in = StandIn::start();
    stand_in.world().unit("e.service", Manner::Hangs);
    let host = host(&stand_in, &["e.service"], &[]);
    let start = host.start_unit("e.service", ENV, &[]);
    assert!(tokio::time::timeout(Duration::from_millis(600), start).await.is_err());
    // And others are served meanwhile, and after.
    assert_eq!(seen(&host, &["e.service"]).await.len(), 1);
}

#[tokio::test]
async fn a_bus_that_goes_away_in_the_middle_is_an_error_that_passes() {
    let mut stand_in = StandIn::start();
    stand_in.world().unit("e.service", Manner::Cuts);
    let host = host(&stand_in, &["e.service"], &[]);
    let devices = uuids(&["MIG-1"]);
    let cut = async {
        while stand_in.world().units["e.service"].starts == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stand_in.away();
    };
    let (started, ()) = tokio::join!(host.start_unit("e.service", ENV, &devices), cut);
    let error = started.unwrap_err();
    assert!(error.transient, "{error:?}");
    let away = host.units(&BTreeSet::from(["e.service".to_owned()])).await.unwrap_err();
    assert!(away.transient && away.message.contains("systemd's bus can't be reached"), "{away:?}");
    stand_in.back();
    // It had been started after all, with what it was given: it is left alone.
    stand_in.world().units.get_mut("e.service").unwrap().manner = Manner::Well;
    host.start_unit("e.service", ENV, &devices).await.unwrap();
    assert_eq!(seen(&host, &[]).await["e.service"].devices, devices);
}

#[tokio::test]
async fn where_systemd_does_not_run_there_are_no_units() {
    let stand_in = StandIn::start();
    stand_in.world().unit("e.service", Manner::Well);
    std::fs::remove_dir_all(stand_in.path().join("system")).unwrap();
    let host = host(&stand_in, &["e.service"], &[]);
    assert!(seen(&host, &["e.service"]).await.is_empty());
}
