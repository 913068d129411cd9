//! Event sets: changes of a GPU's MIG configuration, whichever process made them. Nothing else ever happens.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sectile::ports::{Device, Nvml, NvmlCode};

use super::handles::{DeviceToken, EventsToken};
use super::library::{Library, locked};
use super::nvml;
use super::place::Out;
use super::structs::{Event1, Event2};

/// `nvmlEventMigConfigChange`.
const MIG_CONFIG_CHANGE: u64 = 0x100;
/// What can be asked for: that, and what health checks ask for and never see here (ECC errors, XIDs, clocks).
const SUPPORTED: u64 = 0x1 | 0x2 | 0x8 | 0x10 | MIG_CONFIG_CHANGE;
/// How often a set that waits looks whether something happened.
const LOOK_MS: u32 = 5;
/// No instance: only an XID has one.
const NONE: u32 = u32::MAX;

/// How many changes of a GPU there were, behind the number of their world.
type Changes = (u64, u64);
/// GPUs, each with how many of its changes have been told.
type Watched = BTreeMap<Device, Changes>;

/// All sets, by number.
#[derive(Default)]
pub(crate) struct Sets(Mutex<BTreeMap<u64, Watched>>);

impl Sets {
    fn create(&self) -> u64 {
        // One number means one set as long as the process lives.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        locked(&self.0).insert(number, Watched::new());
        number
    }

    fn with<T>(&self, number: u64, run: impl FnOnce(&mut Watched) -> T) -> Nvml<T> {
        locked(&self.0).get_mut(&number).map(run).ok_or(NvmlCode::InvalidArgument)
    }
}

fn changes(it: &Library, device: Device) -> Nvml<Changes> {
    it.look(|driver| driver.changes(device))
}

fn register(it: &Library, device: DeviceToken, kinds: u64, set: EventsToken) -> Nvml<()> {
    let (device, set) = (device.real()?, set.real()?);
    let so_far = changes(it, device)?;
    if kinds & !SUPPORTED != 0 {
        return Err(NvmlCode::NotSupported);
    }
    it.sets.with(set, |watched| {
        if kinds & MIG_CONFIG_CHANGE != 0 {
            watched.entry(device).or_insert(so_far);
        }
    })
}

/// Counts one more as told, if there is one. Another world is a change, however often its GPU was changed.
fn tell(told: &mut Changes, now: Changes) -> bool {
    if told.0 != now.0 {
        *told = now;
        return true;
    }
    let more = told.1 < now.1;
    told.1 += u64::from(more);
    more
}

/// The next change of any GPU of a set, if there is one already.
fn next(it: &Library, set: u64) -> Nvml<Option<Device>> {
    for (device, _) in it.sets.with(set, |watched| watched.clone())? {
        let now = changes(it, device)?;
        // Another thread may have told it meanwhile.
        let told = it.sets.with(set, |watched| watched.get_mut(&device).is_some_and(|told| tell(told, now)))?;
        if told {
            return Ok(Some(device));
        }
    }
    Ok(None)
}

fn wait(it: &Library, set: EventsToken, timeout_ms: u32) -> Nvml<Event2> {
    let set = set.real()?;
    for look in 0..=timeout_ms / LOOK_MS {
        if look > 0 {
            std::thread::sleep(Duration::from_millis(LOOK_MS.into()));
        }
        if let Some(device) = next(it, set)? {
            let first = Event1 { device: DeviceToken::of(device), kind: MIG_CONFIG_CHANGE, data: 0 };
            return Ok(Event2 { first, gi: NONE, ci: NONE });
        }
    }
    Err(NvmlCode::Timeout)
}

nvml! {
    fn nvmlEventSetCreate(set: Out<EventsToken>) = |it| set.take(|| Ok(EventsToken::of(it.sets.create())));
    fn nvmlDeviceRegisterEvents(device: DeviceToken, kinds: u64, set: EventsToken) = |it| {
        register(it, device, kinds, set)
    };
    fn nvmlDeviceGetSupportedEventTypes(device: DeviceToken, kinds: Out<u64>) = |it| {
        let device = device.real()?;
        kinds.take(|| changes(it, device).map(|_| SUPPORTED))
    };
    fn nvmlEventSetWait(set: EventsToken, event: Out<Event1>, timeout_ms: u32) = |it| {
        event.take(|| Ok(wait(it, set, timeout_ms)?.first))
    };
    fn nvmlEventSetWait_v2(set: EventsToken, event: Out<Event2>, timeout_ms: u32) = |it| {
        event.take(|| wait(it, set, timeout_ms))
    };
    fn nvmlEventSetFree(set: EventsToken) = |it| {
        let set = set.real()?;
        locked(&it.sets.0).remove(&set).map(|_| ()).ok_or(NvmlCode::InvalidArgument)
    };
}
