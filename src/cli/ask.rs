//! Asks the service of this node, which has the rights that whoever asks has not.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::args::Global;
use super::error::{Context as _, Error};

/// A service that does not answer in this time does not.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the service says under that path; `None`: it is not to be asked, since whoever asks may look for himself, or asks for
/// something else than this node as it is.
pub(super) fn service(path: &str, global: &Global, tree_is_given: bool) -> Option<Result<String, Error>> {
    let Global { sim, gpus, cluster, node, socket, .. } = global;
    let other = sim.is_some() || gpus.is_some() || cluster.is_some() || node.is_some();
    if other || tree_is_given || rustix::process::geteuid().is_root() || !socket.exists() {
        return None;
    }
    Some(ask(path, global))
}

/// What it says, whoever asks.
pub(super) fn ask(path: &str, global: &Global) -> Result<String, Error> {
    let socket = global.socket.display();
    let answer = (|| {
        let mut stream = UnixStream::connect(&global.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // An answer as a whole, and the end of it.
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: sectile\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    })();
    let answer = answer.context(|| format!("the service of this node can't be asked at {socket}"));
    let answer =
        answer.map_err(|error| error.hint("`systemctl status sectile` tells how it is; root can look for himself"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(Error::failed(format!("the service of this node says: {}", body.trim()))),
    }
}
