//! What a benchmark is asked for.

use std::str::FromStr;

/// The number behind `--`; without one, `whole` where it is run as a benchmark, and `few` in a test. `None`: a test runner asks
/// what tests there are, and there are none.
pub(crate) fn asked<T: FromStr>(whole: T, few: T) -> Option<T> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let number = arguments.iter().find_map(|argument| argument.parse().ok());
    (!has("--list")).then(|| number.unwrap_or(if has("--bench") { whole } else { few }))
}
