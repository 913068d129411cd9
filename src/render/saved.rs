//! Saved plans read again: whatever the file holds, it is a plan of this version or is refused with the reason.

use std::error::Error;
use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::model::plan::FORMAT_VERSION;
use crate::model::{Plan, visible};

/// Why a file is no plan that can be carried out.
#[derive(Debug)]
pub enum NoPlan {
    /// It is no JSON, or its parts are not those of a plan.
    Damaged(serde_json::Error),
    /// It is JSON of something else.
    Foreign,
    /// Another version wrote it.
    OtherFormat(String),
}

impl fmt::Display for NoPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoPlan::Damaged(error) => f.write_str(&visible(&error.to_string())),
            NoPlan::Foreign => f.write_str("it is JSON of something else: it has no `format_version` and `nodes`"),
            NoPlan::OtherFormat(version) => {
                write!(f, "it has format {}, and this version reads {FORMAT_VERSION}", visible(version))
            }
        }
    }
}

impl Error for NoPlan {}

/// Reads a plan that was saved.
pub fn read(text: &str) -> Result<Plan, NoPlan> {
    /// Read before the rest, so that another version's plan is not taken for damage.
    #[derive(Deserialize)]
    struct Head {
        format_version: Option<String>,
        nodes: Option<IgnoredAny>,
    }
    let head: Head = serde_json::from_str(text).map_err(|error| match error.is_data() && !text.starts_with('{') {
        true => NoPlan::Foreign,
        false => NoPlan::Damaged(error),
    })?;
    match head {
        Head { format_version: Some(version), nodes: Some(_) } if version == FORMAT_VERSION => {
            serde_json::from_str(text).map_err(NoPlan::Damaged)
        }
        Head { format_version: Some(version), nodes: Some(_) } => Err(NoPlan::OtherFormat(version)),
        Head { .. } => Err(NoPlan::Foreign),
    }
}
