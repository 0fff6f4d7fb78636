//! The fuzzer: every target of `fuzz/`, several at once, each for so many seconds.
//!
//! The driver is built with LLVM's counters of coverage, which stable Rust has, in every crate of the workspace. Inputs
//! that reached something new are kept beside the release builds for the next run.

use crate::steps::{Outcome, Steps, run as run_command};
use crate::workspace::Workspace;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Seconds for each target: a minute, and an hour in a nightly run.
const SECONDS: u64 = 60;
const SECONDS_LONG: u64 = 3600;

/// Longest input.
const MAX_LENGTH: u32 = 1 << 16;
/// Seconds that one input may take. The machine may be busy with other work.
const SECONDS_AN_INPUT: u32 = 60;
/// Seconds behind its time in which the driver ends: those of reading what it kept, and of a last input.
const LAST: u64 = 3 * SECONDS_AN_INPUT as u64;
/// Memory of one process, in MiB; each target has a tighter limit of its own.
const MEMORY: u32 = 4096;

/// The driver's program.
const DRIVER: &str = "keepfast-fuzz";
/// Set where cargo calls this program in place of rustc.
pub const COUNTED: &str = "KEEPFAST_FUZZ_COUNTED";

/// What makes LLVM count which edges of the program ran, and show the fuzzer what was compared.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
];

/// What is fuzzed, and how long.
struct Plan {
    seconds: u64,
    /// None means all.
    targets: Vec<String>,
}

/// The options of `cargo xtask fuzz`.
fn plan(options: &[&str]) -> Result<Plan, String> {
    let long = std::env::var_os("KEEPFAST_LONG").is_some_and(|value| value == "1");
    let mut plan = Plan { seconds: if long { SECONDS_LONG } else { SECONDS }, targets: vec![] };
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let mut number = || -> Result<u64, String> {
            let text = options.next().ok_or(format!("{option} needs a number"))?;
            text.parse().map_err(|_| format!("{option} needs a number, not '{text}'"))
        };
        match *option {
            "--seconds" => plan.seconds = number()?,
            "--minutes" => plan.seconds = 60 * number()?,
            name if name.starts_with('-') => return Err(format!("unknown option {name}")),
            name => plan.targets.push(name.to_owned()),
        }
    }
    Ok(plan)
}

/// Builds the driver and fuzzes.
pub fn run(workspace: &Workspace, steps: &mut Steps, options: &[&str]) {
    let plan = match plan(options) {
        Ok(plan) => plan,
        Err(why) => {
            steps.step("fuzzing", |_| Outcome::Failed(why));
            return;
        }
    };
    let folder = workspace.release.with_file_name("fuzz");
    let driver = workspace.release.join(format!("{DRIVER}{}", std::env::consts::EXE_SUFFIX));
    if steps.step("fuzzer", |_| build(workspace)) {
        steps.step("fuzzing", |_| fuzz(workspace, &plan, &folder, &driver).into());
    }
}

/// Builds the driver. Cargo hands every crate of the workspace, and nothing else, to [`counted_rustc`], so that what lies
/// below them is the same as for the program and is not compiled twice.
fn build(workspace: &Workspace) -> Outcome {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let asked = Command::new(&compiler).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !asked.is_ok_and(|status| status.success()) {
        return Outcome::Skipped(format!("no C++ compiler '{compiler}', which libFuzzer needs"));
    }
    let this = match std::env::current_exe() {
        Ok(this) => this,
        Err(why) => return Outcome::Failed(format!("this program does not know where it is: {why}")),
    };
    let features = format!("{DRIVER}/driver");
    run_command(
        workspace
            .cargo(&[
                "build",
                "--release",
                "--locked",
                "--workspace",
                "--bin",
                DRIVER,
                "--features",
                &features,
            ])
            .env("RUSTC_WORKSPACE_WRAPPER", this)
            .env(COUNTED, "1"),
    )
}

