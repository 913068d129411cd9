//! Each port once more, where every call first asks what is to become of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Fate, HANG_MS, nvml, port_error};
use crate::model::observed::DeviceFiles;
use crate::model::observed::{NodeInCluster, Suspension, UnitState, WorkloadState};
use crate::model::{Bind, Digest, Object, ObservedCluster, Place, Placement, Places, Pod};
use crate::ports::{
    Ci, CiInfo, CiProfileInfo, Clock, Cluster, ClusterEvent, CommandCall, Device, Driver, Eviction, Gi, GiInfo,
    GiProfileInfo, Host, Journal, Nvml, NvmlCode, Port, ProcessInfo, Removal, Shown, Version,
};
use crate::sim::{Shared, lock};

/// Decides what becomes of calls.
pub trait Meddler {
    /// What becomes of this one.
    fn fate(&self, call: &'static str) -> Fate;
    /// Lets the virtual clock run on.
    fn pass(&self, ms: i64);
}

impl Meddler for Shared {
    fn fate(&self, call: &'static str) -> Fate {
        lock(self).fate(call)
    }

    fn pass(&self, ms: i64) {
        lock(self).pass(ms);
    }
}

/// A port whose calls can go wrong.
#[derive(Clone, Debug)]
pub struct Faulty<T, M = Shared> {
    /// The port.
    pub inner: T,
    /// Who decides.
    pub meddler: M,
}

impl<T, M: Meddler> Faulty<T, M> {
    /// That port, where this one decides.
    pub fn new(inner: T, meddler: M) -> Self {
        Faulty { inner, meddler }
    }

    /// Waits as long as a call is late: on the virtual clock, or really.
    fn late(&self, fate: &Fate) {
        match fate {
            Fate::Takes(seconds) => {
                self.meddler.pass(i64::try_from(*seconds).unwrap_or(i64::MAX).saturating_mul(1000));
            }
            Fate::Stalls(seconds) => std::thread::sleep(std::time::Duration::from_secs(*seconds)),
            _ => {}
        }
    }

    /// A call that nobody can leave: where it hangs it gives up by itself at last.
    fn sync<R, E>(
        &self,
        call: &'static str,
        error: impl Fn(&str) -> E,
        timeout: &str,
        run: impl FnOnce() -> Result<R, E>,
    ) -> Result<R, E> {
        let fate = self.meddler.fate(call);
        self.late(&fate);
        match fate {
            Fate::Passes | Fate::Takes(_) | Fate::Stalls(_) => run(),
            Fate::Fails(code) => Err(error(&code)),
            Fate::Loses(code) => run().and_then(|_| Err(error(&code))),
            Fate::Hangs => {
                self.meddler.pass(HANG_MS);
                Err(error(timeout))
            }
            Fate::Swallows => {
                let done = run();
                self.meddler.pass(HANG_MS);
                done.and_then(|_| Err(error(timeout)))
            }
        }
    }

    /// A call of the driver.
    pub(in crate::sim) fn nvml<R>(&self, call: &'static str, run: impl FnOnce() -> Nvml<R>) -> Nvml<R> {
        self.sync(call, nvml, "TIMEOUT", run)
    }

    fn disk<R>(&self, call: &'static str, run: impl FnOnce() -> Port<R>) -> Port<R> {
        self.sync(call, |code| port_error(call, code), "timed-out", run)
    }

    /// A call that its caller leaves when it takes too long.
    async fn wait<R>(&self, call: &'static str, run: impl Future<Output = Port<R>>) -> Port<R> {
        let fate = self.meddler.fate(call);
        self.late(&fate);
        match fate {
            Fate::Passes | Fate::Takes(_) | Fate::Stalls(_) => run.await,
            Fate::Fails(code) => Err(port_error(call, &code)),
            Fate::Loses(code) => run.await.and_then(|_| Err(port_error(call, &code))),
            Fate::Hangs => std::future::pending().await,
            Fate::Swallows => {
                run.await?;
                std::future::pending().await
            }
        }
    }
}

macro_rules! driver {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        pub(super) const DRIVER: &[&str] = &[$(stringify!($name)),*];

        impl<T: Driver, M: Meddler> Driver for Faulty<T, M> {
            $(fn $name(&self, $($arg: $type),*) -> Nvml<$result> {
                self.nvml(stringify!($name), || self.inner.$name($($arg),*))
            })*
        }
    };
}

