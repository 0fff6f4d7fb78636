//! Duties of cuts, plans, scans and proofs.

use super::check::{Check, Differed, During, Outcome, same};
use super::read::{close, open, plan, read_now, scan, scan_all};
use crate::conformance::{Fixture, RowSet, Write};
use crate::{CutKind, PlanOptions, ProofRequest, ScanOptions, StoreError, sample};
use arrow::array::RecordBatch;
use futures::{StreamExt, future};
use keepfast_model::{
    ColumnType, Exactness, KeyBytes, KeyRange, RowHasher, TableName, TableSchema, encode_keys,
};

/// Makes a table with these rows, written in the order of their numbers.
pub(super) async fn make(
    fixture: &dyn Fixture,
    name: &str,
    schema: &TableSchema,
    rows: &RecordBatch,
) -> Result<TableName, Differed> {
    let table = fixture.table(name);
    fixture.create_table(&table, schema).await.during(&format!("creating '{table}'"))?;
    for piece in sample::pieces(rows, 400) {
        fixture.write(&table, Write::Insert(piece)).await.during(&format!("inserting into '{table}'"))?;
    }
    Ok(table)
}

/// Tables of several keys and sizes: name, schema and rows.
fn tables(fixture: &dyn Fixture) -> Result<Vec<(&'static str, TableSchema, usize)>, Differed> {
    let abilities = fixture.abilities();
    let mut tables =
        vec![("none", sample::plain(), 0), ("one", sample::plain(), 1), ("many", sample::plain(), 1500)];
    let keys: [(&str, &[ColumnType]); 4] = [
        ("texts", &[ColumnType::Varchar { length: Some(255) }]),
        ("bytes", &[ColumnType::Varbinary { length: Some(40) }]),
        ("pairs", &[ColumnType::Int32, ColumnType::Varchar { length: Some(255) }]),
        ("moments", &[ColumnType::Timestamp { zone: false }, ColumnType::Boolean]),
    ];
    for (name, types) in keys {
        if types.iter().all(|t| abilities.key_types.contains(t)) {
            tables.push((name, sample::keyed_by(types).map_err(|e| Differed(e.to_string()))?, 300));
        }
    }
    if abilities.bags {
        tables.push(("words", sample::bag(), 300));
    }
    Ok(tables)
}

pub(super) async fn every_type_comes_back_exactly(fixture: &dyn Fixture) -> Check {
    let schema = sample::schema_of(&fixture.abilities().types);
    let rows = sample::batch(&schema, 200, 1);
    let table = make(fixture, "types", &schema, &rows).await?;
    let expected = RowSet::of(&schema, &[rows]).during("the sample")?;
    same("inserted rows", &read_now(fixture, &table).await?, &expected)?;
    let mut expected = expected;
    let update = sample::rows(&schema, 50..120, 2);
    expected.upsert(&update).during("the sample")?;
    fixture.write(&table, Write::Upsert(update)).await.during("upsert")?;
    same("updated rows", &read_now(fixture, &table).await?, &expected)?;
    Ok(Outcome::Passed)
}

pub(super) async fn wide_tables_and_large_values_come_back(fixture: &dyn Fixture) -> Check {
    let abilities = fixture.abilities();
    let columns: Vec<_> =
        abilities.types.iter().cycle().take(abilities.columns.saturating_sub(1)).cloned().collect();
    let schema = sample::schema_of(&columns);
    let rows = sample::rows(&schema, 100..140, 1);
    let wide = make(fixture, "wide", &schema, &rows).await?;
    same(
        "wide table",
        &read_now(fixture, &wide).await?,
        &RowSet::of(&schema, &[rows]).during("the sample")?,
    )?;

    let schema = sample::plain();
    let text = "0123456789".repeat(abilities.text_bytes / 10);
    let rows = RecordBatch::try_new(
        schema.physical(),
        vec![
            std::sync::Arc::new(arrow::array::Int64Array::from(vec![1, 2])),
            std::sync::Arc::new(arrow::array::StringArray::from(vec![text.as_str(), "small"])),
            std::sync::Arc::new(arrow::array::Int64Array::from(vec![Some(3), None])),
        ],
    )
    .map_err(|e| Differed(e.to_string()))?;
    let large = make(fixture, "large", &schema, &rows).await?;
    same(
        "large value",
        &read_now(fixture, &large).await?,
        &RowSet::of(&schema, &[rows]).during("the sample")?,
    )?;
    Ok(Outcome::Passed)
}

