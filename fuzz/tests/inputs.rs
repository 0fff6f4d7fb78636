//! Every seed, and every input that once found a defect, is read without a panic; they stay for ever.

use keepfast_fuzz::TARGETS;
use std::path::Path;

/// Inputs of a target that found something, by name.
fn found(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("inputs").join(target);
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let mut files: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    files.sort();
    files.iter().map(|f| (f.display().to_string(), std::fs::read(f).unwrap())).collect()
}

#[test]
fn seeds_and_inputs_that_once_found_a_defect_are_read() {
    let mut inputs = 0;
    for target in &TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        for (i, seed) in seeds.iter().enumerate() {
            eprintln!("{} seed {i}", target.name);
            (target.run)(seed);
        }
        let found = found(target.name);
        for (name, input) in &found {
            eprintln!("{name}");
            (target.run)(input);
        }
        inputs += seeds.len() + found.len();
    }
    eprintln!("COUNT {inputs} inputs of the fuzzer: kept ones of {} targets", TARGETS.len());
}

#[test]
fn every_folder_of_inputs_belongs_to_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("inputs");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(keepfast_fuzz::target(&name).is_some(), "{name}");
    }
}

/// A fuzzer's mutations in small: seeds with a few bytes changed, from a fixed seed.
#[test]
fn seeds_with_changed_bytes_are_read() {
    let rounds =
        if std::env::var_os("KEEPFAST_LONG").is_some_and(|value| value == "1") { 20_000 } else { 200 };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let loud = std::panic::take_hook();
    // What a decoder asserts inside is caught there; what escapes ends the test, with its input.
    std::panic::set_hook(Box::new(|_| ()));
    let mut failed = None;
    'all: for target in &TARGETS {
        let seeds = (target.seeds)();
        for _ in 0..rounds {
            let mut input = seeds[next(seeds.len())].clone();
            for _ in 0..1 + next(4) {
                match next(4) {
                    0 if input.len() > 1 => {
                        let at = 1 + next(input.len() - 1);
                        input[at] ^= 1 << next(8);
                    }
                    1 if input.len() > 1 => input.truncate(1 + next(input.len())),
                    _ => {
                        let at = next(input.len() + 1).max(1).min(input.len());
                        let new: Vec<u8> = (0..next(8)).map(|_| next(256) as u8).collect();
                        drop(input.splice(at..at, new));
                    }
                }
            }
            if std::panic::catch_unwind(|| (target.run)(&input)).is_err() {
                failed = Some((target.name, input));
                break 'all;
            }
        }
    }
    std::panic::set_hook(loud);
    assert_eq!(failed, None, "the reader panicked");
    eprintln!(
        "COUNT {} inputs of the fuzzer: changed ones of {} targets",
        rounds * TARGETS.len(),
        TARGETS.len()
    );
}
