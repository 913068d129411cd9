//! `sectile run`: the node's service.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::daemon::board::Board;
use crate::daemon::serve::{self, Sockets};
use crate::daemon::systemd;
use crate::daemon::wakes::Wakes;
use crate::host::clock::uptime;

use super::apply::{Service, watch_signals};
use super::args::{Global, Run};
use super::error::{Context as _, Error};
use super::exit::Exit;
use super::fleet::{self, Opened, Purpose};

/// The socket of a service that has none.
const NONE: &str = "none";

/// Keeps this node as the tree says until it is told to stop.
pub(super) fn run(args: &Run, global: &Global) -> Result<Exit, Error> {
    let wakes = Arc::<Wakes>::default();
    let nudged = Arc::clone(&wakes);
    let stop = watch_signals(move || nudged.nudge(), Box::new(|| {}))?;
    let board = Arc::<Board>::default();
    board.beat(uptime());
    board.metrics.open(false);
    let mut service = Service::new(&args.service, global, Arc::clone(&stop), Arc::clone(&wakes), Arc::clone(&board));
    listen(&sockets(args, global), &wakes, &board)?;
    // A driver that is loaded late, and a cluster that is not up yet, come by themselves.
    while !stop.load(Ordering::SeqCst) {
        match fleet::open(global, Purpose::Change) {
            Ok(Opened::Simulated(_)) => {
                let error = Error::usage("a simulated fleet has no service: its clock stands still meanwhile");
                return Err(error.hint("`sectile apply --sim` does what there is to do"));
            }
            Ok(Opened::Here(fleet)) => service.serve(*fleet),
            Ok(Opened::Joined(fleet)) => service.serve(*fleet),
            Err(error) if error.exit() == Exit::Usage => return Err(error),
            Err(error) => service.waits(&error),
        }
    }
    systemd::stopping("it was told to stop");
    Ok(Exit::Done)
}

/// Serves what a board says.
pub(super) fn listen(sockets: &Sockets, wakes: &Arc<Wakes>, board: &Arc<Board>) -> Result<(), Error> {
    let served = serve::begin(sockets, wakes, board).context(|| "nobody can ask how it stands".to_owned());
    served.map_err(|error| error.hint("say another address with --metrics, or none; another socket with --socket"))
}

/// Where it can be asked. A service that is begun by hand has no folder for its socket, and needs none.
fn sockets(args: &Run, global: &Global) -> Sockets {
    // Its folder; that of a bare name is the one that it is begun in.
    let path = Some(&global.socket).filter(|path| path.as_path() != Path::new(NONE));
    let folder = path.and_then(|path| std::path::absolute(path).ok());
    let folder = folder.as_deref().and_then(Path::parent).filter(|folder| folder.is_dir());
    Sockets { metrics: args.metrics.0, socket: folder.map(|_| global.socket.clone()) }
}
