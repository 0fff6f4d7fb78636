//! Random scripts against the model. A failing one is shrunk, printed and can be replayed from its text.

use super::actions::{Step, from_text, script, to_text};
use super::long;
use super::model::{Counts, Planted, run};
use super::shrink::shrink;
use std::time::{Duration, Instant};

/// Steps of one script.
const STEPS: usize = 24;
/// Scripts of the usual run, about a quarter of a minute.
const SCRIPTS: u64 = 160;

/// Runs a script that is expected to hold; where it does not, panics with the shortest one that fails.
async fn must_hold(seed: u64, steps: &[Step]) -> Counts {
    let violation = match run(steps, Planted::Nothing).await {
        Ok(counts) => return counts,
        Err(violation) => violation,
    };
    let short = shrink(steps, 200, async |s: &[Step]| run(s, Planted::Nothing).await.is_err()).await;
    let said = run(&short, Planted::Nothing).await.err().unwrap_or_default();
    panic!("seed {seed}: {violation}\n\nshrunk to {} steps: {said}\n\n{}", short.len(), to_text(&short));
}

#[tokio::test]
async fn random_scripts_lose_nothing_that_was_reported_and_show_nothing_half_done() {
    let started = Instant::now();
    let first: u64 = std::env::var("KEEPFAST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut all = Counts::default();
    let mut seeds = 0;
    while if long() { started.elapsed() < Duration::from_secs(3600) } else { seeds < SCRIPTS } {
        let seed = first + seeds;
        let counts = must_hold(seed, &script(seed, STEPS)).await;
        all.steps += counts.steps;
        all.faults += counts.faults;
        all.points += counts.points;
        all.restores += counts.restores;
        all.key_changes += counts.key_changes;
        all.lost += counts.lost;
        seeds += 1;
    }
    eprintln!(
        "COUNT {seeds} random scripts: from seed {first}, {all:?} in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    assert!(all.faults > seeds && all.points > seeds && all.restores > seeds / 2, "{all:?}");
    assert!(all.key_changes > seeds / 2 && all.lost > 0, "{all:?}");
}

/// Scripts that failed once. They stay for ever.
#[tokio::test]
async fn scripts_that_failed_once_hold() {
    for text in [
        "write 0 1\nbackup 0 auto ! 60 power-fails:7\nbackup 0 auto\nrestore 0",
        "write 0 1\nbackup 0 full\nwrite 0 2\nrestore 0 ! 80 dies-after\nrestore 0\nundo",
        "backup 0 auto columns:v\nshred 0 0 table\ndrop 0",
        "backup 0 auto columns:v\nshred 0 1 column\ncompact 0",
        "backup 0 auto - ! 62 dies-before\nwrite 1 267180\nbackup 0 full - ! 15 loses-answer\ndrop 0\nbackup 0 auto -",
    ] {
        must_hold(0, &from_text(text).unwrap()).await;
    }
}

#[tokio::test]
async fn a_planted_bug_is_found_and_shrunk_to_few_steps() {
    for seed in 1..40 {
        let steps = script(seed, 60);
        if run(&steps, Planted::DeletesTooMuch).await.is_ok() {
            continue;
        }
        let short =
            shrink(&steps, 300, async |s: &[Step]| run(s, Planted::DeletesTooMuch).await.is_err()).await;
        let text = to_text(&short);
        eprintln!("seed {seed}, from 60 steps:\n{text}");
        assert!(short.len() <= 4, "{text}");
        let again = from_text(&text).unwrap();
        assert!(run(&again, Planted::DeletesTooMuch).await.is_err(), "the text does not replay it: {text}");
        assert!(run(&again, Planted::Nothing).await.is_ok(), "without the bug it holds: {text}");
        return;
    }
    panic!("no script found the planted bug");
}
