//! How far long work is: a line on the terminal, nothing where there is none.

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::kms::RunId;
use crate::maintain::Progress;

/// A line on the standard error that says how far a walk is; gone when it is dropped.
pub struct Bar {
    bar: ProgressBar,
    doing: &'static str,
}

impl Bar {
    /// Shows what is being done.
    pub fn new(doing: &'static str) -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_style(style("{spinner} {msg} ({elapsed})"));
        bar.set_message(doing);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, doing }
    }
}

/// A template of indicatif's; the texts here are known to be right.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for Bar {
    fn began(&self, run: &RunId) {
        self.bar.println(format!("run {run}"));
    }

    fn wants_expected(&self) -> bool {
        !self.bar.is_hidden()
    }

    fn expected(&self, files: u64) {
        if files > 0 && self.bar.length() != Some(files) {
            self.bar.set_length(files);
            self.bar
                .set_style(style("{wide_bar} {msg}, {per_sec}, {eta} left"));
        }
    }

    fn advanced(&self, files: u64, bytes: u64) {
        let count = HumanCount(files);
        let message = if bytes == 0 {
            format!("{}: {count} files", self.doing)
        } else {
            format!("{}: {count} files, {}", self.doing, HumanBytes(bytes))
        };
        self.bar.set_position(files);
        self.bar.set_message(message);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
