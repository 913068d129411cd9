//! What boards and GPUs offer: their profiles, with the places drawn over the memory slices.

use std::fmt::Display;

use super::Style;
use super::drawing::{self, Bar};
use super::paint::{FAINT, PLAIN, STRONG, paint, table, width};
use crate::model::catalogue::{Board, BoardProfile, Figure, Provenance};
use crate::model::{Engines, Geometry, GpuProfile, Placement, ProfileName};

/// Every board in a line.
pub fn boards<'a>(boards: impl IntoIterator<Item = &'a Board>, style: Style) -> String {
    let heading: &[&str] = match style.wide {
        true => &["BOARD", "ARCH", "GIB", "SLICES", "UNITS", "DRIVER", "NAME"],
        false => &["BOARD", "GIB", "NAME"],
    };
    let rows = boards.into_iter().map(|board| {
        let [first, rest @ ..] = board.names else { return (board, "?".to_owned()) };
        let more = if rest.is_empty() { String::new() } else { format!(" +{}", rest.len()) };
        (board, format!("{}{more}", bare(first)))
    });
    let rows = rows.map(|(board, name)| {
        let mut row = vec![board.id.to_owned()];
        let memory = gib(board.memory_total_mib);
        if style.wide {
            let units = figure(board.units, Provenance::Hardware);
            let driver = figure(board.min_driver.value, board.min_driver.from);
            row.extend([board.architecture.to_owned(), memory, board.slices.to_string(), units, driver, name]);
        } else {
            row.extend([memory, name]);
        }
        row
    });
    table(0, heading, &rows.collect::<Vec<_>>())
}

/// A board with all its profiles.
pub fn board(board: &Board, style: Style) -> String {
    let name = board.names.first().map_or("name unknown", |name| bare(name));
    let mut text = format!("{}   {name}\n", paint(STRONG, board.id));
    let units = board.units.map_or("memory slices unknown".to_owned(), |n| format!("{n} memory slices"));
    let memory = match board.memory_total_mib.value {
        Some(_) => format!("{} GiB", gib(board.memory_total_mib)),
        None => "memory unknown".to_owned(),
    };
    text.push_str(&format!("  {} · {memory} · {} compute slices, {units}\n", board.architecture, board.slices));
    if style.wide {
        text.push_str(&details(board));
    }
    if board.profiles.is_empty() {
        text.push_str("  No source tells its profiles. A driver does, once MIG mode is on.\n");
        return text;
    }
    let rows = board.profiles.iter().map(|profile| of_board(profile, board.units.unwrap_or(0), style)).collect();
    text.push_str(&sheet(rows, style));
    if style.wide {
        for profile in board.profiles.iter().filter(|profile| !profile.note.is_empty()) {
            text.push_str(&lines(&format!("{}: {}", profile.name, profile.note)));
        }
    }
    text
}

/// What a GPU's driver tells of it, below its heading.
pub fn gpu(heading: &str, geometry: &Geometry, style: Style) -> String {
    let Geometry { units, slices, media: _, profiles } = geometry;
    let mut text = format!("{heading}\n  {slices} compute slices, {units} memory slices\n");
    text.push_str(&sheet(profiles.iter().map(|profile| of_gpu(profile, *units, style)).collect(), style));
    text
}

/// What else is known of a board, a line each.
fn details(board: &Board) -> String {
    let mut told: Vec<String> = board.names.iter().skip(1).map(|name| format!("also {}", bare(name))).collect();
    told.extend(board.legacy_names.iter().map(|name| format!("called {} by older drivers", bare(name))));
    if let Some(driver) = board.min_driver.value {
        told.push(format!("driver {driver} or later"));
    }
    told.extend(board.mode_needs_reset.map(|needs| {
        format!("switching MIG mode {}", if needs { "needs a reset of the GPU" } else { "needs no reset" })
    }));
    told.extend(
        board
            .mode_persistent
            .map(|stays| format!("MIG mode {}", if stays { "survives a reboot" } else { "is off after a reboot" })),
    );
    if !board.note.is_empty() {
        told.push(board.note.to_owned());
    }
    told.iter().map(|line| lines(line)).collect()
}

