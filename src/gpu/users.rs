//! Who uses a GPU or an instance, as the driver sees it: processes.

use std::collections::BTreeMap;

use super::{Gpus, gap};
use crate::model::{Gap, Known, User};
use crate::ports::{Device, Driver, Nvml, NvmlCode, ProcessInfo};

/// A process, and the GPU instance and compute instance that it is on, where the driver tells.
pub(super) type Seen = (User, Option<u32>, Option<u32>);

impl<D: Driver> Gpus<D> {
    /// Every process on a device, once.
    pub(super) fn processes(&self, device: Device) -> Nvml<Vec<Seen>> {
        let mut found: BTreeMap<u32, ProcessInfo> = BTreeMap::new();
        let mut add = |infos: Vec<ProcessInfo>| found.extend(infos.into_iter().map(|info| (info.pid, info)));
        add(self.driver.compute_processes(device)?);
        for more in [self.driver.graphics_processes(device), self.driver.mps_processes(device)] {
            match more {
                Ok(infos) => add(infos),
                // A device without graphics or MPS has no such processes.
                Err(NvmlCode::NotSupported) => {}
                Err(code) => return Err(code),
            }
        }
        let name = |pid| self.driver.process_name(pid).unwrap_or_default();
        let user = |pid| User::Process { pid, name: name(pid) };
        Ok(found.into_values().map(|p| (user(p.pid), p.gpu_instance_id, p.compute_instance_id)).collect())
    }

    /// The same, where a failure is a gap and the users are unknown.
    pub(super) fn processes_or_gap(&self, device: Device, of: &str, gaps: &mut Vec<Gap>) -> Known<Vec<Seen>> {
        match self.processes(device) {
            Ok(seen) => Known::Known(seen),
            Err(code) => {
                gaps.push(gap(format!("users of {of}"), "The driver does not tell its processes", code));
                Known::Unknown
            }
        }
    }
}

/// The users among those that were seen that a rule picks, ascending.
pub(super) fn pick(seen: &Known<Vec<Seen>>, rule: impl Fn(&Seen) -> bool) -> Known<Vec<User>> {
    match seen {
        Known::Known(seen) => {
            let mut users: Vec<User> = seen.iter().filter(|s| rule(s)).map(|(user, ..)| user.clone()).collect();
            users.sort();
            Known::Known(users)
        }
        Known::Unknown => Known::Unknown,
    }
}