pub(super) async fn tables_are_listed_and_described(fixture: &dyn Fixture) -> Check {
    let store = fixture.store();
    let mut made = vec![];
    for (name, schema, rows) in tables(fixture)? {
        let table = make(fixture, name, &schema, &sample::batch(&schema, rows, 1)).await?;
        let mut schema = schema;
        schema.columns.iter_mut().for_each(|c| c.column_type = fixture.described(&c.column_type));
        made.push((table, schema));
    }
    let all = store.list_tables(None).await.during("list_tables")?;
    ensure!(all.is_sorted(), "list_tables is not sorted: {all:?}");
    for (table, schema) in &made {
        ensure!(all.contains(table), "list_tables lacks '{table}'");
        let listed = store.list_tables(Some(&table.database)).await.during("list_tables")?;
        ensure!(listed.contains(table), "list_tables of database '{}' lacks '{table}'", table.database);
        let info = store.describe(table).await.during("describe")?;
        ensure!(info.name == *table, "describe of '{table}' names '{}'", info.name);
        same_schema("describe", &info.schema, schema)?;
        ensure!(!info.shards.is_empty(), "describe of '{table}' names no shard");
        let cut = open(fixture, &[table]).await?;
        same_schema("the cut", &cut.table(table).await.during("table")?.schema, schema)?;
        cut.release().await.during("release")?;
    }
    let elsewhere = store.list_tables(Some("a_database_that_is_not_there")).await.during("list_tables")?;
    ensure!(elsewhere.is_empty(), "a database that does not exist lists {elsewhere:?}");
    Ok(Outcome::Passed)
}

/// Fails unless names, types, nullability, key and shape are equal. Ids and origins are the store's own.
fn same_schema(what: &str, found: &TableSchema, expected: &TableSchema) -> Result<(), Differed> {
    let columns = |s: &TableSchema| {
        s.columns.iter().map(|c| (c.name.clone(), c.column_type.clone(), c.nullable)).collect::<Vec<_>>()
    };
    for (f, e) in columns(found).iter().zip(&columns(expected)) {
        ensure!(f == e, "{what} has column {f:?}, expected {e:?}");
    }
    ensure!(
        found.columns.len() == expected.columns.len(),
        "{what} has {} columns, expected {}",
        found.columns.len(),
        expected.columns.len()
    );
    ensure!(
        found.key_names() == expected.key_names() && found.shape == expected.shape,
        "{what} has the key {:?}, expected {:?}",
        found.key_names(),
        expected.key_names()
    );
    Ok(())
}

pub(super) async fn unknown_tables_are_named(fixture: &dyn Fixture) -> Check {
    let schema = sample::plain();
    let here = make(fixture, "here", &schema, &sample::batch(&schema, 3, 1)).await?;
    let gone = fixture.table("gone");
    let store = fixture.store();
    refused!(store.describe(&gone).await, StoreError::NoTable { .. }, "describe of an unknown table");
    let options = fixture.abilities().cut;
    refused!(
        store.open_cut(&[here.clone(), gone.clone()], &options).await,
        StoreError::NoTable { .. },
        "open_cut of a known and an unknown table"
    );
    let cut = open(fixture, &[&here]).await?;
    refused!(cut.table(&gone).await, StoreError::NoTable { .. }, "table of a table that is not in the cut");
    refused!(
        cut.plan(&gone, &PlanOptions::default()).await,
        StoreError::NoTable { .. },
        "plan of a table that is not in the cut"
    );
    if let Err(e) = store.describe(&gone).await {
        ensure!(e.to_string().contains("gone"), "the error does not name the table: {e}");
    }
    Ok(Outcome::Passed)
}

