//! Faults happen as scripted, and the conformance suite notices every one of them: it can fail.

use async_trait::async_trait;
use keepfast_model::{TableName, TableSchema};
use keepfast_store::awkward::{AwkwardFixture, AwkwardStore, Awkwardness, Snapshots};
use keepfast_store::conformance::{self, Abilities, Fixture, RowSet, Write, read_table};
use keepfast_store::load::LoadTable;
use keepfast_store::{
    CutOptions, Fault, Faulty, LoadMode, LoadOptions, Result, ScanOptions, Store, StoreError, sample,
};
use std::collections::HashSet;
use std::sync::Arc;

struct Spoiled {
    plain: AwkwardFixture,
    faulty: Faulty,
}

impl Spoiled {
    fn new(options: Awkwardness, fault: &Fault) -> Self {
        let plain = AwkwardFixture::new(options);
        let faulty = Faulty::always(plain.store(), [fault.clone()]);
        Self { plain, faulty }
    }
}

#[async_trait]
impl Fixture for Spoiled {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.faulty.clone())
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

/// What the suite says of one property of a store on which this fault always happens.
async fn said_of(options: &Awkwardness, fault: &Fault, property: &str) -> Option<String> {
    let property =
        conformance::PROPERTIES.iter().find(|p| p.name == property).expect("a property of the suite");
    let fixture = Spoiled::new(options.clone(), fault);
    let said = conformance::check(property, &fixture).await.err()?;
    assert_eq!(said.property, property.name);
    assert!(!fixture.faulty.fired().is_empty(), "{fault:?} never happened, yet: {said}");
    Some(said.to_string())
}

#[tokio::test]
async fn the_suite_notices_every_fault() {
    let expected = [
        (Fault::CutFails, "one_cut_holds_several_tables"),
        (Fault::CutLost { batches: 1 }, "a_cut_does_not_see_later_writes"),
        (Fault::PartitionForgotten { partition: 0 }, "every_type_comes_back_exactly"),
        (Fault::PartitionDoubled { partition: 0 }, "every_type_comes_back_exactly"),
        (Fault::ScanFails { partition: 0, batch: 0 }, "every_type_comes_back_exactly"),
        (Fault::ScanEndsEarly { partition: 0, batch: 1 }, "partitions_cover_the_keys_without_gap_or_overlap"),
        (Fault::RowLost { partition: 0, row: 5 }, "partitions_cover_the_keys_without_gap_or_overlap"),
        (Fault::RowDoubled { partition: 0, row: 5 }, "every_type_comes_back_exactly"),
        (Fault::RowsSwapped { partition: 0, row: 5 }, "rows_of_a_partition_come_in_key_order"),
        (Fault::ValueMoved { partition: 0, row: 5 }, "every_type_comes_back_exactly"),
        (Fault::ValueLost { partition: 0, row: 5 }, "the_stores_own_proof_agrees_with_its_rows"),
        (Fault::ChangesFail { batch: 0 }, "changes_of_bags_keep_their_counts"),
        (Fault::ChangeLost { change: 3 }, "changes_on_top_of_the_old_rows_give_the_new_rows"),
        (Fault::ChangeDoubled { change: 0 }, "changes_of_bags_keep_their_counts"),
        (Fault::ChangeValueLost { change: 3 }, "changes_on_top_of_the_old_rows_give_the_new_rows"),
        (Fault::ChangesEndEarly { batch: 0 }, "changes_on_top_of_the_old_rows_give_the_new_rows"),
        (Fault::ProofWrong, "the_stores_own_proof_agrees_with_its_rows"),
        (Fault::PartFails { part: 0 }, "a_part_written_twice_counts_once"),
        (Fault::PartLosesRow { part: 0, row: 1 }, "a_load_comes_back_exactly"),
        (Fault::PartDoublesRow { part: 0, row: 1 }, "a_load_comes_back_exactly"),
        (Fault::FinishFails, "tables_of_a_load_are_published_together"),
        (Fault::PublishFails, "replace_keeps_the_old_table_and_undo_brings_it_back_once"),
        (Fault::PublishAnswerLost, "a_published_table_can_be_written"),
    ];
    for (fault, property) in expected {
        let said = said_of(&Awkwardness::default(), &fault, property).await;
        let said = said.unwrap_or_else(|| panic!("{property} does not notice {fault:?}"));
        assert!(said.starts_with(&format!("awkward does not keep the property '{property}': ")), "{said}");
    }
}

#[tokio::test]
async fn the_suite_notices_a_change_that_a_closing_leaves_out() {
    let options =
        Awkwardness { snapshots: Snapshots::None { closed_by_log: true }, ..Awkwardness::default() };
    let property = "a_cut_does_not_see_later_writes";
    assert!(said_of(&options, &Fault::ChangeLost { change: 150 }, property).await.is_some());
}

fn table() -> TableName {
    TableName::bare("t")
}

fn plain_store(rows: u64) -> (AwkwardStore, RowSet) {
    let store = AwkwardStore::new(Awkwardness { shards: 2, ..Awkwardness::default() });
    let schema = sample::plain();
    let rows = sample::rows(&schema, 100..100 + rows, 1);
    store.create_table(&table(), &schema).unwrap();
    store.write(&table(), &Write::Insert(rows.clone())).unwrap();
    (store, RowSet::of(&schema, &[rows]).unwrap())
}

