//! Steps that are run one after the other, counted, and summed up at the end.
//!
//! Invariant: a step that did not run is shown as skipped with its reason; nothing is left out silently.

use crate::tried::{Quiet, Tried};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How a step ended, with a word about it.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed(String),
    /// It does not.
    Failed(String),
    /// It could not be tried, and why.
    Skipped(String),
}

impl From<Result<String, String>> for Outcome {
    fn from(result: Result<String, String>) -> Self {
        match result {
            Ok(detail) => Self::Passed(detail),
            Err(why) => Self::Failed(why),
        }
    }
}

/// Tests that a program reported in lines `test result: … N passed; N failed; N ignored`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tests {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
    /// What they tried, as far as they said it.
    pub tried: Tried,
}

impl Tests {
    /// The counts in a line, when it is a result line.
    fn in_line(line: &str) -> Option<Self> {
        let counts = line.trim().strip_prefix("test result: ")?;
        let of = |word: &str| -> u64 {
            counts
                .split([';', '.'])
                .filter_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
                .next()
                .unwrap_or(0)
        };
        Some(Self {
            passed: of("passed"),
            failed: of("failed"),
            ignored: of("ignored"),
            tried: Tried::default(),
        })
    }

    /// One that ended early, since it lacked its data, and that its program counted as passed.
    fn skip(&mut self) {
        self.passed = self.passed.saturating_sub(1);
        self.ignored += 1;
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.tried.add(other.tried);
    }
}

/// What was done so far.
#[derive(Default)]
pub struct Steps {
    done: Vec<(String, Outcome, Duration)>,
    tests: Tests,
}

impl Steps {
    /// Runs one step and keeps how it ended; whether it passed.
    pub fn step(&mut self, name: &str, run: impl FnOnce(&mut Tests) -> Outcome) -> bool {
        println!("\n── {name}");
        let start = Instant::now();
        let outcome = run(&mut self.tests);
        match &outcome {
            Outcome::Passed(detail) => println!("   passed: {detail}"),
            Outcome::Failed(why) => println!("   FAILED: {why}"),
            Outcome::Skipped(why) => println!("   skipped: {why}"),
        }
        let passed = matches!(outcome, Outcome::Passed(_));
        self.done.push((name.to_owned(), outcome, start.elapsed()));
        passed
    }

    /// Steps and tests that failed.
    pub fn failed(&self) -> u64 {
        self.count(|outcome| matches!(outcome, Outcome::Failed(_))) + self.tests.failed
    }

    fn count(&self, which: impl Fn(&Outcome) -> bool) -> u64 {
        self.done.iter().filter(|(_, outcome, _)| which(outcome)).count() as u64
    }

    /// Prints a line a step, and the sum as the last line alone.
    pub fn summary(&self) {
        println!("\n── Summary");
        for (name, outcome, took) in &self.done {
            let (mark, detail) = match outcome {
                Outcome::Passed(detail) => ("passed ", detail),
                Outcome::Failed(why) => ("FAILED ", why),
                Outcome::Skipped(why) => ("skipped", why),
            };
            println!("{mark} {:>5} s  {name}: {}", took.as_secs(), detail.lines().next().unwrap_or_default());
        }
        if !self.tests.tried.is_empty() {
            println!("tried: {}", self.tests.tried);
        }
        println!("{}", self.last_line());
    }

    fn last_line(&self) -> String {
        let passed = self.count(|outcome| matches!(outcome, Outcome::Passed(_))) + self.tests.passed;
        let skipped = self.count(|outcome| matches!(outcome, Outcome::Skipped(_))) + self.tests.ignored;
        let tail = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        format!("{passed} passed, {} failed{tail}", self.failed())
    }
}

/// Runs a command that writes where we write.
pub fn run(command: &mut Command) -> Outcome {
    println!("   $ {}", shown(command));
    match command.status() {
        Ok(status) if status.success() => Outcome::Passed("done".into()),
        Ok(status) => Outcome::Failed(format!("{} ended with {status}", shown(command))),
        Err(why) => Outcome::Failed(format!("{} did not start: {why}", shown(command))),
    }
}

/// A command that runs beside what comes next, and gives way to it.
pub struct Beside {
    command: Command,
    child: Option<std::io::Result<Child>>,
}

impl Beside {
    /// A command that says little; it does not run yet.
    pub fn new(command: Command) -> Self {
        Self { command, child: None }
    }