pub(super) async fn partitions_cover_the_keys_without_gap_or_overlap(fixture: &dyn Fixture) -> Check {
    for (name, schema, count) in tables(fixture)? {
        let rows = sample::batch(&schema, count, 1);
        let table = make(fixture, name, &schema, &rows).await?;
        let expected = RowSet::of(&schema, std::slice::from_ref(&rows)).during("the sample")?;
        let keys = encode_keys(&schema, &rows).map_err(StoreError::from).during("the sample")?;
        let mut bounds: Vec<Vec<u8>> = keys.iter().flatten().step_by(37).map(<[u8]>::to_vec).collect();
        bounds.sort();
        let several = [
            PlanOptions::default(),
            PlanOptions { partitions: 0, bounds: vec![] },
            PlanOptions { partitions: 3, bounds: vec![] },
            PlanOptions { partitions: 100, bounds: vec![] },
            PlanOptions { partitions: 4, bounds: bounds.clone() },
            PlanOptions { partitions: 1000, bounds },
            PlanOptions { partitions: 4, bounds: vec![vec![], vec![0], vec![0x80], vec![0xff; 4]] },
        ];
        for options in several {
            let what = format!(
                "table '{table}' with {} partitions and {} bounds wanted",
                options.partitions,
                options.bounds.len()
            );
            let cut = open(fixture, &[&table]).await?;
            let plan = plan(fixture, cut.as_ref(), &table, &options)
                .await
                .map_err(|e| Differed(format!("{what}: {}", e.0)))?;
            let batch_rows = ScanOptions { batch_rows: 64, ..ScanOptions::default() };
            let mut found = scan_all(fixture, cut.as_ref(), &table, &plan, &batch_rows).await?;
            close(cut.as_ref(), &table, &mut found).await.during("closing")?;
            same(&what, &found, &expected)?;
            cut.release().await.during("release")?;
        }
    }
    Ok(Outcome::Passed)
}

pub(super) async fn rows_of_a_partition_come_in_key_order(fixture: &dyn Fixture) -> Check {
    if !fixture.store().capabilities().key_order {
        return Ok(Outcome::NotOffered("scans are not in key order"));
    }
    for (i, key) in fixture.abilities().key_types.into_iter().enumerate() {
        let few = matches!(key, ColumnType::Boolean | ColumnType::Int8 | ColumnType::UInt8);
        let schema =
            sample::keyed_by(&[key.clone(), ColumnType::Int64]).map_err(|e| Differed(e.to_string()))?;
        let rows = sample::batch(&schema, if few { 14 } else { 150 }, 1);
        let table = make(fixture, &format!("key_{i}"), &schema, &rows).await?;
        let cut = open(fixture, &[&table]).await?;
        let wanted = PlanOptions { partitions: 2, bounds: vec![] };
        let plan = plan(fixture, cut.as_ref(), &table, &wanted).await?;
        // The order itself is checked by every scan of the suite.
        let batch_rows = ScanOptions { batch_rows: 50, ..ScanOptions::default() };
        let mut found = scan_all(fixture, cut.as_ref(), &table, &plan, &batch_rows)
            .await
            .map_err(|e| Differed(format!("key {key}: {}", e.0)))?;
        close(cut.as_ref(), &table, &mut found).await.during("closing")?;
        let expected = RowSet::of(&schema, &[rows]).during("the sample")?;
        same(&format!("key {key}"), &found, &expected)?;
        cut.release().await.during("release")?;
    }
    Ok(Outcome::Passed)
}

