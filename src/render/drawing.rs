//! A GPU's memory slices as a line of bars, to scale, so that two drawings of one GPU line up.

use anstyle::Style;

use super::paint::{CREATE, DESTROY, FAINT, PLAIN, pad, paint, width};
use crate::model::plan::{GpuPlan, PlanInstance};
use crate::model::{Placement, ProfileName};

/// No board has more slices than 12; a plan file that claims more than this is not drawn.
const MOST_UNITS: u32 = 64;

/// An instance in a drawing.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    /// Where it lies.
    pub placement: Placement,
    /// Its profile, shortened where the bar is too narrow.
    pub profile: ProfileName,
    /// Its colour.
    pub style: Style,
}

/// The instances on a GPU before the plan, those that go in red; `None` where its slices are unknown.
pub fn now(gpu: &GpuPlan) -> Option<String> {
    let bars = bars(&gpu.keep, PLAIN).chain(bars(&gpu.destroy, DESTROY)).collect();
    slices(gpu.units, gpu.mig.now, bars)
}

/// The instances on a GPU after the plan, those that come in green; `None` where its slices are unknown.
pub fn then(gpu: &GpuPlan) -> Option<String> {
    let bars = bars(&gpu.keep, PLAIN).chain(bars(&gpu.create, CREATE)).collect();
    slices(gpu.units, gpu.mig.then, bars)
}

fn bars(instances: &[PlanInstance], style: Style) -> impl Iterator<Item = Bar> {
    instances.iter().map(move |i| Bar { placement: i.placement(), profile: i.profile, style })
}

/// Draws a GPU with so many memory slices: each bar begins at its slice, free runs are ` · `; `None` where the
/// number of slices is unknown.
///
/// Bars that overlap an earlier one or begin past the end can't come from a driver and are left out.
pub fn slices(units: u32, mig: bool, mut bars: Vec<Bar>) -> Option<String> {
    if units == 0 || units > MOST_UNITS {
        return None;
    }
    let column = columns(units);
    // The bar itself takes a run's first column.
    let room = |from: u32, to: u32| (to - from) as usize * column - 1;
    let mut line = String::new();
    let mut run = |text: &str, room: usize, style: Style| {
        line.push('│');
        line.push_str(&paint(style, &pad(text, room)));
    };
    if mig {
        bars.sort_by_key(|bar| bar.placement);
        let mut at = 0;
        for bar in &bars {
            let (start, end) = (bar.placement.start, bar.placement.end().min(units));
            if start < at || start >= end {
                continue;
            }
            if start > at {
                run(" ·", room(at, start), FAINT);
            }
            run(&fitting(bar.profile, room(start, end)), room(start, end), bar.style);
            at = end;
        }
        if at < units {
            run(" ·", room(at, units), FAINT);
        }
    } else {
        run("MIG off", room(0, units), FAINT);
    }
    line.push('│');
    Some(line)
}

/// Columns of a slice: the whole GPU takes 32, but a slice never less than 4, so that `1g` and its bar fit.
fn columns(units: u32) -> usize {
    32_u32.div_ceil(units.max(1)).max(4) as usize
}