    /// Starts it, what it says held back.
    pub fn start(&mut self) {
        let mut nice = Command::new("nice");
        nice.args(["-n", "19"]).arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => nice.env(name, value),
                None => nice.env_remove(name),
            };
        }
        if let Some(folder) = self.command.get_current_dir() {
            nice.current_dir(folder);
        }
        nice.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        self.child = Some(nice.spawn());
    }

    /// Runs it to its end; what it said is shown where it failed.
    pub fn end(mut self) -> Outcome {
        let Some(child) = self.child.take() else { return run(&mut self.command) };
        let shown = shown(&self.command);
        println!("   $ {shown}");
        match child.and_then(Child::wait_with_output) {
            Ok(ended) if ended.status.success() => Outcome::Passed("done".into()),
            Ok(ended) => {
                println!("{}", String::from_utf8_lossy(&ended.stderr));
                Outcome::Failed(format!("{shown} ended with {}", ended.status))
            }
            Err(why) => Outcome::Failed(format!("{shown} did not start: {why}")),
        }
    }
}

/// What a test that lacks its data writes to standard output, at the start of a line, before it ends.
const SKIPPED: &str = "SKIPPED ";

/// Runs a command like [`run`] and counts the tests it reports on its standard output. `begun` is called when it says something.
pub fn run_tests(command: &mut Command, tests: &mut Tests, begun: impl FnOnce()) -> Outcome {
    println!("   $ {}", shown(command));
    let mut counted = Tests::default();
    let mut skipped = 0;
    let mut quiet = Quiet::default();
    let mut begun = Some(begun);
    let ended = command.stdout(Stdio::piped()).spawn().and_then(|mut child| {
        if let Some(stdout) = child.stdout.take() {
            let mut lines = BufReader::new(stdout);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line)? > 0 {
                begun.take().into_iter().for_each(|begun| begun());
                let text = String::from_utf8_lossy(&line);
                if quiet.shows(&text) {
                    std::io::stdout().write_all(&line)?;
                }
                counted.tried.count(&text);
                skipped += u64::from(text.starts_with(SKIPPED));
                if let Some(counts) = Tests::in_line(&text) {
                    counted.add(counts);
                }
                line.clear();
            }
        }
        child.wait()
    });
    (0..skipped).for_each(|_| counted.skip());
    let (passed, failed, ignored) = (counted.passed, counted.failed, counted.ignored);
    tests.add(counted);
    match ended {
        Err(why) => Outcome::Failed(format!("{} did not start: {why}", shown(command))),
        Ok(status) if !status.success() => Outcome::Failed(format!(
            "{passed} tests passed, {failed} failed; {} ended with {status}",
            shown(command)
        )),
        Ok(_) if passed == 0 => Outcome::Failed(format!("{} ran no test", shown(command))),
        Ok(_) => Outcome::Passed(format!("{passed} tests passed, {ignored} skipped")),
    }
}

fn shown(command: &Command) -> String {
    let program =
        std::path::Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    command.get_args().fold(program.into_owned(), |line, argument| line + " " + &argument.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_line_is_counted_and_any_other_is_not() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.05s\n";
        assert_eq!(
            Tests::in_line(line),
            Some(Tests { passed: 12, failed: 3, ignored: 1, tried: Tried::default() })
        );
        assert_eq!(Tests::in_line("test a_test ... ok"), None);
    }

    #[test]
    fn the_last_line_sums_steps_and_tests_and_names_skipped_ones_only_when_there_are_some() {
        let mut steps = Steps::default();
        steps.step("one", |tests| {
            tests.add(Tests { passed: 4, ..Tests::default() });
            Outcome::Passed("fine".into())
        });
        assert_eq!(steps.last_line(), "5 passed, 0 failed");
        steps.step("two", |_| Outcome::Skipped("no tool".into()));
        steps.step("three", |_| Outcome::Failed("broken".into()));
        assert_eq!(steps.last_line(), "5 passed, 1 failed, 1 skipped");
        assert_eq!(steps.failed(), 1);
    }

    #[test]
    fn what_runs_beside_is_run_once_and_fails_where_it_failed() {
        let mut beside = Beside::new(Command::new("true"));
        beside.start();
        assert_eq!(beside.end(), Outcome::Passed("done".into()));
        assert_eq!(
            Beside::new(Command::new("true")).end(),
            Outcome::Passed("done".into()),
            "also where nobody started it"
        );
        let mut beside = Beside::new(Command::new("false"));
        beside.start();
        assert!(matches!(beside.end(), Outcome::Failed(_)));
    }

    #[test]
    fn a_test_that_lacked_its_data_counts_as_skipped_and_not_as_passed() {
        let mut tests = Tests { passed: 3, ..Tests::default() };
        tests.skip();
        assert_eq!(tests, Tests { passed: 2, ignored: 1, ..Tests::default() });
    }

    #[test]
    fn a_test_command_that_runs_no_test_fails() {
        let mut tests = Tests::default();
        assert!(matches!(run_tests(&mut Command::new("true"), &mut tests, || {}), Outcome::Failed(_)));
    }
}
