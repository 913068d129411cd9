//! `sectile run`: the node's service.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::apply::{serve, watch_signals};
use super::args::{Global, Service};
use super::controller::{SLICE, chain};
use super::error::Error;
use super::exit::Exit;
use super::fleet::{self, Opened, Purpose};

/// How soon what could not be opened is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Keeps this node as the tree says until it is told to stop.
pub(super) fn run(args: &Service, global: &Global) -> Result<Exit, Error> {
    let stop = watch_signals(Box::new(|| {}))?;
    let mut told = None;
    // A driver that is loaded late, and a cluster that is not up yet, come by themselves.
    while !stop.load(Ordering::SeqCst) {
        match fleet::open(global, Purpose::Change) {
            Ok(Opened::Simulated(_)) => {
                let error = Error::usage("a simulated fleet has no service: its clock stands still meanwhile");
                return Err(error.hint("`sectile apply --sim` does what there is to do"));
            }
            Ok(Opened::Here(fleet)) => serve(*fleet, args, global, &stop),
            Ok(Opened::Joined(fleet)) => serve(*fleet, args, global, &stop),
            Err(error) if error.exit() == Exit::Usage => return Err(error),
            Err(error) => {
                let why = chain(&error);
                if told.as_ref() != Some(&why) {
                    tracing::error!("This node can't be looked at yet: {why}.");
                    told = Some(why);
                }
                for _ in 0..AGAIN.as_millis() / SLICE.as_millis() {
                    if !stop.load(Ordering::SeqCst) {
                        std::thread::sleep(SLICE);
                    }
                }
            }
        }
    }
    Ok(Exit::Done)
}