/// A sentence in lines that are not too long to read.
fn lines(text: &str) -> String {
    const LONGEST: usize = 110;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line) + width(word) < LONGEST => line.push_str(&format!(" {word}")),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
        .iter()
        .enumerate()
        .map(|(at, line)| format!("  {}{}\n", if at > 0 { "  " } else { "" }, paint(FAINT, line)))
        .collect()
}

fn sheet(rows: Vec<Vec<String>>, style: Style) -> String {
    let heading: &[&str] = match style.wide {
        true => &["PROFILE", "ID", "SLICES", "SIZE", "GIB", "SMS", "CE", "MEDIA", "MAX", "PLACES"],
        false => &["PROFILE", "GIB", "MAX", "PLACES"],
    };
    table(0, heading, &rows)
}

/// Says what the signs mean, where there are any.
pub fn legend(text: String, media: bool) -> String {
    let mut signs = Vec::new();
    if text.contains('~') {
        signs.push("~ inferred, not seen");
    }
    if text.contains('?') {
        signs.push("? unknown");
    }
    if media {
        signs.push("MEDIA: decoders/encoders/JPEG/optical flow");
    }
    if signs.is_empty() { text } else { format!("{text}\n{}\n", paint(FAINT, &signs.join(" · "))) }
}

fn of_board(profile: &BoardProfile, units: u32, style: Style) -> Vec<String> {
    let BoardProfile { id, slices, size, starts, placements_from, max_instances, max_from, .. } = profile;
    let placements = starts.zip(*size).map(|(starts, size)| (starts, size, profile.name.parse().ok()));
    let places = placements.and_then(|(starts, size, name)| places(starts, size, name?, units));
    let mut row = vec![profile.name.to_owned()];
    let (max, memory) = (figure(Some(max_instances), *max_from), gib(profile.memory_mib));
    if style.wide {
        let size = figure(*size, *placements_from);
        let sms = figure(profile.multiprocessors.value, profile.multiprocessors.from);
        let media = media(profile.engines, profile.engines_from);
        let copy = figure(profile.engines.copy, profile.engines_from);
        row.extend([figure(id.value, id.from), slices.to_string(), size, memory, sms, copy, media, max]);
    } else {
        row.extend([memory, max]);
    }
    row.push(figure(places, *placements_from));
    row
}

fn of_gpu(profile: &GpuProfile, units: u32, style: Style) -> Vec<String> {
    let GpuProfile { name, index: _, id, slices, size, starts, max_instances, memory_mib, multiprocessors, engines } =
        profile;
    let seen = Provenance::Hardware;
    let memory = gib(Figure { value: *memory_mib, from: seen });
    let mut row = vec![name.to_string()];
    if style.wide {
        let (sms, copy) = (figure(*multiprocessors, seen), figure(engines.copy, seen));
        row.extend([id.to_string(), slices.to_string(), size.to_string(), memory, sms, copy, media(*engines, seen)]);
    } else {
        row.push(memory);
    }
    row.extend([max_instances.to_string(), figure(places(starts, *size, *name, units), seen)]);
    row
}

/// Every place of a profile in one drawing; no board has two that overlap.
fn places(starts: &[u32], size: u32, profile: ProfileName, units: u32) -> Option<String> {
    let bar = |&start: &u32| Bar { placement: Placement { start, size }, profile, style: PLAIN };
    drawing::slices(units, true, starts.iter().map(bar).collect())
}

/// A figure, with a sign where nobody saw it.
fn figure(value: Option<impl Display>, from: Provenance) -> String {
    match (value, from) {
        (None, _) => "?".to_owned(),
        (Some(value), Provenance::Inferred) => format!("{value}~"),
        (Some(value), _) => value.to_string(),
    }
}

/// MiB as nvidia-smi prints them: GiB with two decimals.
fn gib(mib: Figure<u64>) -> String {
    let hundredths = mib.value.map(|mib| mib * 100 / 1024);
    figure(hundredths.map(|n| format!("{}.{:02}", n / 100, n % 100)), mib.from)
}

fn media(engines: Engines, from: Provenance) -> String {
    let counts = engines.media().map(|count| figure(count, Provenance::Hardware));
    figure(Some(counts.join("/")), from)
}

/// NVML's name without the vendor.
fn bare(name: &str) -> &str {
    name.strip_prefix("NVIDIA ").unwrap_or(name)
}
