//! The awkward store keeps every property of the suite, plain and with each awkwardness that breaks no promise.

use keepfast_store::PublishKind;
use keepfast_store::awkward::{AwkwardFixture, Awkwardness, Snapshots};
use keepfast_store::conformance::{self, Fixture, Outcome};

fn fixture(options: Awkwardness) -> Box<dyn Fixture> {
    Box::new(AwkwardFixture::new(options))
}

macro_rules! kinds {
    ($($kind:ident: $options:expr;)*) => {
        $(mod $kind {
            use super::*;
            keepfast_store::conformance_tests!(|| async { fixture($options) });
        })*
    };
}

kinds! {
    plain: Awkwardness::default();
    three_shards: Awkwardness { shards: 3, ..Awkwardness::default() };
    rows_that_move: Awkwardness { shards: 3, moving: true, ..Awkwardness::default() };
    patches: Awkwardness { shards: 2, patches: true, ..Awkwardness::default() };
    collated_keys: Awkwardness { shards: 2, collated: true, ..Awkwardness::default() };
    shards_that_split: Awkwardness { shards: 2, splitting: true, ..Awkwardness::default() };
    live_sessions: Awkwardness { snapshots: Snapshots::Session { dies_after: None }, ..Awkwardness::default() };
    closed_by_log: Awkwardness {
        snapshots: Snapshots::None { closed_by_log: true },
        ..Awkwardness::default()
    };
    fuzzy: Awkwardness { snapshots: Snapshots::None { closed_by_log: false }, ..Awkwardness::default() };
    new_names_only: Awkwardness {
        no_log: true,
        unproven: true,
        merge: false,
        publish: Some(PublishKind::NewNameOnly),
        ..Awkwardness::default()
    };
    read_only: Awkwardness { publish: None, ..Awkwardness::default() };
    nearly_everything: Awkwardness {
        shards: 3,
        moving: true,
        patches: true,
        collated: true,
        splitting: true,
        snapshots: Snapshots::None { closed_by_log: true },
        ..Awkwardness::default()
    };
}

#[tokio::test]
async fn the_plain_store_offers_everything() {
    let report = conformance::run(|| async { fixture(Awkwardness::default()) }).await;
    assert!(report.failures.is_empty(), "{report}");
    assert_eq!(report.outcomes.len(), conformance::PROPERTIES.len());
    assert!(report.outcomes.iter().all(|(_, o)| *o == Outcome::Passed), "{report}");
}

#[tokio::test]
async fn what_a_store_does_not_offer_is_reported() {
    let options = Awkwardness { no_log: true, unproven: true, publish: None, ..Awkwardness::default() };
    let report = conformance::run(|| async { fixture(options.clone()) }).await;
    assert!(report.failures.is_empty(), "{report}");
    let text = report.to_string();
    assert!(
        text.contains("not offered  changes_on_top_of_the_old_rows_give_the_new_rows: it has no change log")
    );
    assert!(text.contains("not offered  a_load_comes_back_exactly: it cannot be written"));
}
