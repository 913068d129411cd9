//! Where a set lies on an empty GPU, drawn; or what is impossible about it, and the closest set that fits.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use anstyle::Style as Colour;

use super::drawing::{self, Bar};
use super::paint::{ALARM, CREATE, FAINT, HINT, PLAIN, paint};
use super::{Style, step, words};
use crate::model::{Geometry, GpuProfile, Placement};
use crate::plan::fit;
use crate::plan::misfit::Misfit;
use crate::plan::placement::Want;

/// More other layouts than this are not shown unless asked for by `-o wide`.
const SHOWN: usize = 9;

/// A set that fits: its layouts, the one that Sectile makes on an empty GPU first. `gpu` is what the GPU is called.
pub fn layouts(gpu: &str, set: Set<'_>, all: &[Vec<u32>], chosen: &[u32], style: Style) -> String {
    let own = set.places(chosen);
    let others: Vec<&Vec<u32>> = all.iter().filter(|starts| set.places(starts) != own).collect();
    let shown = if style.wide { others.len() } else { others.len().min(SHOWN) };
    let number = words::count(all.len(), "layout", "layouts");
    let mut text = format!("{} on {gpu}: {number}.\n\n* {}\n", set.list(), set.drawn(chosen, CREATE));
    for starts in others.iter().take(shown) {
        text.push_str(&format!("  {}\n", set.drawn(starts, PLAIN)));
    }
    if others.len() > shown {
        let more = format!("{} more: -o wide shows them", others.len() - shown);
        text.push_str(&format!("  {}\n", paint(FAINT, &more)));
    }
    text.push_str(&format!("\n* what Sectile makes of an empty GPU: {}\n", set.located(chosen)));
    text
}

/// A set that does not fit.
pub fn misfit(gpu: &str, set: Set<'_>, misfit: &Misfit) -> String {
    let (impossible, closest) = (set.part(&misfit.impossible), set.part(&misfit.closest));
    let [impossible, closest] = [&impossible, &closest].map(|wants| Set { wants, ..set });
    let (no, yes) = (paint(ALARM, "impossible"), paint(HINT, "closest"));
    let mut text = format!("{} on {gpu}: does not fit.\n\n", set.list());
    text.push_str(&format!("  {no}  {}: {}\n", impossible.list(), impossible.why()));
    text.push_str(&format!("  {yes}     {}\n", closest.list()));
    if let Some(starts) = fit::chosen(set.geometry, closest.wants) {
        text.push_str(&format!("              {}\n", closest.drawn(&starts, CREATE)));
    }
    text
}

/// A wanted set, and what it is to lie on.
#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    /// What the GPU offers.
    pub geometry: &'a Geometry,
    /// The set.
    pub wants: &'a [Want],
}

impl Set<'_> {
    fn profile(&self, index: usize) -> Option<&GpuProfile> {
        self.geometry.profiles.get(index)
    }

    fn profiles(&self) -> impl Iterator<Item = &GpuProfile> {
        self.wants.iter().filter_map(|want| self.profile(want.profile))
    }

    fn places(&self, starts: &[u32]) -> Vec<(Placement, usize)> {
        fit::places(self.geometry, self.wants, starts)
    }

    fn drawn(&self, starts: &[u32], style: Colour) -> String {
        let bar = |(placement, profile)| Some(Bar { placement, profile: self.profile(profile)?.name, style });
        let bars = self.places(starts).into_iter().filter_map(bar).collect();
        drawing::slices(self.geometry.units, true, bars).unwrap_or_default()
    }

    /// `4g.40gb at 0, 2 × 1g.10gb`.
    fn list(&self) -> String {
        let mut counts: BTreeMap<(Reverse<u32>, String), u32> = BTreeMap::new();
        for want in self.wants {
            let Some(profile) = self.profile(want.profile) else { continue };
            let at = want.start.map(|start| format!(" at {start}")).unwrap_or_default();
            *counts.entry((Reverse(profile.slices), format!("{}{at}", profile.name))).or_default() += 1;
        }
        let parts: Vec<String> = counts.into_iter().map(|((_, name), number)| step::each(number, name)).collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    }

    /// `2g.20gb at 0, 1g.10gb at 2 and 3`.
    fn located(&self, starts: &[u32]) -> String {
        let mut all: Vec<(usize, Vec<String>)> = Vec::new();
        for (placement, profile) in self.places(starts) {
            let start = placement.start.to_string();
            match all.iter_mut().find(|(have, _)| *have == profile) {
                Some((_, starts)) => starts.push(start),
                None => all.push((profile, vec![start])),
            }
        }
        let parts = all.into_iter().filter_map(|(profile, starts)| {
            let starts = match starts.as_slice() {
                [most @ .., last] if !most.is_empty() => format!("{} and {last}", most.join(", ")),
                starts => starts.concat(),
            };
            Some(format!("{} at {starts}", self.profile(profile)?.name))
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    fn part(&self, of: &[usize]) -> Vec<Want> {
        of.iter().filter_map(|&i| self.wants.get(i).cloned()).collect()
    }

    /// What stands against the part of it that is impossible.
    pub(super) fn reason(&self, misfit: &Misfit) -> String {
        Set { wants: &self.part(&misfit.impossible), ..*self }.why()
    }

    /// What stands against a set of which every smaller part fits.
    fn why(&self) -> String {
        let Geometry { units, slices, media, profiles: _ } = self.geometry;
        let wrong = self.wants.iter().find_map(|want| {
            let profile = self.profile(want.profile)?;
            let start = want.start.filter(|start| !profile.starts.contains(start))?;
            Some(format!("{} can't start at {start}, only at {}", profile.name, starts(profile)))
        });
        if let Some(wrong) = wrong {
            return wrong;
        }
        let taken: u32 = self.profiles().map(|p| p.slices).sum();
        if taken > *slices {
            return format!("they take {taken} compute slices, and there are {slices}");
        }
        let taken: u32 = self.profiles().map(|p| p.size).sum();
        if taken > *units {
            return format!("they take {taken} memory slices, and there are {units}");
        }
        let number = |name| self.profiles().filter(|p| p.name == name).count();
        let many = |p: &&GpuProfile| u32::try_from(number(p.name)).is_ok_and(|number| number > p.max_instances);
        if let Some(profile) = self.profiles().find(many) {
            return format!("a GPU has at most {} of {}", profile.max_instances, profile.name);
        }
        let engines = ["decoders", "encoders", "JPEG engines", "optical flow engines"];
        for (at, (engine, total)) in engines.into_iter().zip(media).enumerate() {
            let taken: u32 = self.profiles().filter_map(|p| p.engines.media().get(at).copied().flatten()).sum();
            if let Some(total) = total.filter(|total| taken > *total) {
                return format!("they take {taken} {engine}, and there are {total}");
            }
        }
        let mut places: Vec<String> = Vec::new();
        for want in self.wants {
            let Some(profile) = self.profile(want.profile) else { continue };
            let place = match want.start {
                Some(start) => format!("{} shall lie at {start}", profile.name),
                None => format!("{} lies at {}", profile.name, starts(profile)),
            };
            if !places.contains(&place) {
                places.push(place);
            }
        }
        format!("their places overlap ({})", places.join("; "))
    }
}

fn starts(profile: &GpuProfile) -> String {
    let starts: Vec<String> = profile.starts.iter().map(u32::to_string).collect();
    match starts.as_slice() {
        [most @ .., last] if !most.is_empty() => format!("{} or {last}", most.join(", ")),
        starts => starts.concat(),
    }
}
