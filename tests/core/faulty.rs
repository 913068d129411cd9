//! A driver whose calls can be made to fail.

use std::collections::BTreeMap;
use std::sync::Mutex;

use sectile::model::Placement;
use sectile::ports::*;

use crate::door::TestDriver;

/// The simulated driver, where chosen calls fail once or for good.
pub(crate) struct Faulty {
    inner: TestDriver,
    /// By the call's name: how many calls pass, how many fail then, and with what.
    plan: Mutex<BTreeMap<&'static str, (u32, u32, NvmlCode)>>,
    /// The index of a profile with a name that nobody understands.
    odd_profile: Option<u32>,
}

impl Faulty {
    pub(crate) fn new(inner: TestDriver) -> Self {
        Faulty { inner, plan: Mutex::default(), odd_profile: None }
    }

    /// Lets so many calls pass and so many fail then.
    pub(crate) fn fail(&self, call: &'static str, pass: u32, fail: u32, code: NvmlCode) {
        self.plan.lock().unwrap().insert(call, (pass, fail, code));
    }

    /// Gives the profile with that index a name that nobody understands.
    pub(crate) fn with_odd_profile(self, index: u32) -> Self {
        Faulty { odd_profile: Some(index), ..self }
    }

    fn check(&self, call: &str) -> Nvml<()> {
        let mut plan = self.plan.lock().unwrap();
        match plan.get_mut(call) {
            Some((pass, ..)) if *pass > 0 => {
                *pass -= 1;
                Ok(())
            }
            Some((_, fail, code)) if *fail > 0 => {
                *fail -= 1;
                Err(*code)
            }
            _ => Ok(()),
        }
    }
}

macro_rules! delegate {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        impl Driver for Faulty {
            $(fn $name(&self, $($arg: $type),*) -> Nvml<$result> {
                self.check(stringify!($name))?;
                self.inner.$name($($arg),*)
            })*

            fn gi_profile(&self, device: Device, index: u32) -> Nvml<GiProfileInfo> {
                self.check("gi_profile")?;
                let mut info = self.inner.gi_profile(device, index)?;
                if self.odd_profile == Some(index) {
                    info.name.push_str("+new");
                }
                Ok(info)
            }
        }
    };
}

delegate! {
    fn driver_version() -> String;
    fn device_count() -> u32;
    fn device_by_index(index: u32) -> Device;
    fn device_by_uuid(uuid: &str) -> Device;
    fn device_by_pci(bus_id: &str) -> Device;
    fn uuid(device: Device) -> String;
    fn name(device: Device) -> String;
    fn index(device: Device) -> u32;
    fn minor_number(device: Device) -> u32;
    fn pci_bus_id(device: Device) -> String;
    fn memory_total(device: Device) -> u64;
    fn field_value(device: Device, field: u32) -> u64;
    fn mig_mode(device: Device) -> (bool, bool);
    fn set_mig_mode(device: Device, enabled: bool) -> NvmlCode;
    fn max_mig_device_count(device: Device) -> u32;
    fn mig_device_by_index(device: Device, index: u32) -> Device;
    fn is_mig_device(device: Device) -> bool;
    fn parent_of_mig_device(mig: Device) -> Device;
    fn gpu_instance_id(mig: Device) -> u32;
    fn compute_instance_id(mig: Device) -> u32;
    fn gi_profile_by_id(device: Device, profile_id: u32) -> GiProfileInfo;
    fn gi_possible_placements(device: Device, profile_id: u32) -> Vec<Placement>;
    fn gi_remaining_capacity(device: Device, profile_id: u32) -> u32;
    fn create_gi(device: Device, profile_id: u32) -> Gi;
    fn create_gi_at(device: Device, profile_id: u32, placement: Placement) -> Gi;
    fn destroy_gi(gi: Gi) -> ();
    fn gpu_instances(device: Device, profile_id: u32) -> Vec<Gi>;
    fn gi_by_id(device: Device, id: u32) -> Gi;
    fn gi_info(gi: Gi) -> GiInfo;
    fn ci_profile(gi: Gi, index: u32) -> CiProfileInfo;
    fn ci_possible_placements(gi: Gi, profile_id: u32) -> Vec<Placement>;
    fn ci_remaining_capacity(gi: Gi, profile_id: u32) -> u32;
    fn create_ci(gi: Gi, profile_id: u32) -> Ci;
    fn create_ci_at(gi: Gi, profile_id: u32, placement: Placement) -> Ci;
    fn destroy_ci(ci: Ci) -> ();
    fn compute_instances(gi: Gi, profile_id: u32) -> Vec<Ci>;
    fn ci_by_id(gi: Gi, id: u32) -> Ci;
    fn ci_info(ci: Ci) -> CiInfo;
    fn compute_processes(device: Device) -> Vec<ProcessInfo>;
    fn graphics_processes(device: Device) -> Vec<ProcessInfo>;
    fn mps_processes(device: Device) -> Vec<ProcessInfo>;
    fn process_name(pid: u32) -> String;
}
