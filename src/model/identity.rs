//! Who says what: places in the tree, its revision, and digests.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::profile::serde_as_text;

/// A place in the tree: file and line, printed as `layouts/inference.toml:4`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The path below the tree, with `/`: of a fleet's plan it stands at every instance.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (file, line) = text.rsplit_once(':').ok_or_else(|| format!("`{text}` is no FILE:LINE"))?;
        let line = line.parse().map_err(|_| format!("`{line}` is no line number"))?;
        Ok(Source { file: file.into(), line })
    }
}

serde_as_text!(Source);

/// The SHA-256 of something, in hexadecimal with `sha256:` before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub String);

impl Digest {
    /// Digests parts, each with its length before it, so that moving a byte between parts changes the digest.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut text = String::with_capacity("sha256:".len() + 64);
        text.push_str("sha256:");
        push_hex(&mut text, &hash.finalize());
        Digest(text)
    }

    /// The first 12 hexadecimal digits, for people.
    pub fn short(&self) -> &str {
        let hex = self.0.strip_prefix("sha256:").unwrap_or(&self.0);
        hex.get(..12).unwrap_or(hex)
    }
}

/// Appends bytes as hexadecimal digits.
pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    text.extend(digits.map(|digit| char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 })));
}

/// Which version of the tree: git's HEAD, git-sync's target or a REVISION file where there is one; a digest always.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// `main@sha1:1eabc9a`, `…-dirty` where the work tree differs; absent where nothing tells.
    #[serde(rename = "revision")]
    pub name: Option<String>,
    /// Of every file's path and bytes.
    pub digest: Digest,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "sha256:{}", self.digest.short()),
        }
    }
}