async fn read(store: &Faulty) -> Result<RowSet> {
    let cut = store.open_cut(&[table()], &CutOptions::default()).await?;
    read_table(cut.as_ref(), &table()).await
}

#[tokio::test]
async fn a_fault_happens_once_and_is_told() {
    let (inner, expected) = plain_store(100);
    let script =
        [Fault::RowLost { partition: 1, row: 3 }, Fault::CutFails, Fault::RowLost { partition: 7, row: 0 }];
    let store = Faulty::once(Arc::new(inner), script.clone());
    assert!(store.fired().is_empty());
    assert!(matches!(read(&store).await, Err(StoreError::Unavailable { .. })));
    let lost = read(&store).await.unwrap().difference(&expected).unwrap();
    assert!(lost.starts_with("99 rows, expected 100: row lost"), "{lost}");
    assert_eq!(read(&store).await.unwrap().difference(&expected), None);
    assert_eq!(store.fired(), script[..2], "the third partition does not exist");
}

#[tokio::test]
async fn faults_of_scans_from_a_seed_are_always_noticed() {
    let mut kinds = HashSet::new();
    for seed in 0..200 {
        let (inner, expected) = plain_store(60);
        let fault = Fault::of_scan(seed, 2, 20);
        kinds.insert(std::mem::discriminant(&fault));
        let store = Faulty::once(Arc::new(inner), [fault.clone()]);
        let cut = store.open_cut(&[table()], &CutOptions::default()).await.unwrap();
        let mut noticed = false;
        let mut found = RowSet::new(expected.schema());
        for p in cut.plan(&table(), &Default::default()).await.unwrap() {
            let options = ScanOptions { batch_rows: 7, columns: None };
            match conformance::collect(cut.scan(&p, &options).await.unwrap()).await {
                Err(_) => noticed = true,
                Ok(batches) => {
                    let mut last = vec![];
                    for batch in batches {
                        let keys = keepfast_model::encode_keys(expected.schema(), &batch).unwrap();
                        for key in keys.iter().flatten() {
                            noticed |= last.as_slice() >= key;
                            last = key.to_vec();
                        }
                        found.add(&p.shard, &batch).unwrap();
                    }
                }
            }
        }
        noticed |= found.difference(&expected).is_some();
        assert!(noticed || store.fired().is_empty(), "seed {seed}: {fault:?}");
        assert_eq!(store.fired().is_empty(), !noticed, "seed {seed}: {fault:?}");
    }
    assert_eq!(kinds.len(), 8, "every kind comes up");
}

#[tokio::test]
async fn a_lost_answer_leaves_the_publication_done() {
    let schema = sample::plain();
    let (inner, _) = plain_store(10);
    let store = Faulty::once(Arc::new(inner), [Fault::PublishFails, Fault::PublishAnswerLost]);
    let target = TableName::bare("loaded");
    let options = LoadOptions {
        run: keepfast_model::RunId("r".into()),
        tables: vec![LoadTable {
            target: target.clone(),
            schema: schema.clone(),
            dependents: vec![],
            mode: LoadMode::Create,
            segment_rows: None,
            replaced_tag: "1".into(),
            shard_rule: None,
        }],
    };
    let load = store.begin_load(options).await.unwrap();
    let part = load.write_part(&target, 0, sample::stream(vec![sample::batch(&schema, 3, 1)])).await.unwrap();
    load.finish(vec![(target.clone(), vec![part])]).await.unwrap();
    assert!(load.publish().await.is_err());
    assert!(matches!(store.describe(&target).await, Err(StoreError::NoTable { .. })));
    assert!(load.publish().await.is_err());
    assert_eq!(store.describe(&target).await.unwrap().rows, 3);
    assert!(load.publish().await.is_ok(), "publishing again gives the same answer");
}

#[tokio::test]
async fn a_store_that_loses_a_row_of_a_part_says_that_it_has_it() {
    let schema = sample::plain();
    let store = Faulty::once(Arc::new(plain_store(1).0), [Fault::PartLosesRow { part: 0, row: 40 }]);
    let target = TableName::bare("loaded");
    let options = LoadOptions {
        run: keepfast_model::RunId("r".into()),
        tables: vec![LoadTable {
            target: target.clone(),
            schema: schema.clone(),
            dependents: vec![],
            mode: LoadMode::Create,
            segment_rows: None,
            replaced_tag: "1".into(),
            shard_rule: None,
        }],
    };
    let load = store.begin_load(options).await.unwrap();
    let rows = sample::batch(&schema, 50, 1);
    let part = load.write_part(&target, 0, sample::stream(sample::pieces(&rows, 15))).await.unwrap();
    assert_eq!(part.digest.rows, 50);
    load.finish(vec![(target.clone(), vec![part])]).await.unwrap();
    let found = read_table(load.open_cut().await.unwrap().as_ref(), &target).await.unwrap();
    assert_eq!(found.len(), 49);
}
