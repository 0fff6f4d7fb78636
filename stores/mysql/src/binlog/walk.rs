//! One server's log from one place to another: which rows of our tables its transactions changed, and which of them count.

use super::charset::Charset;
use super::dump::{Dump, Origin, Place};
use super::event::{self, Head, Op, Payload, Xid, kind};
use super::image::Form;
use super::sink::{Change, Sink};
use super::statement::{Statement, classify};
use super::{Fault, LogError};
use crate::catalog::PhysicalColumn;
use crate::store::Server;
use crate::wire::WireError;
use crate::wire::codec::{Reader, text};
use keepfast_model::ChangeOp;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

/// Bytes of changes that are held for all tables together before they are kept elsewhere.
const HELD: usize = 64 << 20;

/// The shards of one server, by database and table.
#[derive(Debug)]
pub(crate) struct Targets {
    by_name: HashMap<(String, String), usize>,
    all: Vec<Target>,
    charsets: HashMap<String, Charset>,
    /// Whether the server keeps names in lower case.
    fold: bool,
}

#[derive(Debug)]
struct Target {
    /// Which sink.
    sink: usize,
    /// Which of the sink's shards.
    shard: usize,
    columns: Vec<PhysicalColumn>,
    form: Option<Form>,
}

impl Targets {
    pub fn new(charsets: HashMap<String, Charset>, fold: bool) -> Self {
        Self { by_name: HashMap::new(), all: vec![], charsets, fold }
    }

    pub fn add(
        &mut self,
        database: &str,
        table: &str,
        columns: Vec<PhysicalColumn>,
        sink: usize,
        shard: usize,
    ) {
        self.by_name.insert(self.named(database, table), self.all.len());
        self.all.push(Target { sink, shard, columns, form: None });
    }

    fn named(&self, database: &str, table: &str) -> (String, String) {
        match self.fold {
            true => (database.to_lowercase(), table.to_lowercase()),
            false => (database.to_owned(), table.to_owned()),
        }
    }

    fn find(&self, database: &str, table: &str) -> Option<usize> {
        self.by_name.get(&self.named(database, table)).copied()
    }
}

/// What of a log is wanted.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// All that changed.
    All,
    /// Branches that were prepared there, and neither committed nor undone up to its end.
    Prepared(HashSet<Xid>),
    /// What became of branches of these transactions; no rows.
    Decisions(HashSet<(u32, Vec<u8>)>),
}

/// What is the same over several walks: where changes go, and their numbers.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub sinks: Vec<Sink>,
    /// Number of the next change. Later changes of a key have higher ones.
    pub seq: i64,
    /// Number of the transaction under way; no two have one.
    pub branch: u64,
    /// Transactions that do not count.
    pub excluded: HashSet<u64>,
}

/// A walk, and what came of it.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    targets: &'a mut Targets,
    ledger: &'a mut Ledger,
    wanted: Wanted,
    maps: HashMap<u64, usize>,
    current: Option<Xid>,
    /// Sinks that the transaction under way wrote to.
    touched: BTreeSet<usize>,
    held: usize,
    row: Vec<u8>,
    before: Vec<u8>,
    short: Vec<u8>,
    places: Vec<Range<usize>>,
    places_before: Vec<Range<usize>>,
    /// Branches that were prepared and not decided, with their transaction's number where it has rows of ours.
    pub prepared: HashMap<Xid, Option<u64>>,
    /// Branches that were committed, and prepared before the walk.
    pub committed: Vec<Xid>,
    /// Branches that were undone, and prepared before the walk; of [`Wanted::Decisions`] alone.
    pub undone: Vec<Xid>,
    /// Branches that were prepared in the walk, whatever became of them; of [`Wanted::Decisions`] alone.
    pub seen: HashSet<Xid>,
}

impl<'a> Walk<'a> {
    pub fn new(targets: &'a mut Targets, ledger: &'a mut Ledger, wanted: Wanted) -> Self {
        Self {
            targets,
            ledger,
            wanted,
            maps: HashMap::new(),
            current: None,
            touched: BTreeSet::new(),
            held: 0,
            row: vec![],
            before: vec![],
            short: vec![],
            places: vec![],
            places_before: vec![],
            prepared: HashMap::new(),
            committed: vec![],
            undone: vec![],
            seen: HashSet::new(),
        }
    }

