//! Progress on stderr: a line for each step that is done, and a bar for each node where a terminal shows them.

use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::execute::News;
use crate::model::NodePlan;
use crate::render::{Names, step};

const DONE: Style = AnsiColor::Green.on_default();
const WAIT: Style = AnsiColor::Yellow.on_default();

/// Tells of one node's steps.
#[derive(Debug)]
pub(super) struct Progress {
    bars: MultiProgress,
    bar: ProgressBar,
    quiet: bool,
    verbose: bool,
    node: String,
    sentences: BTreeMap<u32, String>,
    names: Names,
    /// The last wait that was told, so that a poll is told once.
    told: Option<(u32, String)>,
}

impl Progress {
    /// For a plan's steps that do not wait; the bar is one of these.
    pub(super) fn new(plan: &NodePlan, bars: &MultiProgress, quiet: bool, verbose: bool) -> Self {
        let names = Names::of(plan);
        let steps = plan.steps.iter().filter(|s| s.waits.is_none());
        let sentences: BTreeMap<u32, String> = steps.map(|s| (s.id, step(&s.kind, &names))).collect();
        let bar = if quiet { ProgressBar::hidden() } else { bars.add(ProgressBar::new(sentences.len() as u64)) };
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(plan.name.clone());
        Progress { bars: bars.clone(), bar, quiet, verbose, node: plan.name.clone(), sentences, names, told: None }
    }

    /// Takes a piece of news in.
    pub(super) fn tell(&mut self, news: &News) {
        let sentence = |id: &u32| self.sentences.get(id).cloned().unwrap_or_default();
        match news {
            News::Began(id) => self.bar.set_message(sentence(id)),
            News::Done(id) => {
                let line = format!("{DONE}done{DONE:#}   {}", sentence(id));
                self.line(&line);
                self.bar.inc(1);
            }
            News::Skipped(id) => {
                let line = format!("{DONE}done{DONE:#}   {} (it was so already)", sentence(id));
                self.line(&line);
                self.bar.inc(1);
            }
            News::Waits(id, why) | News::Retries(id, why) => {
                let this = Some((*id, why.clone()));
                if self.told != this && (self.verbose || matches!(news, News::Retries(..))) {
                    let line = format!("{WAIT}wait{WAIT:#}   {why}");
                    self.line(&line);
                }
                self.told = this;
                self.bar.set_message(why.clone());
            }
            News::RollsBack(plan) => {
                self.line(&format!("{WAIT}back{WAIT:#}   the layout is put back"));
                let names = Names::of(plan);
                let steps = plan.steps.iter().filter(|s| s.waits.is_none());
                self.sentences = steps.map(|s| (s.id, step(&s.kind, &names))).collect();
                self.names = names;
            }
            News::Undoes(kind) => {
                let line = format!("{WAIT}undo{WAIT:#}   {}", step(kind, &self.names));
                self.line(&line);
            }
        }
    }

    fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        let line = format!("  {:<10} {text}", self.node);
        // The bars are redrawn below the line; without a terminal there are none, and the line goes to stderr plainly.
        if self.bar.is_hidden() {
            super::output::tell(&format!("{line}\n"));
        } else {
            self.bars.suspend(|| super::output::tell(&format!("{line}\n")));
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
