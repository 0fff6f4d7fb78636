//! What tests say that they tried: cuts, interleavings, flipped bytes. A run that tried little proves little, so a log shows it.
//!
//! They write it in lines such as `COUNT 312 cuts, 40 swaps: of a prune`. Cargo's harness keeps what a passing test
//! printed to itself; asked by [`SHOW`] it tells all of it at the end of a program, and [`Quiet`] lets only these lines
//! through.

use std::collections::BTreeMap;
use std::fmt;

/// Arguments of `cargo test` after which passing tests are heard.
pub const SHOW: [&str; 2] = ["--", "--show-output"];

const COUNT: &str = "COUNT ";

/// Sums of what was tried, by what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried(BTreeMap<String, u64>);

impl Tried {
    /// Adds the counts of a line, when it is one of counts.
    pub fn count(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix(COUNT) else { return };
        let counts = counts.split_once(':').map_or(counts, |(counts, _)| counts);
        for count in counts.split(',') {
            if let Some((number, what)) = count.trim().split_once(' ')
                && let Ok(number) = number.parse::<u64>()
            {
                *self.0.entry(what.to_owned()).or_default() += number;
            }
        }
    }

    /// Takes these besides.
    pub fn add(&mut self, other: Self) {
        for (what, number) in other.0 {
            *self.0.entry(what).or_default() += number;
        }
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (what, number)) in self.0.iter().enumerate() {
            write!(f, "{}{number} {what}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Leaves out what passing tests printed, but for what they tried.
#[derive(Debug, Default)]
pub struct Quiet {
    passing: bool,
}

impl Quiet {
    /// Whether a line of the harness is to be seen. Lines come in their order.
    pub fn shows(&mut self, line: &str) -> bool {
        match line.trim_end() {
            "successes:" => self.passing = true,
            "failures:" => self.passing = false,
            line if line.starts_with("test result: ") => self.passing = false,
            _ => {}
        }
        !self.passing || line.starts_with(COUNT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_equal_things_are_summed_whatever_they_were_of() {
        let mut tried = Tried::default();
        for line in
            ["COUNT 312 cuts, 40 swaps: of a prune, 7 at once\n", "COUNT 8 cuts\n", "9 cuts", "COUNT of"]
        {
            tried.count(line);
        }
        let mut all = Tried::default();
        all.add(tried.clone());
        all.add(tried);
        assert_eq!(all.to_string(), "640 cuts, 80 swaps");
    }

    #[test]
    fn of_what_passing_tests_print_only_counts_are_seen_and_of_failing_ones_everything() {
        let output = "test a ... ok\n\nsuccesses:\n\n---- a stdout ----\nnoise\nCOUNT 3 cuts\n\nsuccesses:\n    a\n\n\
                      failures:\n\n---- b stdout ----\nwhy\n\ntest result: FAILED. 1 passed; 1 failed;\nnext\n";
        let mut quiet = Quiet::default();
        let seen: Vec<&str> =
            output.lines().filter(|line| quiet.shows(line)).filter(|l| !l.is_empty()).collect();
        let wanted = [
            "test a ... ok",
            "COUNT 3 cuts",
            "failures:",
            "---- b stdout ----",
            "why",
            "test result: FAILED. 1 passed; 1 failed;",
            "next",
        ];
        assert_eq!(seen, wanted);
    }
}
