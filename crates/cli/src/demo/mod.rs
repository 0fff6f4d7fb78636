//! `keepfast demo`: what Keepfast does, on a table of a million rows, in half a minute.
//!
//! Every line that it shows comes from what really happened: the steps call the engine as the verbs do and show the
//! same reports, and a step that does not show what it should fails the demo.

mod damage;
mod data;
mod place;
mod script;

use crate::app::App;
use crate::args::DemoArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{human, rows};
use damage::{Damage, largest_segment};
use keepfast_engine::api::{
    AsOf, BackupReport, BackupRequest, Certify, DiffRequest, IfExists, Level, Mode, RestoreRequest,
    RetainTerms, TableSet, VerifyReport, VerifyRequest,
};
use keepfast_engine::{Outcome, StoreResolver, StoreSpec};
use keepfast_model::{ProofKind, Selection, TableName, WriteMode};
use place::Place;
use script::Script;
use serde_json::json;

const TABLE: &str = "orders";
const BACKUP: &str = "orders_backup";
const TOTALS: &str = "SELECT count(*) AS orders, sum(amount) AS revenue FROM orders";

/// Runs the demo.
///
/// # Errors
/// Whatever a step fails with; [`CliError::Demo`] when it did not show what it should.
pub async fn run(app: &App, args: DemoArgs) -> Result<Exit, CliError> {
    let place = Place::new(args.keep)?;
    let app = app.elsewhere(place.path().to_owned());
    let mut demo = Demo { app: &app, script: Script::new(app.out), rows: args.rows };
    demo.opening(&place)?;
    let totals = demo.make().await?;
    let first = demo.backup().await?;
    demo.accident().await?;
    demo.diff().await?;
    demo.restore().await?;
    demo.proof(&totals).await?;
    demo.increment(&first).await?;
    demo.past(&totals).await?;
    demo.damage().await?;
    demo.closing(&place)?;
    Ok(Exit::Done)
}

struct Demo<'a> {
    app: &'a App,
    script: Script,
    rows: u64,
}

/// `orders` and `revenue` as text.
type Totals = Vec<String>;