pub(super) async fn a_scan_reads_the_columns_asked_for_and_the_key(fixture: &dyn Fixture) -> Check {
    let schema = sample::plain();
    let rows = sample::batch(&schema, 100, 1);
    let table = make(fixture, "some_columns", &schema, &rows).await?;
    let cut = open(fixture, &[&table]).await?;
    let stored = cut.table(&table).await.during("table")?.schema;
    let plan = plan(fixture, cut.as_ref(), &table, &PlanOptions::default()).await?;
    for names in [vec!["amount"], vec!["amount", "note"], vec!["note", "id"], vec![]] {
        let ids = names.iter().filter_map(|n| stored.position(n)).map(|i| stored.columns[i].id).collect();
        let mut all: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        all.push("id".into());
        let expected = stored.project(&all).map_err(|e| Differed(e.to_string()))?;
        let options = ScanOptions { columns: Some(ids), ..ScanOptions::default() };
        let mut found = RowSet::new(&expected);
        for p in &plan {
            for batch in scan(fixture, cut.as_ref(), &expected, p, &options).await? {
                found.add(&p.shard, &batch).during(&format!("columns {names:?}"))?;
            }
        }
        same(
            &format!("columns {names:?}"),
            &found,
            &RowSet::of(&schema, std::slice::from_ref(&rows))
                .during("the sample")?
                .under(&under(&expected, &schema)),
        )?;
    }
    Ok(Outcome::Passed)
}

/// The schema of these columns by name, with the ids of the other schema.
fn under(chosen: &TableSchema, ids: &TableSchema) -> TableSchema {
    let names: Vec<String> = chosen.columns.iter().map(|c| c.name.clone()).collect();
    ids.project(&names).unwrap_or_else(|_| chosen.clone())
}

pub(super) async fn a_partition_scanned_twice_gives_the_same_rows(fixture: &dyn Fixture) -> Check {
    let schema = sample::schema_of(&fixture.abilities().types);
    let rows = sample::batch(&schema, 500, 1);
    let table = make(fixture, "twice", &schema, &rows).await?;
    let expected = RowSet::of(&schema, &[rows]).during("the sample")?;
    let store = fixture.store();
    let cut = open(fixture, &[&table]).await?;
    let wanted = PlanOptions { partitions: 4, bounds: vec![] };
    let plan = plan(fixture, cut.as_ref(), &table, &wanted).await?;
    let options = ScanOptions { batch_rows: 100, ..ScanOptions::default() };
    // A scan that is dropped half-way does no harm.
    for p in &plan {
        let mut stream = cut.scan(p, &options).await.during("scan")?;
        if let Some(first) = stream.next().await {
            first.during("the first batch")?;
        }
    }
    let stored = cut.table(&table).await.during("table")?.schema;
    let concurrent = |cut: std::sync::Arc<dyn crate::OpenCut>| {
        let (stored, options, plan) = (&stored, &options, &plan);
        async move {
            let scans = plan.iter().map(|p| scan(fixture, cut.as_ref(), stored, p, options));
            let mut rows = RowSet::new(stored);
            for (p, batches) in plan.iter().zip(future::try_join_all(scans).await?) {
                for batch in batches {
                    rows.add(&p.shard, &batch).during("scan")?;
                }
            }
            Ok::<_, Differed>(rows)
        }
    };
    let mut found = vec![
        ("first reading", concurrent(cut.clone()).await?),
        ("second reading", concurrent(cut.clone()).await?),
    ];
    match (store.capabilities().cut, cut.token()) {
        (CutKind::Replayable, Some(token)) => {
            let attached = fixture.elsewhere().attach_cut(&token).await.during("attach_cut")?;
            found.push(("reading by another process", concurrent(attached.clone()).await?));
            drop(attached);
            found.push(("reading after it", concurrent(cut.clone()).await?));
        }
        (CutKind::Replayable, None) => return Err(Differed("a replayable cut has no token".into())),
        (CutKind::Live, Some(token)) => return Err(Differed(format!("a live cut has the token {token}"))),
        (CutKind::Live, None) => refused!(
            store.attach_cut(&serde_json::Value::Null).await,
            StoreError::Unsupported { .. },
            "attach_cut of a live cut"
        ),
    }
    let closing = match cut.closing_changes(&table).await.during("closing_changes")? {
        None => vec![],
        Some(changes) => super::read::collect(changes).await.during("closing_changes")?,
    };
    for (what, mut rows) in found {
        rows.apply(&closing).during("closing")?;
        same(what, &rows, &expected)?;
    }
    cut.release().await.during("release")?;
    Ok(Outcome::Passed)
}

