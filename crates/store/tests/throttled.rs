//! The limits hold for all readers together, and change nothing else.

use async_trait::async_trait;
use futures::{StreamExt, future};
use keepfast_model::{TableName, TableSchema};
use keepfast_store::awkward::{AwkwardFixture, Awkwardness};
use keepfast_store::conformance::{Abilities, Fixture, Write};
use keepfast_store::{Clock, CutOptions, Limits, PlanOptions, Result, ScanOptions, Store, Throttled, sample};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A clock that only sleeping moves. Several sleepers wake at the latest of their times.
#[derive(Debug, Default)]
struct TestClock(AtomicU64);

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::SeqCst))
    }
    async fn sleep(&self, time: Duration) {
        let due = self.now() + time;
        self.0.fetch_max(due.as_micros() as u64 + 1, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
}

fn throttled(fixture: &AwkwardFixture, limits: Limits, clock: &Arc<TestClock>) -> Arc<dyn Store> {
    Arc::new(Throttled::new(fixture.store(), limits, clock.clone()))
}

struct Slow {
    plain: AwkwardFixture,
    clock: Arc<TestClock>,
}

#[async_trait]
impl Fixture for Slow {
    fn store(&self) -> Arc<dyn Store> {
        let limits = Limits { rows_per_second: Some(100), bytes_per_second: Some(10_000) };
        throttled(&self.plain, limits, &self.clock)
    }
    fn abilities(&self) -> Abilities {
        self.plain.abilities()
    }
    async fn create_table(&self, table: &TableName, schema: &TableSchema) -> Result<()> {
        self.plain.create_table(table, schema).await
    }
    async fn write(&self, table: &TableName, write: Write) -> Result<()> {
        self.plain.write(table, write).await
    }
}

keepfast_store::conformance_tests!(|| async {
    Box::new(Slow { plain: AwkwardFixture::new(Awkwardness::default()), clock: Arc::default() })
        as Box<dyn Fixture>
});

async fn filled(rows: usize) -> (AwkwardFixture, TableName) {
    let fixture = AwkwardFixture::new(Awkwardness { shards: 4, ..Awkwardness::default() });
    let table = TableName::bare("t");
    let schema = sample::plain();
    fixture.create_table(&table, &schema).await.unwrap();
    fixture.write(&table, Write::Insert(sample::batch(&schema, rows, 1))).await.unwrap();
    (fixture, table)
}

#[tokio::test]
async fn four_scans_at_once_share_one_limit() {
    let (fixture, table) = filled(2000).await;
    let clock = Arc::new(TestClock::default());
    let store = throttled(&fixture, Limits { rows_per_second: Some(100), bytes_per_second: None }, &clock);
    let cut = store.open_cut(std::slice::from_ref(&table), &CutOptions::default()).await.unwrap();
    let plan = cut.plan(&table, &PlanOptions { partitions: 4, bounds: vec![] }).await.unwrap();
    let given = Mutex::new(0usize);
    let (cut, given, clock) = (&cut, &given, &clock);
    future::join_all(plan.iter().map(|p| async move {
        let mut scan = cut.scan(p, &ScanOptions::default()).await.unwrap();
        while let Some(batch) = scan.next().await {
            let mut given = given.lock().unwrap();
            *given += batch.unwrap().num_rows();
            let allowed = clock.now().as_secs_f64() * 100.0;
            assert!(*given as f64 <= allowed + 0.01, "{given} rows given, {allowed} allowed");
        }
    }))
    .await;
    assert_eq!(*given.lock().unwrap(), 2000);
    assert!(clock.now() < Duration::from_millis(20_100), "slower than the limit: {:?}", clock.now());
}

#[tokio::test]
async fn bytes_are_limited_too_and_no_limit_never_sleeps() {
    let (fixture, table) = filled(1000).await;
    let read = |limits| {
        let (fixture, table) = (&fixture, &table);
        async move {
            let clock = Arc::new(TestClock::default());
            let store = throttled(fixture, limits, &clock);
            let cut = store.open_cut(std::slice::from_ref(table), &CutOptions::default()).await.unwrap();
            keepfast_store::conformance::read_table(cut.as_ref(), table).await.unwrap();
            clock.now()
        }
    };
    assert_eq!(read(Limits::default()).await, Duration::ZERO);
    let slow = read(Limits { bytes_per_second: Some(1000), rows_per_second: None }).await;
    let slower = read(Limits { bytes_per_second: Some(500), rows_per_second: None }).await;
    assert!(slow > Duration::from_secs(16), "1000 rows of two 8-byte numbers: {slow:?}");
    assert!(slower > slow.mul_f64(1.9) && slower < slow.mul_f64(2.1), "{slow:?} {slower:?}");
    assert!(read(Limits { bytes_per_second: Some(0), rows_per_second: Some(0) }).await > slower);
}
