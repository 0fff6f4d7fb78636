//! The suite that every store passes: one property for each duty of the traits, run against real tables.
//!
//! A store under test implements [`Fixture`]: a fresh store and a way to write to it. In a crate's tests
//!
//! ```text
//! keepfast_store::conformance_tests!(|| async { Box::new(MyFixture::new().await) as Box<dyn Fixture> });
//! ```
//!
//! makes one test a property; [`run`] checks all of them and reports. Each property gets a fresh fixture. A property
//! about something that a store does not offer checks that it says so, and is reported as not offered. A failure names
//! the property and the first rows or calls that differed.

#[macro_use]
mod check;
mod changing;
mod fixture;
mod loading;
mod publishing;
mod read;
mod reading;
mod resuming;
mod rows;

pub use check::Outcome;
pub use fixture::{Abilities, Fixture, Write};
pub use read::{close, collect, read_table};
pub use rows::RowSet;

use check::Check;
use futures::future::BoxFuture;
use std::fmt;
use std::future::Future;

/// One duty, by name.
#[derive(Clone, Copy)]
pub struct Property {
    /// Its name, a sentence.
    pub name: &'static str,
    check: for<'a> fn(&'a dyn Fixture) -> BoxFuture<'a, Check>,
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A duty that a store does not keep.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{store} does not keep the property '{property}': {differed}")]
pub struct Failure {
    /// The property's name.
    pub property: &'static str,
    /// The store, as it shows itself.
    pub store: String,
    /// What differed.
    pub differed: String,
}

/// Gives every property's name to a macro, after the arguments given.
#[doc(hidden)]
#[macro_export]
macro_rules! __for_each_property {
    ($then:path, $($arguments:tt)*) => {
        $then! { ($($arguments)*)
            reading every_type_comes_back_exactly;
            reading wide_tables_and_large_values_come_back;
            reading tables_are_listed_and_described;
            reading unknown_tables_are_named;
            reading partitions_cover_the_keys_without_gap_or_overlap;
            reading rows_of_a_partition_come_in_key_order;
            reading a_scan_reads_the_columns_asked_for_and_the_key;
            reading a_partition_scanned_twice_gives_the_same_rows;
            reading a_cut_does_not_see_later_writes;
            reading one_cut_holds_several_tables;
            reading a_cut_can_be_released_twice;
            reading the_stores_own_proof_agrees_with_its_rows;
            changing changes_on_top_of_the_old_rows_give_the_new_rows;
            changing changes_of_bags_keep_their_counts;
            changing changes_of_several_tables_go_on_from_one_cut;
            changing changes_from_a_foreign_position_are_refused;
            loading a_load_comes_back_exactly;
            loading a_published_table_can_be_written;
            loading a_part_written_twice_counts_once;
            loading another_process_can_write_parts;
            loading an_abandoned_load_leaves_nothing_visible;
            loading a_dropped_load_leaves_nothing_visible;
            loading a_sweep_removes_only_what_was_left_behind;
            resuming an_unfinished_load_goes_on_in_another_process;
            resuming a_publication_is_heard_of_in_another_process;
            resuming an_abandoned_load_is_not_gone_on_with;
            publishing replace_keeps_the_old_table_and_undo_brings_it_back_once;
            publishing publishing_again_changes_nothing;
            publishing create_on_an_existing_table_is_refused;
            publishing merge_puts_rows_over_those_of_equal_key;
            publishing tables_of_a_load_are_published_together;
        }
    };
}

macro_rules! list_properties {
    (() $($module:ident $name:ident;)*) => {
        /// Every property, in the order in which a new store meets them best.
        pub const PROPERTIES: &[Property] = &[
            $(Property { name: stringify!($name), check: |fixture| Box::pin($module::$name(fixture)) },)*
        ];
    };
}
__for_each_property!(list_properties,);

/// Makes one `#[test]` a property. The argument is called for each of them: a closure that gives a future of a
/// `Box<dyn Fixture>`.
#[macro_export]
macro_rules! conformance_tests {
    ($fresh:expr) => {
        $crate::__for_each_property!($crate::__conformance_test, $fresh);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_test {
    (($fresh:expr) $($module:ident $name:ident;)*) => {
        $(
            #[test]
            fn $name() {
                $crate::conformance::test_property(stringify!($name), $fresh);
            }
        )*
    };
}

/// How all properties of a store came out.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Properties kept or not offered.
    pub outcomes: Vec<(&'static str, Outcome)>,
    /// Properties not kept.
    pub failures: Vec<Failure>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, outcome) in &self.outcomes {
            match outcome {
                Outcome::Passed => writeln!(f, "passed       {name}")?,
                Outcome::NotOffered(why) => writeln!(f, "not offered  {name}: {why}")?,
            }
        }
        for failure in &self.failures {
            writeln!(f, "FAILED       {}: {}", failure.property, failure.differed)?;
        }
        Ok(())
    }
}

/// Checks one property against a fresh fixture.
///
/// # Errors
/// [`Failure`] when the store does not keep it.
pub async fn check(property: &Property, fixture: &dyn Fixture) -> Result<Outcome, Failure> {
    (property.check)(fixture).await.map_err(|differed| Failure {
        property: property.name,
        store: fixture.store().to_string(),
        differed: differed.0,
    })
}

/// Checks every property, each against a fresh fixture.
pub async fn run<F, Fut>(fresh: F) -> Report
where
    F: Fn() -> Fut,
    Fut: Future<Output = Box<dyn Fixture>>,
{
    let mut report = Report::default();
    for property in PROPERTIES {
        match check(property, fresh().await.as_ref()).await {
            Ok(outcome) => report.outcomes.push((property.name, outcome)),
            Err(failure) => report.failures.push(failure),
        }
    }
    report
}

/// Checks one property in a runtime of its own, for `#[test]` functions.
///
/// # Panics
/// When the store does not keep it; that is how a test fails.
#[doc(hidden)]
pub fn test_property<F, Fut>(name: &str, fresh: F)
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Box<dyn Fixture>>,
{
    let property =
        PROPERTIES.iter().find(|p| p.name == name).expect("the macro names properties of the list");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a test machine can start two threads");
    let outcome = runtime.block_on(async { check(property, fresh().await.as_ref()).await });
    match outcome {
        Ok(Outcome::Passed) => {}
        Ok(Outcome::NotOffered(why)) => eprintln!("not offered: {name}: {why}"),
        Err(failure) => panic!("{failure}"),
    }
}