/// Runs rustc as cargo asks, with counters in every crate but build scripts.
pub fn counted_rustc(arguments: &[String]) -> ExitCode {
    let Some((rustc, arguments)) = arguments.split_first() else { return ExitCode::from(2) };
    let mut command = Command::new(rustc);
    command.args(arguments);
    let name = arguments.iter().skip_while(|a| *a != "--crate-name").nth(1);
    if name.is_some_and(|name| name != "___" && !name.starts_with("build_script_")) {
        command.args(COVERAGE).args(["-Cdebug-assertions=on", "-Coverflow-checks=off"]);
    }
    match command.status() {
        Ok(status) => {
            status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(why) => {
            eprintln!("{rustc} did not start: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Names of all targets, as the driver says them.
fn targets(driver: &Path) -> Result<Vec<String>, String> {
    let said = Command::new(driver).env("KEEPFAST_FUZZ", "").output().map_err(|why| why.to_string())?;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    // libFuzzer writes lines of its own around it.
    let names = text.lines().find_map(|line| line.trim().strip_prefix("set KEEPFAST_FUZZ to one of "));
    let names = names.ok_or("the driver names no target")?;
    Ok(names.split(", ").map(str::to_owned).collect())
}

fn fuzz(workspace: &Workspace, plan: &Plan, folder: &Path, driver: &Path) -> Result<String, String> {
    let all = targets(driver)?;
    if let Some(unknown) = plan.targets.iter().find(|name| !all.contains(name)) {
        return Err(format!("there is no target {unknown}; there are {}", all.join(", ")));
    }
    let chosen = if plan.targets.is_empty() { all } else { plan.targets.clone() };
    let count = chosen.len();
    let queue = Mutex::new(chosen.into_iter());
    let results = Mutex::new(vec![]);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("nobody panics holding it").next();
                    let Some(name) = next else { break };
                    let result = one(workspace, plan, folder, driver, &name);
                    match &result {
                        Ok(read) => {
                            println!("   {name:<10} {:>12} inputs, {:>6} edges", read.inputs, read.edges)
                        }
                        Err(why) => println!("   {name:<10} FOUND SOMETHING\n{why}"),
                    }
                    results.lock().expect("nobody panics holding it").push((name, result));
                }
            });
        }
    });
    let results = results.into_inner().expect("nobody panics holding it");
    let failed: Vec<&str> =
        results.iter().filter(|(_, r)| r.is_err()).map(|(name, _)| name.as_str()).collect();
    let inputs: u64 = results.iter().filter_map(|(_, r)| r.as_ref().ok()).map(|read| read.inputs).sum();
    match failed.is_empty() {
        true => Ok(format!("{inputs} inputs of {count} targets in {} s each", plan.seconds)),
        false => Err(format!("defects behind {}", failed.join(", "))),
    }
}

/// What the driver says at its end.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    /// Inputs that were read.
    inputs: u64,
    /// Edges of the program that they ran over.
    edges: u64,
}