    /// Walks. `expected` is who must have begun the first file.
    pub async fn run(
        &mut self,
        server: &Server,
        from: &Place,
        to: &Place,
        expected: Option<Origin>,
    ) -> Result<(), LogError> {
        let mut dump = Dump::open(server, from, to).await?;
        let mut first = true;
        while let Some((head, body)) = dump.next().await? {
            self.event(head, body)?;
            if let (true, Some(origin)) = (first, dump.origin()) {
                first = false;
                if expected.is_some_and(|expected| expected != origin) {
                    return Err(LogError::Gone(format!(
                        "'{}' is another log than the one of that name then: the server was set up anew, or its logs were reset",
                        from.file
                    )));
                }
            }
        }
        Ok(())
    }

    fn event(&mut self, head: Head, body: &[u8]) -> Result<(), LogError> {
        if let Some(how) = event::rows_kind(head.kind) {
            return self.rows(body, how);
        }
        match head.kind {
            kind::TABLE_MAP => self.map(body)?,
            kind::QUERY | kind::QUERY_COMPRESSED | kind::EXECUTE_LOAD => {
                let query = event::query(body, head.kind)?;
                let statement = classify(&query.text, &text(query.database));
                self.statement(statement);
            }
            kind::FORMAT => {}
            kind::GTID | kind::ANONYMOUS_GTID | kind::TAGGED_GTID => self.begin(None),
            kind::MARIADB_GTID => {
                let xid = event::mariadb_prepares(body)?;
                self.begin(xid);
            }
            kind::XID => self.end(),
            kind::XA_PREPARE => {
                let (xid, at_once) = event::xa_prepare(body)?;
                self.prepare(xid, at_once);
            }
            kind::PAYLOAD => {
                let mut payload = Payload::open(body)?;
                while let Some((head, body)) = payload.next()? {
                    if head.kind == kind::PAYLOAD {
                        return Err(WireError::Malformed("a compressed event holds another").into());
                    }
                    self.event(head, body)?;
                }
            }
            kind::INCIDENT => {
                self.fault_all(|| Fault::Gone("the server logged an incident: rows are missing".into()))
            }
            kind::PARTIAL_UPDATE => {
                let id = event::rows_table(body)?;
                self.fault_of(id, "JSON is logged in parts; SET GLOBAL binlog_row_value_options = ''");
            }
            silent if kind::SILENT.contains(&silent) || head.is_ignorable() => {}
            // What is not known may be rows.
            other => self.fault_all(|| {
                Fault::Gone(format!("the log has events of kind {other}, which this version does not know"))
            }),
        }
        Ok(())
    }

    /// The transaction under way, where it has rows of ours.
    fn branch(&self) -> Option<u64> {
        (!self.touched.is_empty()).then_some(self.ledger.branch)
    }

    fn begin(&mut self, xid: Option<Xid>) {
        self.ledger.branch += 1;
        self.current = xid;
        self.touched.clear();
        self.maps.clear();
    }

    fn end(&mut self) {
        self.begin(None);
    }

    fn prepare(&mut self, xid: Xid, at_once: bool) {
        let branch = self.branch();
        match &self.wanted {
            Wanted::Decisions(of) => {
                if of.contains(&xid.global()) {
                    self.seen.insert(xid);
                }
            }
            // It was over when its log was.
            Wanted::Prepared(_) if at_once => self.ledger.excluded.extend(branch),
            Wanted::Prepared(wanted) if !wanted.contains(&xid) => {}
            _ if at_once => {}
            _ => {
                let older = self.prepared.insert(xid, branch);
                self.ledger.excluded.extend(older.flatten());
            }
        }
        self.end();
    }

