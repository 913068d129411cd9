//! A driver whose calls can be made to fail.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

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
    /// Whether it says of every GPU instance that no compute instance fits it any more.
    pub(crate) full: AtomicBool,
    /// Whether it says that it switched a MIG mode, and does not.
    pub(crate) idle: AtomicBool,
}

impl Faulty {
    pub(crate) fn new(inner: TestDriver) -> Self {
        Faulty {
            inner,
            plan: Mutex::default(),
            odd_profile: None,
            full: AtomicBool::default(),
            idle: AtomicBool::default(),
        }
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

macro_rules! ask {
    ($faulty:ident gi_profile $device:ident $index:ident) => {{
        let mut info = $faulty.inner.gi_profile($device, $index)?;
        if $faulty.odd_profile == Some($index) {
            info.name.push_str("+new");
        }
        Ok(info)
    }};
    ($faulty:ident ci_remaining_capacity $gi:ident $profile:ident) => {{
        if $faulty.full.load(Relaxed) { Ok(0) } else { $faulty.inner.ci_remaining_capacity($gi, $profile) }
    }};
    ($faulty:ident set_mig_mode $device:ident $enabled:ident) => {{
        if $faulty.idle.load(Relaxed) {
            Ok(NvmlCode::Success)
        } else {
            $faulty.inner.set_mig_mode($device, $enabled)
        }
    }};
    ($faulty:ident $name:ident $($arg:ident)*) => {
        $faulty.inner.$name($($arg),*)
    };
}

macro_rules! delegate {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        impl Driver for Faulty {
            $(fn $name(&self, $($arg: $type),*) -> Nvml<$result> {
                self.check(stringify!($name))?;
                ask!(self $name $($arg)*)
            })*
        }
    };
}

sectile::ports::driver_calls!(delegate);