pub(super) async fn a_cut_does_not_see_later_writes(fixture: &dyn Fixture) -> Check {
    let schema = sample::plain();
    let rows = sample::batch(&schema, 300, 1);
    let table = make(fixture, "moving", &schema, &rows).await?;
    let before = RowSet::of(&schema, std::slice::from_ref(&rows)).during("the sample")?;
    let cut = open(fixture, &[&table]).await?;
    if cut.cut().exactness == Exactness::Fuzzy && !cut.needs_closing() {
        return Ok(Outcome::NotOffered("its cuts are fuzzy"));
    }
    let plan = plan(fixture, cut.as_ref(), &table, &PlanOptions { partitions: 3, bounds: vec![] }).await?;
    let options = ScanOptions { batch_rows: 20, ..ScanOptions::default() };
    let mut begun = vec![];
    for p in &plan {
        let mut stream = cut.scan(p, &options).await.during("scan")?;
        let first = stream.next().await.transpose().during("the first batch")?;
        begun.push((p, first, stream));
    }
    let mut after = before.clone();
    let write = |w: Write| async { fixture.write(&table, w).await.during("a write beside the scan") };
    let update = sample::rows(&schema, 0..100, 2);
    after.upsert(&update).during("the sample")?;
    write(Write::Upsert(update)).await?;
    let removed = sample::rows(&schema, 80..140, 1);
    after.delete(&removed).during("the sample")?;
    write(Write::Delete(removed)).await?;
    let added = sample::rows(&schema, 300..400, 1);
    after.upsert(&added).during("the sample")?;
    write(Write::Insert(added)).await?;

    // Where the moment is fixed by closing, these writes are before it.
    let expected = if cut.needs_closing() { &after } else { &before };
    let mut halves = RowSet::new(&cut.table(&table).await.during("table")?.schema);
    for (p, first, stream) in begun {
        for batch in first.into_iter().chain(super::read::collect(stream).await.during("the rest of a scan")?)
        {
            halves.add(&p.shard, &batch).during("scan")?;
        }
    }
    let mut again = scan_all(fixture, cut.as_ref(), &table, &plan, &options).await?;
    if let Some(changes) = cut.closing_changes(&table).await.during("closing_changes")? {
        let changes = super::read::collect(changes).await.during("closing_changes")?;
        halves.apply(&changes).during("closing")?;
        again.apply(&changes).during("closing")?;
    }
    same("a scan begun before the writes", &halves, expected)?;
    same("a scan begun after the writes", &again, expected)?;
    same("a new cut", &read_now(fixture, &table).await?, &after)?;
    cut.release().await.during("release")?;
    Ok(Outcome::Passed)
}

pub(super) async fn one_cut_holds_several_tables(fixture: &dyn Fixture) -> Check {
    let schema = sample::plain();
    let mut made = vec![];
    for (name, seed) in [("first", 1), ("second", 2), ("third", 3)] {
        let rows = sample::batch(&schema, 100, seed);
        made.push((
            make(fixture, name, &schema, &rows).await?,
            RowSet::of(&schema, &[rows]).during("the sample")?,
        ));
    }
    let cut = open(fixture, &made.iter().map(|(t, _)| t).collect::<Vec<_>>()).await?;
    let mut scanned = vec![];
    for (table, _) in &made {
        let plan = plan(fixture, cut.as_ref(), table, &PlanOptions::default()).await?;
        scanned.push(scan_all(fixture, cut.as_ref(), table, &plan, &ScanOptions::default()).await?);
    }
    for ((table, expected), mut found) in made.iter().zip(scanned) {
        close(cut.as_ref(), table, &mut found).await.during("closing")?;
        same(&format!("table '{table}'"), &found, expected)?;
    }
    cut.release().await.during("release")?;
    Ok(Outcome::Passed)
}