    fn statement(&mut self, statement: Statement) {
        match statement {
            Statement::Begin => self.begin(None),
            Statement::Commit => self.end(),
            Statement::Rollback => {
                let branch = self.branch();
                self.ledger.excluded.extend(branch);
                self.end();
            }
            Statement::RollbackTo => {
                for sink in std::mem::take(&mut self.touched) {
                    self.fault(sink, || Fault::Gone("a transaction was undone in part, and its rows stand in the log".into()));
                }
            }
            Statement::XaStart(xid) => self.begin(Some(xid)),
            Statement::XaCommit(xid) => {
                let here = self.prepared.remove(&xid);
                match (&self.wanted, here) {
                    (Wanted::All, None) => self.committed.push(xid),
                    (Wanted::Decisions(of), _) if of.contains(&xid.global()) => self.committed.push(xid),
                    // Decided before the end, so it is not the one that is looked for.
                    (Wanted::Prepared(_), Some(branch)) => self.ledger.excluded.extend(branch),
                    _ => {}
                }
                self.end();
            }
            Statement::XaRollback(xid) => {
                let here = self.prepared.remove(&xid);
                self.ledger.excluded.extend(here.flatten());
                if matches!(&self.wanted, Wanted::Decisions(of) if of.contains(&xid.global())) {
                    self.undone.push(xid);
                }
                self.end();
            }
            Statement::Harmless => {}
            _ if !matches!(self.wanted, Wanted::All) => {}
            Statement::Writes => self.fault_all(|| {
                Fault::Gone("rows were written by a statement that stands in the log as text; SET GLOBAL binlog_format = 'ROW'".into())
            }),
            Statement::Empties(database, table) => {
                if let Some(at) = self.targets.find(&database, &table) {
                    self.fault(self.targets.all[at].sink, || {
                        Fault::Gone("it was emptied by a statement that stands in the log as text".into())
                    });
                }
            }
            Statement::Alters(tables) => {
                for (database, table) in tables {
                    if let Some(at) = self.targets.find(&database, &table) {
                        self.fault(self.targets.all[at].sink, || {
                            Fault::Altered(format!("a statement altered `{database}`.`{table}`"))
                        });
                    }
                }
            }
            Statement::Drops(database) => {
                let folded = self.targets.named(&database, "").0;
                let of: Vec<usize> = self.targets.by_name.iter().filter(|((d, _), _)| *d == folded).map(|(_, at)| *at).collect();
                for at in of {
                    self.fault(self.targets.all[at].sink, || Fault::Altered(format!("database `{database}` was dropped")));
                }
            }
        }
    }

    fn map(&mut self, body: &[u8]) -> Result<(), LogError> {
        if matches!(self.wanted, Wanted::Decisions(_)) {
            return Ok(());
        }
        let map = event::table_map(body)?;
        let (database, table) = (text(map.database), text(map.table));
        let Some(at) = self.targets.find(&database, &table) else {
            self.maps.remove(&map.id);
            return Ok(());
        };
        self.maps.insert(map.id, at);
        let target = &mut self.targets.all[at];
        if !target.form.as_ref().is_some_and(|form| form.is_of(map.types, map.metadata)) {
            match Form::new(&target.columns, map.types, map.metadata, &self.targets.charsets) {
                Ok(form) => target.form = Some(form),
                Err(fault) => {
                    let sink = target.sink;
                    let of = |reason: String| format!("`{database}`.`{table}`: {reason}");
                    self.fault(sink, || match fault {
                        Fault::Gone(reason) => Fault::Gone(of(reason)),
                        Fault::Altered(reason) => Fault::Altered(of(reason)),
                    });
                }
            }
        }
        Ok(())
    }