/// Fuzzes one target.
fn one(workspace: &Workspace, plan: &Plan, folder: &Path, driver: &Path, name: &str) -> Result<Read, String> {
    let (corpus, found) = (folder.join("corpus").join(name), folder.join("found").join(name));
    for made in [&corpus, &found] {
        std::fs::create_dir_all(made).map_err(|why| format!("{}: {why}", made.display()))?;
    }
    let mut command = Command::new(driver);
    command
        .env("KEEPFAST_FUZZ", name)
        .env("KEEPFAST_FUZZ_SEEDS", &corpus)
        .arg(format!("-max_total_time={}", plan.seconds))
        .arg(format!("-timeout={SECONDS_AN_INPUT}"))
        .arg(format!("-report_slow_units={SECONDS_AN_INPUT}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg("-malloc_limit_mb=0")
        // The optimizer folds comparisons of bytes that follow each other into one; this sees each of their bits.
        .arg("-use_value_profile=1")
        .arg(format!("-max_len={MAX_LENGTH}"))
        .arg("-print_final_stats=1")
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg(&corpus);
    let known = workspace.root.join("fuzz/inputs").join(name);
    if known.is_dir() {
        command.arg(known);
    }
    let log = found.with_extension("log");
    let file = std::fs::File::create(&log).map_err(|why| format!("{}: {why}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .spawn()
        .map_err(|why| format!("the driver did not start: {why}"))?;
    let ended = ends_within(&mut child, Duration::from_secs(plan.seconds + LAST))?;
    let text = std::fs::read(&log).map_err(|why| format!("{}: {why}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let why = match ended {
        Some(status) if status.success() => return read(&text),
        Some(status) => status.to_string(),
        None => "it did not end, and was stopped".to_owned(),
    };
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(25)..].join("\n");
    Err(format!(
        "{tail}\n   mend it, and keep the input in fuzz/inputs/{name}; found: {} ({why})",
        found.display()
    ))
}

/// Waits for a process; None means that it took longer, and was stopped. The driver itself can hang: its alarm for an
/// input that takes too long comes in the middle of whatever that input does, such as an allocation.
fn ends_within(child: &mut Child, most: Duration) -> Result<Option<ExitStatus>, String> {
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Some(status)),
            Ok(None) if begun.elapsed() < most => std::thread::sleep(Duration::from_millis(100)),
            Ok(None) => break,
            Err(why) => return Err(format!("the driver was lost: {why}")),
        }
    }
    child
        .kill()
        .and_then(|()| child.wait())
        .map_err(|why| format!("the driver could not be stopped: {why}"))?;
    Ok(None)
}

/// Reads `#1234  DONE   cov: 56 ft: …`. A driver without counters tries inputs blindly and covers nothing, which is no fuzzing.
fn read(text: &str) -> Result<Read, String> {
    let done = text.lines().rfind(|line| line.starts_with('#') && line.contains("DONE"));
    let words: Vec<&str> = done.unwrap_or_default().split_whitespace().collect();
    let after = |word: &str| words.iter().position(|w| *w == word).and_then(|at| words.get(at + 1));
    let inputs = words.first().and_then(|first| first.trim_start_matches('#').parse().ok());
    match (inputs, after("cov:").and_then(|n| n.parse().ok())) {
        (Some(inputs @ 1..), Some(edges @ 1..)) => Ok(Read { inputs, edges }),
        _ => Err("the driver ended without saying what its inputs covered".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_say_how_long_and_what() {
        let plan = plan(&["--minutes", "2", "sql", "csv"]).expect("right options");
        assert_eq!((plan.seconds, plan.targets), (120, vec!["sql".to_owned(), "csv".to_owned()]));
        assert!(super::plan(&["--seconds"]).is_err() && super::plan(&["--seconds", "x"]).is_err());
        assert!(super::plan(&["--hours"]).is_err());
    }

    #[test]
    fn a_driver_that_hangs_is_stopped() {
        let start = |seconds: &str| Command::new("sleep").arg(seconds).spawn().expect("sleep");
        let ended = ends_within(&mut start("0"), Duration::from_secs(60)).expect("a status");
        assert!(ended.is_some_and(|status| status.success()));
        assert_eq!(ends_within(&mut start("600"), Duration::from_millis(300)), Ok(None));
    }

    #[test]
    fn inputs_and_edges_are_read_from_what_the_driver_says_last() {
        let said =
            "#2\tINITED cov: 9 ft: 9\n#1234\tDONE   cov: 56 ft: 78 corp: 9/1Kb lim: 4\nDone 1234 runs\n";
        assert_eq!(read(said), Ok(Read { inputs: 1234, edges: 56 }));
        assert!(read("#1234\tDONE   ft: 78 corp: 9/1Kb\n").is_err(), "no counters");
        assert!(read("#1\tDONE   cov: 0 ft: 0\n").is_err(), "nothing covered");
        assert!(read("nothing").is_err());
    }
}
