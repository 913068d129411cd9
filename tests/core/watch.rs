//! A driver that hangs, behind the deadline.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sectile::gpu::Gpus;
use sectile::model::Placement;
use sectile::model::plan::SlotRef;
use sectile::nvml::{NotOpened, Watched};
use sectile::ports::{Driver, NvmlCode};
use sectile::sim::driver::SimDriver;
use sectile::sim::fault::{Fate, Faulty, Meddler};
use sectile::sim::{Shared, lock};

use crate::support::{NODE, hardware};

/// The driver of these tests either answers at once, also on a machine that is busy, or waits to be let go.
const LIMIT: Duration = Duration::from_secs(1);

/// Stops before a call of one name until it is told to go on.
#[derive(Clone)]
struct Stop {
    call: Arc<Mutex<Option<&'static str>>>,
    gate: Arc<Mutex<Receiver<()>>>,
}

impl Meddler for Stop {
    fn fate(&self, call: &'static str) -> Fate {
        let mut stops = self.call.lock().unwrap();
        if *stops == Some(call) {
            *stops = None;
            drop(stops);
            let _ = self.gate.lock().unwrap().recv();
        }
        Fate::Passes
    }
    fn pass(&self, _: i64) {}
}

type Door = Watched<Faulty<SimDriver, Stop>>;

/// The watched driver, what stops it, and what lets it go on.
fn watched() -> (Shared, Door, Stop, std::sync::mpsc::Sender<()>) {
    let world = hardware(&[("h100-80gb-sxm", true)]);
    let (go, gate) = channel();
    let stop = Stop { call: Arc::default(), gate: Arc::new(Mutex::new(gate)) };
    let (inner, meddler) = (world.clone(), stop.clone());
    let open = move || Ok::<_, NvmlCode>(Faulty::new(SimDriver::new(inner.clone(), NODE), meddler.clone()));
    (world, Watched::open(LIMIT, open).unwrap(), stop, go)
}

fn slot() -> SlotRef {
    let placement = Placement { start: 0, size: 2 };
    SlotRef { gpu: "GPU-0".to_owned(), profile: "2g.20gb".parse().unwrap(), placement }
}

#[test]
fn a_call_past_its_deadline_is_a_timeout_and_told_by_name_until_the_driver_comes_back() {
    let (world, driver, stop, go) = watched();
    let device = driver.device_by_index(0).unwrap();
    *stop.call.lock().unwrap() = Some("mig_mode");
    assert_eq!(driver.hangs(), None);
    assert_eq!(driver.mig_mode(device), Err(NvmlCode::Timeout));
    assert_eq!(driver.hangs(), Some("nvmlDeviceGetMigMode"));
    // Nothing is put behind it: it would strike when nobody counts on it any more.
    assert_eq!(driver.create_gi(device, 14), Err(NvmlCode::Timeout));
    assert_eq!(driver.hangs(), Some("nvmlDeviceGetMigMode"));
    go.send(()).unwrap();
    while driver.hangs().is_some() {
        std::thread::yield_now();
    }
    assert_eq!(driver.mig_mode(device), Ok((true, true)));
    assert!(lock(&world).nodes[NODE].gpus[0].instances.is_empty(), "what was refused was not done later");
}

#[test]
fn a_driver_that_hangs_is_not_observed_and_destroys_nothing() {
    let (world, driver, stop, go) = watched();
    let gpus = Gpus::new(driver);
    gpus.create(&slot(), &["2g.20gb".parse().unwrap()]).unwrap();
    *stop.call.lock().unwrap() = Some("compute_processes");
    let error = gpus.observe().unwrap_err();
    assert!(error.transient && error.code == "Timeout", "{error}");
    assert_eq!(gpus.driver().hangs(), Some("nvmlDeviceGetComputeRunningProcesses"));
    let error = gpus.destroy(&slot()).unwrap_err();
    assert!(error.transient && error.code == "Timeout", "{error}");
    assert_eq!(lock(&world).nodes[NODE].gpus[0].instances.len(), 1);
    go.send(()).unwrap();
}

#[test]
fn a_driver_that_does_not_come_up_is_not_waited_for() {
    let (_go, gate) = channel::<()>();
    let opened = Watched::<SimDriver>::open(LIMIT, move || {
        let _ = gate.recv();
        Err(())
    });
    assert!(matches!(opened, Err(NotOpened::Hangs)));
    let opened = Watched::<SimDriver>::open(LIMIT, || Err("no driver"));
    assert!(matches!(opened, Err(NotOpened::Failed("no driver"))));
}

/// As for a reset, which no GPU gets that anybody has open.
#[test]
fn a_driver_that_was_let_go_of_is_opened_again() {
    let world = hardware(&[("h100-80gb-sxm", true)]);
    let opened = Arc::new(Mutex::new(0));
    let count = opened.clone();
    let driver = Watched::open(LIMIT, move || {
        *count.lock().unwrap() += 1;
        Ok::<_, NvmlCode>(SimDriver::new(world.clone(), NODE))
    });
    let driver = driver.unwrap();
    assert_eq!(driver.device_count(), Ok(1));
    driver.release();
    assert_eq!(*opened.lock().unwrap(), 1, "not before somebody asks");
    assert_eq!((driver.device_count(), driver.device_count()), (Ok(1), Ok(1)));
    assert_eq!(*opened.lock().unwrap(), 2);
}
