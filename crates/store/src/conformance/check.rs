//! How a property speaks: passed, not offered, or failed with what differed.

use crate::conformance::RowSet;
use crate::{Result, StoreError};
use keepfast_model::Coded;

/// How a property came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The store keeps it.
    Passed,
    /// The store does not offer what it is about, and says so as it must.
    NotOffered(&'static str),
}

/// What differed. Becomes a [`Failure`](super::Failure) with the property's name.
#[derive(Clone, Debug)]
pub struct Differed(pub String);

/// The result of one property.
pub type Check = Result<Outcome, Differed>;

/// Fails with a text unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err($crate::conformance::check::Differed(format!($($text)*)));
        }
    };
}

/// Says during which call an error came.
pub(super) trait During<T> {
    fn during(self, call: &str) -> Result<T, Differed>;
}

impl<T> During<T> for Result<T, StoreError> {
    fn during(self, call: &str) -> Result<T, Differed> {
        self.map_err(|e| Differed(format!("{call} failed: {}", chain(&e))))
    }
}

/// An error with its code and causes, in one line.
pub(super) fn chain(e: &StoreError) -> String {
    let mut text = format!("{} {e}", e.code());
    let mut cause = std::error::Error::source(e);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}

/// Fails when rows differ from those expected.
pub(super) fn same(what: &str, found: &RowSet, expected: &RowSet) -> Result<(), Differed> {
    match found.difference(expected) {
        None => Ok(()),
        Some(text) => Err(Differed(format!("{what}: {text}"))),
    }
}

/// Fails unless the call was refused with an error that the pattern takes.
macro_rules! refused {
    ($result:expr, $pattern:pat, $($text:tt)*) => {
        match $result {
            Err($pattern) => {}
            Err(e) => {
                return Err($crate::conformance::check::Differed(format!(
                    "{}: expected {}, but it was refused with {}",
                    format!($($text)*),
                    stringify!($pattern),
                    $crate::conformance::check::chain(&e)
                )));
            }
            Ok(_) => {
                return Err($crate::conformance::check::Differed(format!(
                    "{}: expected {}, but it was done",
                    format!($($text)*),
                    stringify!($pattern)
                )));
            }
        }
    };
}
