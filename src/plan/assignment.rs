//! Entries with `count` share the GPUs that are left: the assignment that costs least, exactly.

use std::collections::BTreeMap;

use crate::model::desired::{DesiredNode, Goal};
use crate::model::observed::{ObservedGpu, ObservedNode};
use crate::model::plan::{Block, BlockCode};

use super::placement::Score;

/// Which entry of `desired.shared` each GPU gets, by UUID; a GPU that none gets is unmanaged. Blocks tell of entries
/// that can't have as many GPUs as they want, and then nothing is assigned.
///
/// Dynamic programming over the GPUs in index order; a state is how many GPUs each entry still wants. Of equal costs
/// the assignment that gives earlier entries the lower indices wins.
pub fn assign(
    desired: &DesiredNode,
    node: &ObservedNode,
    price: impl Fn(&ObservedGpu, &Goal) -> Result<Score, Box<Block>>,
) -> (BTreeMap<String, usize>, Vec<Block>) {
    if desired.shared.is_empty() {
        return (BTreeMap::new(), Vec::new());
    }
    let start: Vec<u32> = desired.shared.iter().map(|entry| entry.count).collect();
    // Best way to each state: its score and the entry given to each GPU so far.
    let mut states: BTreeMap<Vec<u32>, (Score, Vec<Option<usize>>)> = BTreeMap::from([(start, Default::default())]);
    let mut misfits: BTreeMap<usize, Block> = BTreeMap::new();
    for gpu in &node.gpus {
        let mut options = Vec::new();
        for (at, entry) in desired.shared.iter().enumerate() {
            if !entry.eligible.contains(&gpu.uuid) {
                continue;
            }
            match price(gpu, &entry.goal) {
                Ok(score) => options.push((at, score)),
                Err(block) => {
                    misfits.entry(at).or_insert(*block);
                }
            }
        }
        let mut next: BTreeMap<Vec<u32>, (Score, Vec<Option<usize>>)> = BTreeMap::new();
        for (left, (score, given)) in states {
            for &(at, more) in options.iter().filter(|(at, _)| left.get(*at).is_some_and(|&n| n > 0)) {
                let mut left = left.clone();
                if let Some(n) = left.get_mut(at) {
                    *n -= 1;
                }
                offer(&mut next, left, score + more, &given, Some(at));
            }
            offer(&mut next, left, score, &given, None);
        }
        states = next;
    }
    let done = vec![0; desired.shared.len()];
    match states.get(&done) {
        Some((_, given)) => {
            let pairs = node.gpus.iter().zip(given).filter_map(|(gpu, at)| Some((gpu.uuid.clone(), (*at)?)));
            (pairs.collect(), Vec::new())
        }
        None => (BTreeMap::new(), shortages(desired, misfits)),
    }
}

type States = BTreeMap<Vec<u32>, (Score, Vec<Option<usize>>)>;

fn offer(next: &mut States, left: Vec<u32>, score: Score, given: &[Option<usize>], at: Option<usize>) {
    let mut given = given.to_vec();
    given.push(at);
    // Earlier entries on lower indices: `None` sorts behind every entry.
    let rank = |given: &[Option<usize>]| given.iter().map(|g| g.unwrap_or(usize::MAX)).collect::<Vec<_>>();
    let better = next.get(&left).is_none_or(|(s, g)| (score, rank(&given)) < (*s, rank(g)));
    if better {
        next.insert(left, (score, given));
    }
}

fn shortages(desired: &DesiredNode, mut misfits: BTreeMap<usize, Block>) -> Vec<Block> {
    let blocks = desired.shared.iter().enumerate().map(|(at, entry)| {
        misfits.remove(&at).unwrap_or_else(|| Block {
            code: BlockCode::TooFewGpus,
            message: format!("it wants {} of the {} GPUs that are left for it", entry.count, entry.eligible.len()),
            object: entry.source.to_string(),
            hint: "lower its count, or take GPUs out of other entries".to_owned(),
        })
    });
    blocks.collect()
}
