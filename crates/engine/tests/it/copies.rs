//! A direct copy that loses something publishes nothing.

use crate::harness::said;
use async_trait::async_trait;
use keepfast_engine::api::*;
use keepfast_engine::{
    Cancel, Engine, EngineError, EngineOptions, NoProgress, Result, StoreResolver, StoreSpec, Surroundings,
};
use keepfast_model::{Selection, TableName};
use keepfast_store::Store;
use keepfast_store::awkward::{AwkwardStore, Awkwardness};
use keepfast_store::conformance::Write;
use keepfast_store::faulty::{Fault, Faulty};
use keepfast_store::sample;
use std::sync::Arc;

/// One store to copy from, and one behind every URL.
#[derive(Debug)]
struct Two {
    from: Arc<dyn Store>,
    to: Arc<dyn Store>,
}

#[async_trait]
impl StoreResolver for Two {
    async fn open(&self, spec: &StoreSpec) -> Result<Arc<dyn Store>> {
        Ok(match spec {
            StoreSpec::Url(_) => self.to.clone(),
            _ => self.from.clone(),
        })
    }

    fn is_store_url(&self, url: &str) -> bool {
        url.starts_with("columnar://")
    }
}

fn filled(options: Awkwardness, schema: &keepfast_model::TableSchema) -> Arc<AwkwardStore> {
    let store = Arc::new(AwkwardStore::new(options));
    store.create_table(&TableName::bare("t"), schema).unwrap();
    store.write(&TableName::bare("t"), &Write::Insert(sample::batch(schema, 3000, 1))).unwrap();
    store
}

async fn copy(from: Arc<dyn Store>, to: Arc<dyn Store>) -> Result<BackupOutcome> {
    let folder = tempfile::TempDir::new().unwrap();
    let engine = Engine::new(EngineOptions {
        data: folder.path().to_owned(),
        stores: Arc::new(Two { from, to }),
        threads: 2,
        memory: 64 << 20,
        worker: None,
        progress: Arc::new(NoProgress),
        cancel: Cancel::default(),
        surroundings: Surroundings::default(),
        defaults: BackupDefaults::default(),
    });
    let request = BackupRequest {
        tables: TableSet::Tables(vec![TableName::bare("t")]),
        to: vec!["columnar:///other".into()],
        selection: Selection::default(),
        mode: Mode::Auto,
        until: None,
        certify: Certify::Full,
        encrypt: None,
        parity: None,
        require: None,
        retain: RetainTerms::default(),
        segment_rows: None,
    };
    engine.backup(&request).await
}

/// The fault; a lost value in several rows, some of which have one.
fn happening(fault: &Fault) -> Vec<Fault> {
    match fault {
        Fault::ValueLost { partition, row } => {
            (*row..row + 8).map(|row| Fault::ValueLost { partition: *partition, row }).collect()
        }
        fault => vec![fault.clone()],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_loses_or_doubles_rows_on_either_side_publishes_nothing() {
    let on_the_way_out = [
        Fault::RowLost { partition: 0, row: 7 },
        Fault::RowDoubled { partition: 0, row: 7 },
        Fault::ValueLost { partition: 0, row: 0 },
        Fault::ScanEndsEarly { partition: 0, batch: 0 },
        Fault::PartitionForgotten { partition: 0 },
        Fault::PartitionDoubled { partition: 0 },
    ];
    let on_the_way_in = [
        Fault::PartLosesRow { part: 0, row: 3 },
        Fault::PartDoublesRow { part: 0, row: 3 },
        Fault::PartFails { part: 0 },
        Fault::FinishFails,
        Fault::PublishFails,
    ];
    for schema in [sample::plain(), sample::bag()] {
        let cases = on_the_way_out.iter().map(|f| (f, true)).chain(on_the_way_in.iter().map(|f| (f, false)));
        let can_lose_values = schema.columns.iter().any(|c| c.nullable && !schema.key.contains(&c.id));
        for (fault, out) in cases {
            if matches!(fault, Fault::ValueLost { .. }) && !can_lose_values {
                continue;
            }
            let (from, to) = (
                filled(Awkwardness::default(), &schema),
                Arc::new(AwkwardStore::new(Awkwardness::default())),
            );
            let faulty = Arc::new(match out {
                true => Faulty::always(from.clone(), happening(fault)),
                false => Faulty::always(to.clone(), happening(fault)),
            });
            let outcome = match out {
                true => copy(faulty.clone(), to.clone()).await,
                false => copy(from, faulty.clone()).await,
            };
            assert!(!faulty.fired().is_empty(), "{fault:?} never happened");
            let error = said(outcome);
            assert!(
                matches!(
                    error,
                    EngineError::NotCertified { .. }
                        | EngineError::RestoreDiffers { .. }
                        | EngineError::Store(_)
                        | EngineError::Format(_)
                ),
                "{fault:?} gave {error}"
            );
            assert_eq!(to.list_tables(None).await.unwrap(), [], "{fault:?} left something visible");
        }
    }
    let (from, to) = (
        filled(Awkwardness::default(), &sample::plain()),
        Arc::new(AwkwardStore::new(Awkwardness::default())),
    );
    let outcome = copy(from, to.clone()).await.unwrap();
    assert_eq!(outcome.copies[0].tables[0].rows, 3000);
    assert_eq!(to.list_tables(None).await.unwrap(), [TableName::bare("t")]);
}
