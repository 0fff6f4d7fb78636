//! How the demo is shown: numbered steps, each with the command that a person would type and what it gave.

use crate::error::CliError;
use crate::output::{Output, Report, human};
use serde::Serialize;
use std::io::Write;
use std::time::Instant;

/// One step, as it is kept for the summary.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Its number, from 1.
    pub step: usize,
    /// What it shows.
    pub title: String,
    /// What a person would type.
    pub commands: Vec<String>,
    /// What it showed, in one sentence.
    pub shown: String,
    /// How long it took.
    pub seconds: f64,
}

/// The demo as it goes on. With `--json` nothing is written before its end.
#[derive(Debug)]
pub struct Script {
    out: Output,
    began: Instant,
    open: Option<(Instant, Step)>,
    /// The steps that are over.
    pub steps: Vec<Step>,
}

impl Script {
    /// An empty one.
    pub fn new(out: Output) -> Self {
        Self { out, began: Instant::now(), open: None, steps: vec![] }
    }

    /// Seconds since it began.
    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Writes text as it is.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn text(&self, text: &str) -> Result<(), CliError> {
        if self.out.json {
            return Ok(());
        }
        let mut out = self.out.writer();
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }

    /// Begins a step.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn step(&mut self, title: &str) -> Result<(), CliError> {
        let step = self.steps.len() + 1;
        self.text(&format!("\n{step}. {title}"))?;
        let step = Step { step, title: title.into(), commands: vec![], shown: String::new(), seconds: 0.0 };
        self.open = Some((Instant::now(), step));
        Ok(())
    }

    /// Shows what a person would type.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn command(&mut self, command: &str) -> Result<(), CliError> {
        if let Some((_, step)) = &mut self.open {
            step.commands.push(command.to_owned());
        }
        self.text(&format!("   $ {command}"))
    }

    /// Shows what the command gave, as the command itself shows it.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn report(&self, report: &dyn Report) -> Result<(), CliError> {
        let mut text = vec![];
        report.write_text(&mut text)?;
        self.output(&String::from_utf8_lossy(&text))
    }

    /// Shows output of a command.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn output(&self, text: &str) -> Result<(), CliError> {
        text.lines().try_for_each(|line| self.text(&format!("     {line}")))
    }

    /// Ends the step with what it showed.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn shown(&mut self, shown: String) -> Result<(), CliError> {
        let Some((began, mut step)) = self.open.take() else { return Ok(()) };
        step.seconds = began.elapsed().as_secs_f64();
        self.text(&format!("   ✓ {shown} ({})", human::seconds(step.seconds)))?;
        step.shown = shown;
        self.steps.push(step);
        Ok(())
    }

    /// An error of the running step where `met` is false.
    ///
    /// # Errors
    /// [`CliError::Demo`].
    pub fn expect(&self, met: bool, reason: impl FnOnce() -> String) -> Result<(), CliError> {
        if met {
            return Ok(());
        }
        let step = self.open.as_ref().map(|(_, s)| format!("{}. {}", s.step, s.title)).unwrap_or_default();
        Err(CliError::Demo { step, reason: reason() })
    }
}