/// A profile's name in so many columns: whole, without the memory, with the suffix's sign alone, or cut off.
fn fitting(profile: ProfileName, room: usize) -> String {
    let bare = ProfileName { memory_gb: None, ..profile };
    let sign: String = profile.attribute.suffix().chars().take(1).collect();
    let names = [profile.to_string(), bare.to_string(), format!("{}g{sign}", profile.slices)];
    let found = names.iter().find(|name| width(name) <= room).cloned();
    found.unwrap_or_else(|| bare.to_string().chars().take(room).collect())
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use proptest::prelude::*;

    use super::*;
    use crate::model::plan::ModeChangePlan;

    fn instance(profile: &str, start: u32, size: u32) -> PlanInstance {
        let profile = profile.parse().unwrap();
        PlanInstance { profile, start, size, gi_id: None, compute: vec![], users: None, source: None }
    }

    fn gpu(units: u32, mig: (bool, bool), parts: [Vec<PlanInstance>; 3]) -> GpuPlan {
        let [keep, destroy, create] = parts;
        GpuPlan {
            uuid: "GPU-1b3c".into(),
            index: 0,
            pci: String::new(),
            model: String::new(),
            managed: true,
            source: None,
            shadows: vec![],
            units,
            mig: ModeChangePlan { now: mig.0, then: mig.1 },
            keep,
            destroy,
            create,
        }
    }

    fn lines(gpu: &GpuPlan) -> [String; 2] {
        [now(gpu), then(gpu)].map(|line| strip_str(&line.unwrap()).to_string())
    }

    #[test]
    fn a_drawing_is_to_scale_and_names_are_shortened() {
        let keep = vec![instance("3g.40gb", 4, 4), instance("1g.10gb", 2, 1)];
        let h100 = gpu(8, (true, true), [keep, vec![], vec![instance("1g.10gb+me", 3, 1)]]);
        assert_eq!(lines(&h100), ["│ ·     │1g │ · │3g.40gb        │", "│ ·     │1g │1g+│3g.40gb        │"]);
        let a30 = gpu(4, (false, true), [vec![], vec![], vec![instance("2g.12gb+me", 0, 2)]]);
        assert_eq!(lines(&a30), ["│MIG off                        │", "│2g.12gb+me     │ ·             │"]);
        let keep = vec![instance("1g.24gb+me.all", 0, 3), instance("2g.48gb-me", 6, 6)];
        let rtx = gpu(12, (true, true), [keep, vec![], vec![]]);
        assert_eq!(lines(&rtx)[0], "│1g+me.all  │ ·         │2g.48gb-me             │");
    }

    #[test]
    fn what_no_driver_reports_is_left_out_or_not_drawn() {
        assert!(now(&gpu(0, (true, true), Default::default())).is_none());
        assert!(now(&gpu(u32::MAX, (true, true), Default::default())).is_none());
        let keep = vec![instance("3g", 0, 4), instance("2g", 2, 2), instance("1g", 9, u32::MAX), instance("7g", 5, 0)];
        let overlapping = gpu(8, (true, true), [keep, vec![], vec![]]);
        assert_eq!(lines(&overlapping)[0], "│3g             │ ·             │");
    }

    prop_compose! {
        /// A board and runs that cut it: each is kept, destroyed, created or free.
        fn any_gpu()(
            units in prop::sample::select(vec![4_u32, 8, 12]),
            modes in any::<(bool, bool)>(),
            runs in prop::collection::vec((1_u32..=8, 0_usize..4, 1_u32..=7, any::<bool>()), 0..12),
        ) -> GpuPlan {
            let mut parts = [vec![], vec![], vec![]];
            let mut at = 0;
            for (size, what, slices, me) in runs {
                let size = size.min(units - at);
                if size == 0 { break; }
                let name = format!("{slices}g.{}gb{}", slices * 10, if me { "+me.all" } else { "" });
                if let Some(part) = parts.get_mut(what) {
                    part.push(instance(&name, at, size));
                }
                at += size;
            }
            gpu(units, modes, parts)
        }
    }

    proptest! {
        #[test]
        fn both_drawings_line_up(gpu in any_gpu()) {
            let [now, then] = lines(&gpu);
            prop_assert_eq!(width(&now), width(&then));
            let column = columns(gpu.units);
            prop_assert_eq!(width(&now), gpu.units as usize * column + 1);
            for (line, mig, parts) in
                [(&now, gpu.mig.now, [&gpu.keep, &gpu.destroy]), (&then, gpu.mig.then, [&gpu.keep, &gpu.create])]
            {
                if !mig {
                    prop_assert!(line.starts_with("│MIG off "));
                    continue;
                }
                let cells: Vec<char> = line.chars().collect();
                for instance in parts.into_iter().flatten() {
                    let (start, end) = (instance.start as usize * column, instance.placement().end() as usize * column);
                    prop_assert_eq!((cells[start], cells[end]), ('│', '│'));
                    let label: String = cells[start + 1..end].iter().collect();
                    let slices = format!("{}g", instance.profile.slices);
                    prop_assert!(label.starts_with(&slices), "{} in {}", label, line);
                }
            }
        }
    }
}