crate::ports::driver_calls!(driver);

macro_rules! asynchronous {
    ($list:ident: $port:ident { $(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)* }) => {
        pub(super) const $list: &[&str] = &[$(stringify!($name)),*];

        impl<T: $port, M: Meddler> $port for Faulty<T, M> {
            $(async fn $name(&self, $($arg: $type),*) -> Port<$result> {
                self.wait(stringify!($name), self.inner.$name($($arg),*)).await
            })*
        }
    };
}

asynchronous! {
    CLUSTER: Cluster {
        fn observe() -> ObservedCluster;
        fn node(node: &str) -> Option<NodeInCluster>;
        fn labels(node: &str) -> Option<BTreeMap<String, String>>;
        fn holders(node: &str) -> Vec<Pod>;
        fn pod(namespace: &str, name: &str) -> Option<Pod>;
        fn writer_gone(node: &str) -> Vec<String>;
        fn set_taint(node: &str, plan: Option<&Digest>) -> ();
        fn set_label(node: &str, key: &str, value: &str) -> ();
        fn set_clients_paused(node: &str, plan: Option<&Digest>) -> ();
        fn restart_clients(node: &str) -> ();
        fn remove_pod(namespace: &str, name: &str, uid: &str, how: Removal) -> Eviction;
        fn is_going(node: &str) -> Option<bool>;
        fn places() -> (Version, Places);
        fn set_place(version: &Version, holder: &str, place: Option<&Place>) -> bool;
        fn stopped(node: &str) -> Option<Suspension>;
        fn workload(object: &Object) -> Option<WorkloadState>;
        fn bind(bind: &Bind, revision: &str, dry_run: bool) -> ();
        fn unbind(bind: &Bind, revision: &str, dry_run: bool) -> ();
        fn publish(node: &str, shown: &Shown<'_>) -> ();
        fn event(event: &ClusterEvent<'_>) -> ();
    }
}

asynchronous! {
    HOST: Host {
        fn units(names: &BTreeSet<String>) -> BTreeMap<String, UnitState>;
        fn commands() -> BTreeMap<String, Vec<String>>;
        fn stop_unit(unit: &str, with: &[String]) -> ();
        fn start_unit(unit: &str, env: &str, uuids: &[String]) -> ();
        fn run(call: CommandCall<'_>) -> i32;
        fn reset_gpu(pci: &str) -> ();
        fn device_files() -> BTreeSet<DeviceFiles>;
        fn refresh_devices(files: &[DeviceFiles]) -> ();
        fn terminate(pid: u32) -> ();
    }
}

pub(super) const JOURNAL: &[&str] = &["append", "lines", "clear"];

impl<T: Journal, M: Meddler> Journal for Faulty<T, M> {
    fn append(&mut self, line: &str) -> Port<()> {
        // Borrowed apart, since the port itself changes.
        let Faulty { inner, meddler } = self;
        Faulty { inner: (), meddler: &*meddler }.disk("append", || inner.append(line))
    }

    fn lines(&self) -> Port<Vec<String>> {
        self.disk("lines", || self.inner.lines())
    }

    fn clear(&mut self) -> Port<()> {
        let Faulty { inner, meddler } = self;
        Faulty { inner: (), meddler: &*meddler }.disk("clear", || inner.clear())
    }
}

impl<M: Meddler> Meddler for &M {
    fn fate(&self, call: &'static str) -> Fate {
        (*self).fate(call)
    }

    fn pass(&self, ms: i64) {
        (*self).pass(ms);
    }
}

pub(super) const CLOCK: &[&str] = &["sleep_until"];

impl<T: Clock, M: Meddler> Clock for Faulty<T, M> {
    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn elapsed(&self) -> Duration {
        self.inner.elapsed()
    }

    /// A clock can only be late: whoever sleeps wakes so many seconds behind the time.
    async fn sleep_until(&self, then: Timestamp) {
        let late = match self.meddler.fate("sleep_until") {
            Fate::Takes(seconds) => i64::try_from(seconds).unwrap_or(i64::MAX),
            _ => 0,
        };
        let then = then.checked_add(SignedDuration::from_secs(late)).unwrap_or(Timestamp::MAX);
        self.inner.sleep_until(then).await;
    }
}