pub(super) async fn a_cut_can_be_released_twice(fixture: &dyn Fixture) -> Check {
    let schema = sample::plain();
    let rows = sample::batch(&schema, 100, 1);
    let table = make(fixture, "released", &schema, &rows).await?;
    let expected = RowSet::of(&schema, &[rows]).during("the sample")?;
    let kept = open(fixture, &[&table]).await?;
    let first = open(fixture, &[&table]).await?;
    first.release().await.during("the first release")?;
    first.release().await.during("the second release")?;
    drop(first);
    let found = super::read_table(kept.as_ref(), &table).await.during("another cut, after the release")?;
    same("another cut, after the release", &found, &expected)?;
    Ok(Outcome::Passed)
}

pub(super) async fn the_stores_own_proof_agrees_with_its_rows(fixture: &dyn Fixture) -> Check {
    let offered = fixture.store().capabilities().source_proof;
    for (name, schema, count) in tables(fixture)? {
        let rows = sample::batch(&schema, count, 1);
        let table = make(fixture, name, &schema, &rows).await?;
        if count > 1 {
            if !schema.is_bag() {
                let update = sample::rows(&schema, 0..count as u64 / 4, 2);
                fixture.write(&table, Write::Upsert(update)).await.during("upsert")?;
            }
            let removed = sample::rows(&schema, count as u64 / 2..count as u64 / 2 + 9, 1);
            fixture.write(&table, Write::Delete(removed)).await.during("delete")?;
        }
        let cut = open(fixture, &[&table]).await?;
        let plan =
            plan(fixture, cut.as_ref(), &table, &PlanOptions { partitions: 3, bounds: vec![] }).await?;
        let mut found = scan_all(fixture, cut.as_ref(), &table, &plan, &ScanOptions::default()).await?;
        close(cut.as_ref(), &table, &mut found).await.during("closing")?;
        let batch = found.to_batch().during("the rows read")?;
        let stored = found.schema().clone();
        let keys = encode_keys(&stored, &batch).map_err(StoreError::from).during("the rows read")?;
        let hashes =
            RowHasher::new(&stored).hash(&batch).map_err(StoreError::from).during("the rows read")?;
        let middle = (batch.num_rows() > 0).then(|| KeyBytes(keys.value(batch.num_rows() / 2).to_vec()));
        let requests = [
            ProofRequest { full: true, ranges: vec![] },
            ProofRequest { full: false, ranges: vec![] },
            ProofRequest {
                full: false,
                ranges: vec![
                    KeyRange { start: None, end: middle.clone() },
                    KeyRange { start: middle, end: None },
                ],
            },
        ];
        for request in requests {
            if schema.is_bag() && !request.ranges.is_empty() {
                continue;
            }
            let proof = cut.prove(&table, &request).await.during("prove")?;
            let Some(proof) = proof else {
                ensure!(!offered, "table '{table}': no proof, although the store says that it has them");
                continue;
            };
            ensure!(offered, "table '{table}': a proof, although the store says that it has none");
            ensure!(
                proof.rows == batch.num_rows() as u64,
                "table '{table}': the proof counts {} rows, the scan gave {}",
                proof.rows,
                batch.num_rows()
            );
            ensure!(!proof.method.is_empty(), "table '{table}': the proof does not say how it was made");
            if request.full {
                let all = proof.ranges.len() == 1 && proof.ranges[0].range.is_all();
                ensure!(all, "table '{table}': a full proof has the ranges {:?}", proof.ranges);
            }
            for stated in proof.ranges {
                let mut digest = keepfast_model::Digest::default();
                for (key, hash) in keys.iter().flatten().zip(&hashes.rows) {
                    if stated.range.contains(key) {
                        digest.add_row(*hash);
                    }
                }
                ensure!(
                    digest == stated.digest,
                    "table '{table}': the store states digest {} for {:?}, its rows have {digest}",
                    stated.digest,
                    stated.range
                );
            }
        }
        cut.release().await.during("release")?;
    }
    Ok(if offered { Outcome::Passed } else { Outcome::NotOffered("it has no count of its own") })
}
