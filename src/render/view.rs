//! What a node publishes of itself: what was seen of it, and when. What the catalogue tells of its boards is left out, since
//! an annotation must be short.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Geometry, ObservedGpu, ObservedNode, catalogue};

/// Raised when an older program could not read what a newer one writes.
const FORMAT_VERSION: u32 = 1;

/// A node, as it was seen at some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    format_version: u32,
    /// When.
    pub at: Timestamp,
    /// What was seen.
    pub node: ObservedNode,
}

/// The head is read first, so that another version's view is not taken for damage.
#[derive(Deserialize)]
struct Head {
    format_version: u32,
}

fn known(gpu: &ObservedGpu) -> Option<Arc<Geometry>> {
    gpu.board.as_ref().and_then(|board| catalogue::by_id(board)).and_then(|board| board.shared_geometry())
}

/// A view, as it is published.
pub fn write(node: &ObservedNode, at: Timestamp) -> String {
    let mut node = node.clone();
    for gpu in &mut node.gpus {
        if gpu.geometry.is_some() && gpu.geometry == known(gpu) {
            gpu.geometry = None;
        }
    }
    let view = View { format_version: FORMAT_VERSION, at, node };
    // It has string keys alone.
    serde_json::to_string(&view).unwrap_or_default()
}

/// Reads a view.
///
/// # Errors
///
/// A sentence, where it is of a newer version or none at all.
pub fn read(text: &str) -> Result<View, String> {
    let head: Head = serde_json::from_str(text).map_err(|error| format!("it can't be read: {error}"))?;
    if head.format_version > FORMAT_VERSION {
        return Err(format!("a newer sectile wrote it (version {})", head.format_version));
    }
    let mut view: View = serde_json::from_str(text).map_err(|error| format!("it can't be read: {error}"))?;
    for gpu in &mut view.node.gpus {
        gpu.geometry = gpu.geometry.take().or_else(|| known(gpu));
    }
    Ok(view)
}
