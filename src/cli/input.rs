//! Files that the command line names: a plan, a fleet.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::model::text::visible;

use super::error::{Context as _, Error};

/// The largest: a plan of ten thousand nodes is a fifth of it. What has no end, such as a device, must not fill the
/// memory.
const LARGEST: u64 = 1 << 30;

/// The text of a file, or of a pipe.
pub(super) fn text(path: &Path, what: &str) -> Result<String, Error> {
    let name = format!("{what} {}", visible(&path.display().to_string()));
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    read.context(|| format!("{name} can't be read"))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::failed(format!("{name} is larger than 1 GiB")));
    }
    String::from_utf8(bytes).context(|| format!("{name} is no text"))
}
