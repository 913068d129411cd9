//! Work on many nodes or files at once, with the results in their order.

use std::num::NonZero;
use std::thread;

/// To start a thread takes as long as to plan a few nodes, so that fewer are not worth one.
const FEWEST: usize = 32;

/// As many threads as so many items are worth, on this machine.
pub(crate) fn threads(items: usize) -> NonZero<usize> {
    // The system is asked only for many, since it takes longer to answer than one node takes.
    let machine = if items > FEWEST { thread::available_parallelism().ok() } else { None };
    machine.unwrap_or(NonZero::<usize>::MIN)
}

/// The results, in the order of the items.
pub(crate) fn map<T: Send, R: Send>(threads: NonZero<usize>, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let share = items.len().div_ceil(threads.get()).max(FEWEST);
    if items.len() <= share {
        return items.into_iter().map(work).collect();
    }
    let total = items.len();
    let mut items = items.into_iter();
    thread::scope(|scope| {
        let work = &work;
        let own: Vec<T> = items.by_ref().take(share).collect();
        let mut begun = Vec::new();
        while items.len() > 0 {
            let part: Vec<T> = items.by_ref().take(share).collect();
            begun.push(scope.spawn(move || part.into_iter().map(work).collect::<Vec<R>>()));
        }
        let mut results = Vec::with_capacity(total);
        results.extend(own.into_iter().map(work));
        for thread in begun {
            results.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    })
}
