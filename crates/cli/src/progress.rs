//! How far a command is, on standard error: a bar on a terminal, a line now and then elsewhere (with `-v`).
//!
//! Called from many tasks at once. Nothing here touches standard output.

use crate::output::human;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use keepfast_engine::{NoProgress, Progress, Work};
use keepfast_model::ByteCount;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Seconds between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The progress that fits standard error and the options. With `json`, and nobody watching, standard error is left to
/// the document of an error.
pub fn choose(no_progress: bool, verbose: u8, json: bool) -> Arc<dyn Progress> {
    match std::io::stderr().is_terminal() {
        true if !no_progress => Arc::new(Bar::default()),
        false if verbose > 0 && !no_progress => Arc::new(Lines::default()),
        false if verbose == 0 && json => Arc::new(NoProgress),
        _ => Arc::new(Notes),
    }
}

/// Only what a person should know.
#[derive(Debug)]
struct Notes;

impl Progress for Notes {
    fn stage(&self, _: &str, _: Option<Work>) {}
    fn advance(&self, _: u64, _: u64) {}
    fn note(&self, line: &str) {
        print_line(line);
    }
    fn finish(&self) {}
}

/// Nothing can be done when standard error itself fails.
fn print_line(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// What of a stage is done.
#[derive(Debug, Default)]
struct Done {
    bytes: AtomicU64,
    rows: AtomicU64,
    /// Whether the stage's work is counted in rows.
    by_rows: AtomicBool,
}

/// A bar with rate, share and time left.
#[derive(Debug, Default)]
struct Bar {
    bar: Mutex<Option<ProgressBar>>,
    done: Arc<Done>,
}

impl Bar {
    fn with(&self, f: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            f(bar);
        }
    }

    fn replace(&self, new: Option<ProgressBar>) {
        let old = std::mem::replace(&mut *self.bar.lock().unwrap_or_else(PoisonError::into_inner), new);
        if let Some(old) = old {
            old.finish_and_clear();
        }
    }
}

impl Progress for Bar {
    fn stage(&self, name: &str, work: Option<Work>) {
        self.done.bytes.store(0, Ordering::Relaxed);
        self.done.rows.store(0, Ordering::Relaxed);
        self.done.by_rows.store(matches!(work, Some(Work::Rows(_))), Ordering::Relaxed);
        let (done, rate) = (self.done.clone(), self.done.clone());
        let (total, template) = match work {
            Some(Work::Bytes(n)) => (Some(n), "{msg} {bar:30} {percent:>3} %  {done}  {rate}  {left}"),
            Some(Work::Rows(n)) => (Some(n), "{msg} {bar:30} {percent:>3} %  {done}  {rate}  {left}"),
            None => (None, "{msg} {spinner} {done}  {rate}  {elapsed}"),
        };
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("done", move |_: &ProgressState, w: &mut dyn std::fmt::Write| {
                let _ = write!(w, "{}", ByteCount(done.bytes.load(Ordering::Relaxed)));
                let rows = done.rows.load(Ordering::Relaxed);
                if rows > 0 {
                    let _ = write!(w, "  {}", human::rows(rows));
                }
            })
            .with_key("rate", move |state: &ProgressState, w: &mut dyn std::fmt::Write| {
                let bytes = ByteCount(rate.bytes.load(Ordering::Relaxed));
                let _ = write!(w, "{}", human::rate(bytes, state.elapsed().as_secs_f64()));
            })
            .with_key("left", |state: &ProgressState, w: &mut dyn std::fmt::Write| {
                let _ = write!(w, "{} left", human::seconds(state.eta().as_secs_f64()));
            })
            .progress_chars("━╸ ");
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10))
            .with_style(style)
            .with_message(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        self.replace(Some(bar));
    }

    fn advance(&self, bytes: u64, rows: u64) {
        self.done.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.done.rows.fetch_add(rows, Ordering::Relaxed);
        let n = if self.done.by_rows.load(Ordering::Relaxed) { rows } else { bytes };
        self.with(|bar| bar.inc(n));
    }

    fn note(&self, line: &str) {
        match &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(|| print_line(line)),
            None => print_line(line),
        }
    }

    fn finish(&self) {
        self.replace(None);
    }
}

/// A line now and then.
#[derive(Debug, Default)]
struct Lines {
    stage: Mutex<Option<Stage>>,
}

#[derive(Debug)]
struct Stage {
    name: String,
    work: Option<Work>,
    bytes: u64,
    rows: u64,
    began: Instant,
    said: Instant,
}

impl Stage {
    fn line(&self) -> String {
        let s = self.began.elapsed().as_secs_f64();
        let (done, total) = match self.work {
            Some(Work::Bytes(total)) => (self.bytes, total),
            Some(Work::Rows(total)) => (self.rows, total),
            None => (0, 0),
        };
        let mut line = format!("{}: ", self.name);
        // Writing into a String cannot fail.
        if total > 0 {
            let _ = write!(line, "{} %, ", (u128::from(done) * 100 / u128::from(total)).min(100));
        }
        let _ = write!(line, "{}", ByteCount(self.bytes));
        if self.rows > 0 {
            let _ = write!(line, ", {}", human::rows(self.rows));
        }
        let _ = write!(line, ", {}", human::rate(ByteCount(self.bytes), s));
        if total > done && done > 0 {
            let left = s / done as f64 * (total - done) as f64;
            let _ = write!(line, ", {} left", human::seconds(left));
        }
        line
    }
}

impl Progress for Lines {
    fn stage(&self, name: &str, work: Option<Work>) {
        self.finish();
        let now = Instant::now();
        let stage = Stage { name: name.to_owned(), work, bytes: 0, rows: 0, began: now, said: now };
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = Some(stage);
    }

    fn advance(&self, bytes: u64, rows: u64) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stage) = stage.as_mut() {
            stage.bytes += bytes;
            stage.rows += rows;
            if stage.said.elapsed() >= LINE_EVERY {
                stage.said = Instant::now();
                print_line(&stage.line());
            }
        }
    }

    fn note(&self, line: &str) {
        print_line(line);
    }

    fn finish(&self) {
        if let Some(stage) = self.stage.lock().unwrap_or_else(PoisonError::into_inner).take() {
            print_line(&format!(
                "{}; done in {}",
                stage.line(),
                human::seconds(stage.began.elapsed().as_secs_f64())
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_share_rate_and_time_left() {
        let began = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        let stage = Stage {
            name: "scan".into(),
            work: Some(Work::Bytes(400 << 20)),
            bytes: 100 << 20,
            rows: 1000,
            began,
            said: began,
        };
        let line = stage.line();
        assert!(line.starts_with("scan: 25 %, 100.0 MiB, 1,000 rows, "), "{line}");
        assert!(line.contains("MiB/s, ") && line.ends_with("s left"), "{line}");
    }

    #[test]
    fn stages_may_follow_each_other_without_an_end() {
        for progress in [&Lines::default() as &dyn Progress, &Bar::default()] {
            progress.advance(1, 1);
            progress.stage("a", Some(Work::Rows(10)));
            progress.advance(20, 1);
            progress.stage("b", None);
            progress.advance(1, 1);
            progress.finish();
            progress.finish();
        }
    }
}