    fn rows(&mut self, body: &[u8], how: (Op, bool, bool)) -> Result<(), LogError> {
        let wanted = match (&self.wanted, &self.current) {
            (Wanted::All, _) => true,
            (Wanted::Prepared(wanted), Some(xid)) => wanted.contains(xid),
            _ => false,
        };
        let at = self.maps.get(&event::rows_table(body)?).copied();
        let (true, Some(at)) = (wanted, at) else { return Ok(()) };
        let Self { targets, ledger, row, before, short, places, places_before, .. } = self;
        let Ledger { sinks, seq, branch, .. } = &mut **ledger;
        let target = &targets.all[at];
        let sink = &mut sinks[target.sink];
        let (None, Some(form)) = (&sink.fault, &target.form) else { return Ok(()) };
        let rows = event::rows(body, how)?;
        if !rows.whole || rows.columns != form.heads().len() {
            sink.fault =
                Some(Fault::Gone("rows are logged in part; SET GLOBAL binlog_row_image = 'FULL'".into()));
            return Ok(());
        }
        self.touched.insert(target.sink);
        let mut held = 0;
        let mut put =
            |sink: &mut Sink, op: ChangeOp, count: Option<i64>, row: &[u8], before: Option<&[u8]>| {
                let change =
                    Change { op, seq: *seq, shard: target.shard, count, branch: *branch, before: false };
                *seq += 1;
                held += row.len() + before.map_or(0, <[u8]>::len);
                sink.push(change, form.heads(), row, before)
            };
        let mut images = Reader(&rows.images);
        while !images.is_empty() {
            if rows.op == Op::Update {
                form.row(&mut images, before, places_before)?;
            }
            form.row(&mut images, row, places)?;
            match (sink.bag, rows.op) {
                (true, Op::Insert) => put(sink, ChangeOp::Count, Some(1), row, None)?,
                (true, Op::Delete) => put(sink, ChangeOp::Count, Some(-1), row, None)?,
                (true, Op::Update) => {
                    put(sink, ChangeOp::Count, Some(-1), before, None)?;
                    put(sink, ChangeOp::Count, Some(1), row, None)?;
                }
                (false, Op::Insert) => put(sink, ChangeOp::PutRow, None, row, None)?,
                (false, Op::Delete) => {
                    key_alone(&sink.key, row, places, short);
                    put(sink, ChangeOp::DeleteRow, None, short, Some(row))?;
                }
                (false, Op::Update) => {
                    let moved = |at: &usize| before[places_before[*at].clone()] != row[places[*at].clone()];
                    let mut old = Some(before.as_slice());
                    if sink.key.iter().any(moved) {
                        key_alone(&sink.key, before, places_before, short);
                        put(sink, ChangeOp::DeleteRow, None, short, old.take())?;
                    }
                    put(sink, ChangeOp::PutRow, None, row, old)?;
                }
            }
            match rows.op {
                Op::Insert => sink.grow(*branch, 1),
                Op::Delete => sink.grow(*branch, -1),
                Op::Update => {}
            }
        }
        self.held += held;
        if self.held > HELD {
            self.held = 0;
            self.ledger.sinks.iter_mut().try_for_each(Sink::flush)?;
        }
        Ok(())
    }

    fn fault(&mut self, sink: usize, fault: impl FnOnce() -> Fault) {
        let sink = &mut self.ledger.sinks[sink];
        if matches!(self.wanted, Wanted::All | Wanted::Prepared(_)) && sink.fault.is_none() {
            sink.fault = Some(fault());
        }
    }

    /// For all tables of this server.
    fn fault_all(&mut self, fault: impl Fn() -> Fault) {
        if matches!(self.wanted, Wanted::All) {
            let of: BTreeSet<usize> = self.targets.all.iter().map(|target| target.sink).collect();
            of.into_iter().for_each(|sink| self.fault(sink, &fault));
        }
    }

    /// For the table that events mean by this number.
    fn fault_of(&mut self, id: u64, reason: &str) {
        if let Some(at) = self.maps.get(&id).copied() {
            self.fault(self.targets.all[at].sink, || Fault::Gone(reason.to_owned()));
        }
    }
}

/// A row whose columns but those of the key are NULL.
fn key_alone(key: &[usize], row: &[u8], places: &[Range<usize>], out: &mut Vec<u8>) {
    out.clear();
    out.resize((places.len() + 7 + 2) / 8, 0);
    for (at, place) in places.iter().enumerate() {
        if key.contains(&at) {
            out.extend(&row[place.clone()]);
        } else {
            out[(at + 2) / 8] |= 1 << ((at + 2) % 8);
        }
    }
}
