//! The names of MIG profiles, as NVIDIA's tools print them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a profile has beyond its slices, as its suffix says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribute {
    /// The regular profile: no suffix.
    #[default]
    None,
    /// `+me`: with the media extensions (JPEG and optical flow engines).
    Me,
    /// `+me.all`: with all of the board's media engines.
    MeAll,
    /// `-me`: without media engines.
    NoMe,
    /// `+gfx`: capable of graphics.
    Gfx,
}

impl Attribute {
    /// The suffix in a profile's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Attribute::None => "",
            Attribute::Me => "+me",
            Attribute::MeAll => "+me.all",
            Attribute::NoMe => "-me",
            Attribute::Gfx => "+gfx",
        }
    }
}

/// The name of a GPU instance profile: `3g.40gb`, `1g.10gb+me`, or without the memory, `3g`.
///
/// Names drift between boards and drivers (`7g.79gb` and `7g.80gb` are one profile), so a name is only compared
/// exactly where both sides come from the same driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName {
    /// Compute slices.
    pub slices: u32,
    /// Memory in GB as named; absent where the tree leaves it to the board.
    pub memory_gb: Option<u32>,
    /// The suffix.
    pub attribute: Attribute,
}

/// The name of a compute instance profile: `1c.3g.40gb`, or `3g.40gb` for the one that fills its GPU instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComputeName {
    /// Compute slices of the compute instance.
    pub slices: u32,
    /// The GPU instance profile that it is cut from.
    pub of: ProfileName,
}

/// Why a text is no profile's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAProfile(pub String);

impl fmt::Display for NotAProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not the name of a MIG profile, such as 3g.40gb, 1g.10gb+me or 3g", self.0)
    }
}

impl std::error::Error for NotAProfile {}

/// A fleet's names are written a million times, and seldom in a column: only there they are put together first.
fn padded(f: &mut fmt::Formatter<'_>, write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result) -> fmt::Result {
    if f.width().is_none() && f.precision().is_none() {
        return write(f);
    }
    let mut text = String::new();
    write(&mut text)?;
    f.pad(&text)
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        padded(f, |out| self.write(out))
    }
}

impl fmt::Display for ComputeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.slices == self.of.slices {
            return self.of.fmt(f);
        }
        padded(f, |out| {
            write!(out, "{}c.", self.slices)?;
            self.of.write(out)
        })
    }
}

/// Reads digits off the front: at most three, since no name has more, without a leading zero.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    if digits.is_empty() || digits.len() > 3 || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    Some((digits.parse().ok()?, rest))
}

fn profile(text: &str) -> Option<ProfileName> {
    let (slices, rest) = number(text)?;
    let rest = rest.strip_prefix('g')?;
    let (memory_gb, rest) = match rest.strip_prefix('.') {
        Some(rest) => {
            let (gb, rest) = number(rest)?;
            (Some(gb), rest.strip_prefix("gb")?)
        }
        None => (None, rest),
    };
    let attribute = match rest {
        "" => Attribute::None,
        "+me" => Attribute::Me,
        "+me.all" => Attribute::MeAll,
        "-me" => Attribute::NoMe,
        "+gfx" => Attribute::Gfx,
        _ => return None,
    };
    (slices > 0).then_some(ProfileName { slices, memory_gb, attribute })
}

impl FromStr for ProfileName {
    type Err = NotAProfile;

    /// Reads a name; NVML's own `MIG ` before it is taken off.
    fn from_str(text: &str) -> Result<Self, NotAProfile> {
        profile(text.strip_prefix("MIG ").unwrap_or(text)).ok_or_else(|| NotAProfile(text.to_owned()))
    }
}

impl FromStr for ComputeName {
    type Err = NotAProfile;

    fn from_str(text: &str) -> Result<Self, NotAProfile> {
        let bare = text.strip_prefix("MIG ").unwrap_or(text);
        let fail = || NotAProfile(text.to_owned());
        match bare.split_once("c.") {
            Some((slices, of)) => {
                let (slices, rest) = number(slices).ok_or_else(fail)?;
                let of = profile(of).ok_or_else(fail)?;
                let fits = rest.is_empty() && slices > 0 && slices <= of.slices;
                fits.then_some(ComputeName { slices, of }).ok_or_else(fail)
            }
            None => profile(bare).map(ComputeName::filling).ok_or_else(fail),
        }
    }
}

impl ProfileName {
    fn write(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{}g", self.slices)?;
        if let Some(gb) = self.memory_gb {
            write!(out, ".{gb}gb")?;
        }
        out.write_str(self.attribute.suffix())
    }

    /// The name of the Kubernetes resource under the device plugin's `mixed` strategy:
    /// `nvidia.com/mig-` and the name, with every `+` as `.` (k8s-device-plugin, internal/rm/rm.go).
    pub fn resource(&self) -> String {
        let name = format!("nvidia.com/mig-{self}");
        if self.attribute == Attribute::None { name } else { name.replace('+', ".") }
    }
}

impl ComputeName {
    /// The compute instance that fills a GPU instance of `of`.
    pub fn filling(of: ProfileName) -> Self {
        ComputeName { slices: of.slices, of }
    }
}

macro_rules! serde_as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                <String as Deserialize>::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(crate) use serde_as_text;

serde_as_text!(ProfileName, ComputeName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for name in ["3g.40gb", "1g.10gb+me", "1g.24gb+me.all", "1g.24gb-me", "4g.96gb+gfx", "3g", "1g+me"] {
            assert_eq!(name.parse::<ProfileName>().unwrap().to_string(), name);
        }
        for name in ["1c.3g.40gb", "2c.7g.80gb", "3g.40gb"] {
            assert_eq!(name.parse::<ComputeName>().unwrap().to_string(), name);
        }
        assert_eq!("MIG 1g.5gb".parse::<ProfileName>().unwrap().to_string(), "1g.5gb");
        assert_eq!(format!("{:>9}|", "1c.3g".parse::<ComputeName>().unwrap()), "    1c.3g|");
        assert_eq!(format!("{:<7}|", "1g+me".parse::<ProfileName>().unwrap()), "1g+me  |");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "g", "3", "0g", "3g.gb", "3g.40", "3g.40gb+", "3g.40gb+you", "03g", "9999g", "3g.40gb ", "1c"]
        {
            assert!(text.parse::<ProfileName>().is_err(), "{text}");
        }
        for text in ["4c.3g.40gb", "0c.3g", "c.3g", "1c.", "1c1c.3g"] {
            assert!(text.parse::<ComputeName>().is_err(), "{text}");
        }
    }

    #[test]
    fn resources_are_named_as_the_device_plugin_names_them() {
        let resource = |name: &str| name.parse::<ProfileName>().unwrap().resource();
        assert_eq!(resource("1g.10gb+me"), "nvidia.com/mig-1g.10gb.me");
        assert_eq!(resource("1g.24gb+me.all"), "nvidia.com/mig-1g.24gb.me.all");
        assert_eq!(resource("1g.24gb-me"), "nvidia.com/mig-1g.24gb-me");
    }
}
