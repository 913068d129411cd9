//! Whether a policy's window is open: days, hours, zones and their changes of clock.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, AmbiguousTimestamp, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::model::policy::{Span, Window};

/// How a window stands at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Open until then.
    Open(Timestamp),
    /// Shut until then; `None`: it never opens.
    Shut(Option<Timestamp>),
}

/// How the window stands now. A zone that is not known leaves it shut.
///
/// A span begins on its days and may end on the next; spans that meet or overlap are one. Where a change of clock
/// skips a wall time, the instant after the gap counts; where it repeats one, the first counts for beginnings and the
/// last for ends.
pub fn standing(window: &Window, now: Timestamp) -> Standing {
    let Ok(zone) = TimeZone::get(&window.timezone) else { return Standing::Shut(None) };
    let today = zone.to_datetime(now).date();
    let mut spans: Vec<(Timestamp, Timestamp)> = Vec::new();
    // Yesterday's spans may reach into today. A week and a day ahead holds every next opening, and a week more where a
    // zone skips a whole day.
    for offset in -1..=15 {
        let Ok(date) = today.checked_add(i64::from(offset).days()) else { continue };
        spans.extend(window.open.iter().filter_map(|span| instants(span, date, &zone)));
    }
    spans.sort();
    let mut end = None;
    for &(from, to) in &spans {
        let reached = end.unwrap_or(now);
        if from <= reached && to > reached {
            end = Some(to);
        }
    }
    match end {
        Some(end) => Standing::Open(end),
        None => Standing::Shut(spans.iter().map(|s| s.0).find(|&from| from > now)),
    }
}

/// Whether work of so many seconds that starts now ends in the window.
pub fn admits(window: &Window, now: Timestamp, seconds: u64) -> bool {
    let needed = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    match standing(window, now) {
        Standing::Open(end) => end.duration_since(now) >= needed,
        Standing::Shut(_) => false,
    }
}

fn instants(span: &Span, date: Date, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
    let day = usize::try_from(date.weekday().to_monday_zero_offset()).ok()?;
    if !*span.days.get(day)? {
        return None;
    }
    let last = if span.to > span.from { date } else { date.tomorrow().ok()? };
    let from = instant(wall(date, span.from)?, zone, AmbiguousTimestamp::earlier)?;
    let to = instant(wall(last, span.to)?, zone, AmbiguousTimestamp::later)?;
    // What lies in a gap altogether never opens.
    (from < to).then_some((from, to))
}

/// When the clock of the zone reads that, or first reads more; where it does so twice, `which` of them.
fn instant(
    wall: DateTime,
    zone: &TimeZone,
    which: impl Fn(AmbiguousTimestamp) -> Result<Timestamp, jiff::Error>,
) -> Option<Timestamp> {
    let found = zone.to_ambiguous_timestamp(wall);
    match found.offset() {
        // By the offset behind the gap it lies before the gap, and the next change of clock is the gap's.
        AmbiguousOffset::Gap { .. } => zone.following(found.earlier().ok()?).next().map(|change| change.timestamp()),
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => which(found).ok(),
    }
}

/// A date and minutes after its midnight; 1440 is the next midnight.
fn wall(date: Date, minutes: u32) -> Option<DateTime> {
    date.at(0, 0, 0, 0).checked_add(i64::from(minutes).minutes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[usize], from: u32, to: u32, zone: &str) -> Window {
        let mut on = [false; 7];
        days.iter().for_each(|&d| on[d] = true);
        Window { open: vec![Span { days: on, from, to }], timezone: zone.to_owned() }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn friday_night_ends_on_saturday() {
        let w = window(&[4], 22 * 60, 6 * 60, "UTC");
        assert_eq!(standing(&w, at("2026-11-27T23:00:00Z")), Standing::Open(at("2026-11-28T06:00:00Z")));
        assert_eq!(standing(&w, at("2026-11-28T05:59:59Z")), Standing::Open(at("2026-11-28T06:00:00Z")));
        assert_eq!(standing(&w, at("2026-11-28T06:00:00Z")), Standing::Shut(Some(at("2026-12-04T22:00:00Z"))));
        assert_eq!(standing(&w, at("2026-11-27T05:00:00Z")), Standing::Shut(Some(at("2026-11-27T22:00:00Z"))));
    }

    #[test]
    fn a_plan_must_end_in_the_window() {
        let w = window(&[4], 22 * 60, 6 * 60, "UTC");
        assert!(admits(&w, at("2026-11-28T05:59:00Z"), 60));
        assert!(!admits(&w, at("2026-11-28T05:59:00Z"), 61));
    }

    #[test]
    fn whole_days_join() {
        let w = window(&[5, 6], 0, 1440, "UTC");
        assert_eq!(standing(&w, at("2026-11-28T12:00:00Z")), Standing::Open(at("2026-11-30T00:00:00Z")));
    }

    #[test]
    fn the_zone_counts_and_so_do_its_changes_of_clock() {
        let w = window(&[6], 60, 4 * 60, "Europe/Berlin");
        // 2026-03-29: 02:00 becomes 03:00, so 01:00 to 04:00 lasts two hours.
        assert_eq!(standing(&w, at("2026-03-29T00:30:00Z")), Standing::Open(at("2026-03-29T02:00:00Z")));
        // 2026-10-25: 03:00 becomes 02:00, so it lasts four.
        assert_eq!(standing(&w, at("2026-10-24T23:00:00Z")), Standing::Open(at("2026-10-25T03:00:00Z")));
    }

    #[test]
    fn an_unknown_zone_is_shut() {
        assert_eq!(standing(&window(&[0], 0, 1440, "Moon/Base"), at("2026-11-23T12:00:00Z")), Standing::Shut(None));
    }
}