impl Demo<'_> {
    fn opening(&self, place: &Place) -> Result<(), CliError> {
        let after = if place.is_removed() { "removed at the end" } else { "kept" };
        self.script.text(&format!(
            "Keepfast backs up tables, brings them back, and proves that they came back.\n\
             This runs it on a sample table, in {} ({after}).\n\
             The lines with $ are what you would type, there with --data {0}.",
            place.path().display()
        ))
    }

    async fn make(&mut self) -> Result<Totals, CliError> {
        self.script
            .step(&format!("A table: {} orders in the embedded Table Store", human::count(self.rows)))?;
        let store = self.app.stores().open(&StoreSpec::Embedded).await?;
        data::load(store.as_ref(), &TableName::bare(TABLE), self.rows, self.app.threads()).await?;
        self.query("SELECT * FROM orders ORDER BY id LIMIT 3").await?;
        let totals = self.query(TOTALS).await?;
        self.script
            .expect(totals.first() == Some(&self.rows.to_string()), || format!("the table has {totals:?}"))?;
        self.script.shown(format!("{} orders made and loaded", human::count(self.rows)))?;
        Ok(totals)
    }

    async fn backup(&mut self) -> Result<BackupReport, CliError> {
        self.script.step("A backup")?;
        let report = self.back_up().await?;
        let table = &report.tables[0];
        self.script
            .expect(table.rows == self.rows && table.mode == WriteMode::Full, || "it is not full".into())?;
        let proof = match (table.certificate.kind, table.certificate.content_percent) {
            (ProofKind::Source, 0) => "the store's own count agrees with what was read".into(),
            (ProofKind::Source, percent) => {
                format!(
                    "the store's own count, and its own checksums of {percent} % of the rows, agree with what was read"
                )
            }
            (ProofKind::Log, _) => "a gapless log from a certified base says so".into(),
            (ProofKind::Own, _) => "our own count alone says so".to_owned(),
        };
        self.script.shown(format!("{} is complete: {proof}", report.point))?;
        Ok(report)
    }

    async fn accident(&mut self) -> Result<(), CliError> {
        self.script.step("An accident: an UPDATE without WHERE")?;
        self.change("UPDATE orders SET amount = 0, status = 'cancelled'", self.rows).await?;
        self.query(TOTALS).await?;
        self.script.shown("every order is cancelled, and the revenue is gone".into())
    }

    async fn diff(&mut self) -> Result<(), CliError> {
        self.script.step("What differs from the backup?")?;
        self.script.command(&format!("keepfast diff {BACKUP} {TABLE} --limit 3"))?;
        let request = DiffRequest { left: BACKUP.into(), right: TABLE.into(), table: None, limit: 3 };
        let report = self.app.engine().diff(&request).await?;
        self.script.report(&report)?;
        let all = report.changed == self.rows && report.only_left + report.only_right == 0;
        self.script
            .expect(all, || format!("{} of {} rows are reported as changed", report.changed, self.rows))?;
        self.script.shown(format!(
            "all {} changed rows are found, with the columns that changed",
            human::count(self.rows)
        ))
    }

    async fn restore(&mut self) -> Result<(), CliError> {
        self.script.step("Bring it back")?;
        self.script.command(&format!("keepfast restore {TABLE} --from {BACKUP}"))?;
        let request = RestoreRequest {
            tables: TableSet::Tables(vec![TableName::bare(TABLE)]),
            rename: vec![None],
            from: BACKUP.into(),
            as_of: AsOf::Latest,
            into: None,
            selection: Selection::default(),
            if_exists: IfExists::Replace,
            shard_rule: None,
            segment_rows: None,
            skip_damaged: false,
            skip_shredded: false,
        };
        let report = self.app.engine().restore(&request).await?;
        self.script.report(&report)?;
        let table = &report.tables[0];
        self.script.expect(table.rows == self.rows, || format!("{} rows came back", table.rows))?;
        let kept = table.replaced.as_ref().map(ToString::to_string);
        self.script.expect(kept.is_some(), || "the replaced table was not kept".into())?;
        self.script.shown(format!(
            "loaded beside, verified, then put in place in one step; the broken table is kept as {}",
            kept.unwrap_or_default()
        ))
    }

    async fn proof(&mut self, before: &Totals) -> Result<(), CliError> {
        self.script.step("Did everything come back?")?;
        self.script.command(&format!("keepfast verify {BACKUP} --level content"))?;
        let report = self.verify(Level::Content).await?;
        self.script.report(&report)?;
        self.script.expect(report.ok, || "the live table differs from the restore point".into())?;
        let now = self.query(TOTALS).await?;
        self.script.expect(now == *before, || format!("the totals were {before:?} and are {now:?}"))?;
        self.script
            .shown("every row of the live table was read and compared with the backup: all are equal".into())
    }

    async fn increment(&mut self, first: &BackupReport) -> Result<(), CliError> {
        self.script.step("Work goes on: 1 % of the orders change, and the next backup is small")?;
        let some = self.rows / 100;
        let from = self.rows / 2;
        let update = format!(
            "UPDATE orders SET status = 'returned', amount = amount / 2 WHERE id > {from} AND id <= {}",
            from + some
        );
        self.change(&update, some).await?;
        let second = self.back_up().await?;
        let (old, new) = (&first.tables[0], &second.tables[0]);
        self.script.expect(new.mode == WriteMode::Incremental, || {
            format!("it was written as a new base: {}", new.why)
        })?;
        self.script.expect(new.rows == self.rows, || format!("{} holds {} rows", second.point, new.rows))?;
        let share = new.bytes_new.0 as f64 / old.bytes_new.0.max(1) as f64 * 100.0;
        self.script.expect(share < 50.0, || format!("it wrote {share:.1} % of the first one's bytes"))?;
        self.script.shown(format!(
            "{} wrote {} in {}; {} had written {} in {}: {share:.1} % of the bytes",
            second.point,
            new.bytes_new,
            human::seconds(second.seconds),
            first.point,
            old.bytes_new,
            human::seconds(first.seconds),
        ))
    }

    async fn past(&mut self, before: &Totals) -> Result<(), CliError> {
        self.script.step("Ask the backup, without restoring it")?;
        let now = self
            .query("SELECT status, count(*) AS orders FROM orders GROUP BY status ORDER BY status")
            .await?;
        self.script
            .expect(now.iter().any(|v| v == "returned"), || "the live table has no returned orders".into())?;
        let then = self
            .query(&format!(
                "SELECT status, count(*) AS orders FROM backup('{BACKUP}', '{TABLE}', '1') GROUP BY status ORDER BY status"
            ))
            .await?;
        self.script
            .expect(!then.iter().any(|v| v == "returned"), || "the first point has returned orders".into())?;
        let past = format!(
            "SELECT count(*) AS orders, sum(amount) AS revenue FROM backup('{BACKUP}', '{TABLE}', '1')"
        );
        let totals = self.query(&past).await?;
        self.script.expect(totals == *before, || format!("the totals were {before:?} and are {totals:?}"))?;
        self.script.shown("the first restore point answers as the table was then".into())
    }

    async fn damage(&mut self) -> Result<(), CliError> {
        self.script.step("A disk lies: one bit of one stored file is flipped")?;
        let file = largest_segment(&self.app.data().join("vault"))?;
        let damage = Damage::flip(&file)?;
        self.script.text(&format!(
            "   (byte {} of {})",
            human::count(damage.offset as u64),
            damage.path.display()
        ))?;
        self.script.command(&format!("keepfast verify {BACKUP}"))?;
        let found = self.verify(Level::Checksum).await?;
        self.script.report(&found)?;
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let named = !found.ok && found.damage.len() == 1 && found.damage[0].object.ends_with(&name);
        self.script.expect(named, || format!("verify did not name {name} alone"))?;
        damage.put_back()?;
        self.script.text("   (the bit is put back)")?;
        self.script.command(&format!("keepfast verify {BACKUP}"))?;
        let healed = self.verify(Level::Checksum).await?;
        self.script.report(&healed)?;
        self.script.expect(healed.ok, || "the vault is still damaged".into())?;
        self.script
            .shown("the damaged file is named, with the tables and points that need it (exit code 3)".into())
    }

    fn closing(&self, place: &Place) -> Result<(), CliError> {
        let seconds = self.script.seconds();
        if self.app.out.json {
            let kept = (!place.is_removed()).then(|| place.path().display().to_string());
            let document =
                json!({"rows": self.rows, "steps": self.script.steps, "seconds": seconds, "kept": kept});
            return self.app.out.line("", &document);
        }
        self.script.text(&format!("\nShown in {}:", human::seconds(seconds)))?;
        for step in &self.script.steps {
            self.script.text(&format!("  {:>8}  {}", human::seconds(step.seconds), step.shown))?;
        }
        let next =
            "Next: `keepfast sql` opens a shell, `keepfast import FILE --into TABLE` loads your own rows.";
        self.script.text(&format!("\n{next}"))?;
        if !place.is_removed() {
            let data = place.path().display();
            self.script
                .text(&format!("Everything is in {data}; try `keepfast --data {data} show {BACKUP}`."))?;
        }
        Ok(())
    }

    async fn back_up(&mut self) -> Result<BackupReport, CliError> {
        self.script.command(&format!("keepfast backup {TABLE} --to {BACKUP}"))?;
        let request = BackupRequest {
            tables: TableSet::Tables(vec![TableName::bare(TABLE)]),
            to: vec![BACKUP.into()],
            selection: Selection::default(),
            mode: Mode::Auto,
            until: None,
            certify: Certify::Sample,
            encrypt: None,
            segment_rows: None,
            parity: None,
            require: None,
            retain: RetainTerms::default(),
        };
        let mut outcome = self.app.engine().backup(&request).await?;
        if let Some((_, error)) = outcome.failed.pop() {
            return Err(error.into());
        }
        self.script.report(&outcome)?;
        let report = outcome.reports.pop().filter(|r| r.tables.len() == 1);
        self.script.expect(report.is_some(), || "the backup has no report of one table".into())?;
        // The line above leaves only the case that there is one.
        report.ok_or_else(|| CliError::Demo { step: "backup".into(), reason: "there is no report".into() })
    }

    async fn verify(&self, level: Level) -> Result<VerifyReport, CliError> {
        let request = VerifyRequest {
            backup: BACKUP.into(),
            as_of: AsOf::Latest,
            level,
            against: None,
            expect: None,
            repair: false,
            repair_from: None,
            accept_head: false,
            limit: 3,
        };
        Ok(self.app.engine().verify(&request).await?)
    }

    /// Runs a statement that changes rows.
    async fn change(&mut self, sql: &str, expected: u64) -> Result<(), CliError> {
        self.script.command(&format!("keepfast sql -c \"{sql}\""))?;
        let changed = match self.app.engine().execute(&keepfast_sql::parse_one(sql)?).await? {
            Outcome::Changed { rows, verb } => {
                self.script.output(&format!("{} {verb}", human::rows(rows)))?;
                rows
            }
            _ => 0,
        };
        self.script.expect(changed == expected, || format!("{changed} of {expected} rows were changed"))
    }

    /// Runs a query, shows its rows, and gives all their values.
    async fn query(&mut self, sql: &str) -> Result<Totals, CliError> {
        self.script.command(&format!("keepfast query \"{sql}\""))?;
        let outcome = self.app.engine().execute(&keepfast_sql::parse_one(sql)?).await?;
        let Outcome::Rows { schema, batches } = outcome else { return Ok(vec![]) };
        let batches: Vec<_> = futures::TryStreamExt::try_collect(batches).await?;
        let mut values = vec![];
        for batch in &batches {
            values.extend(rows::text_rows(batch)?.into_iter().flatten());
        }
        let mut text = vec![];
        let again = futures::StreamExt::boxed(futures::stream::iter(batches.into_iter().map(Ok)));
        rows::write_table(&mut text, &schema, again, &self.app.interrupt.current()).await?;
        self.script.output(&String::from_utf8_lossy(&text))?;
        Ok(values)
    }
}
