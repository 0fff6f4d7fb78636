//! What a backup, an incremental, a verification, a prune and a listing ask of an object store: the request bill.
//!
//! The counts follow the number of segments, so a terabyte follows from them; docs/targets.md shows the table.

use crate::common::{back_up, backup, memory, sample, world};
use jiff::SignedDuration;
use keepfast_objects::{Metered, Requests};
use keepfast_vault::{CheckOptions, Vault};
use object_store::memory::InMemory;
use std::sync::Arc;

/// Segments of the table; more than are asked for one by one.
const SEGMENTS: u64 = 2_000;

struct Meter(Arc<Metered>, Requests);

impl Meter {
    /// Requests since the last call.
    fn lap(&mut self, what: &str) -> Requests {
        let now = self.0.requests();
        let lap = now.since(&self.1);
        self.1 = now;
        eprintln!("{what}: {lap}; dear {}, cheap {}", lap.dear(), lap.cheap());
        lap
    }
}

#[tokio::test]
async fn requests_follow_the_segments_that_are_new_and_a_listing_asks_for_few() {
    let world = world(1);
    let metered = Metered::new(Arc::new(InMemory::new()));
    let mut meter = Meter(metered.clone(), Requests::default());
    let vault = Vault::create(memory(metered.clone()), &world.options()).await.unwrap();
    meter.lap("making a vault");
    let texts: Vec<String> = (0..SEGMENTS).map(|n| format!("segment {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let name = backup("b");

    back_up(&vault, &name, "full", &[sample("t", &texts, &[])]).await.unwrap();
    let full = meter.lap("a full backup of 2000 segments");
    assert!((SEGMENTS..SEGMENTS + 20).contains(&full.puts), "{full}");
    // Sizes before and after the commit come from listings, a page a thousand.
    assert!(full.lists <= 2 * (SEGMENTS / 1000 + 4) + 4, "{full}");
    assert!(full.cheap() < 20 && full.deletes == 0, "{full}");

    // A fresh process that backs up ten changed segments does not pay for the base again.
    let vault = Vault::open_with(memory(metered.clone()), world.environment.clone()).await.unwrap();
    meter.lap("opening a vault");
    let changes: Vec<String> = (0..10).map(|n| format!("change {n}")).collect();
    let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
    let id = vault.latest(&name).await.unwrap().tables[0].clone();
    meter.lap("finding the newest point");
    let (mut point, written) =
        crate::common::write_point(&vault, &name, "inc", &[sample("t", &["x"], &changes)]).await.unwrap();
    point.tables[0].base = id.base;
    let record = keepfast_model::Record::Point(Box::new(point));
    vault.commit(vec![record], &written, &()).await.unwrap();
    let incremental = meter.lap("an incremental of 10 change segments");
    assert!(incremental.puts < 20 && incremental.dear() < 40 && incremental.cheap() < 60, "{incremental}");

    assert!(vault.check(&CheckOptions::default(), &()).await.unwrap().is_whole());
    let verify = meter.lap("a verification of every byte");
    assert!((SEGMENTS..SEGMENTS + 60).contains(&verify.gets), "{verify}");
    assert!(verify.puts == 0 && verify.lists < 20, "{verify}");

    let fresh = Vault::open_with(memory(metered.clone()), world.environment.clone()).await.unwrap();
    assert_eq!(fresh.points(&name).await.unwrap().len(), 2);
    let list = meter.lap("listing the points in a fresh process");
    assert!(list.dear() + list.cheap() < 12, "{list}");

    fresh.drop_backup(&name, SignedDuration::ZERO).await.unwrap();
    let deleted = fresh.delete_condemned().await.unwrap();
    let prune = meter.lap("a prune of everything");
    assert!(deleted >= SEGMENTS && prune.deletes >= deleted, "{prune}");
    assert!(prune.puts < 10 && prune.lists <= 2 * (SEGMENTS / 1000) + 8 && prune.gets < 30, "{prune}");
}
