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
use std::hash::{DefaultHasher, Hash, Hasher};
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
    /// Columns of an id of the transaction that wrote a row, and of how many servers it is.
    mark: Option<(usize, Option<usize>)>,
    /// Places of the key's columns; none where its rows cannot be told from each other, or depend on those of others.
    key: Option<Vec<usize>>,
}

/// The sink of a table whose rows nobody wants.
pub(crate) const NOWHERE: usize = usize::MAX;

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
        self.all.push(Target { sink, shard, columns, form: None, mark: None, key: None });
    }

    /// Says that the table that was added last has ids of transactions in a column, and the count of their servers in another; false
    /// where it has not.
    pub fn mark(&mut self, id: &str, servers: &str) -> bool {
        let Some(target) = self.all.last_mut() else { return false };
        let place = |name: &str| target.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
        target.mark = place(id).and_then(|id| Some((id, Some(place(servers)?))));
        target.mark.is_some()
    }

    /// Says that all tables with a column of this name have ids of transactions there; whether there is one.
    pub fn mark_all(&mut self, id: &str) -> bool {
        for target in &mut self.all {
            let place = target.columns.iter().position(|c| c.name.eq_ignore_ascii_case(id));
            target.mark = place.map(|id| (id, None));
        }
        self.all.iter().any(|target| target.mark.is_some())
    }

    /// Says that writes of the table that was added last touch the rows that have the same values in these columns, and no others.
    pub fn key(&mut self, key: Vec<usize>) {
        if let Some(target) = self.all.last_mut() {
            target.key = Some(key);
        }
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
    /// What became of all branches, in order; no rows.
    Orders,
    /// Which ids each transaction wrote, and, where this is true, which rows; see [`Walk::marked`].
    Marks(bool),
}

/// What happened to an XA branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Prepared,
    Committed,
    Undone,
}

/// What happened to which branch, and where the log says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub end: Place,
    pub step: Step,
    pub xid: Xid,
}

/// A transaction that wrote rows of ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marked {
    /// Where its first event ends, which names it, and its last one.
    pub begin: Option<Place>,
    pub end: Option<Place>,
    /// The ids that it wrote, and of how many servers each said that it is.
    pub ids: Vec<(Vec<u8>, Option<u64>)>,
    /// Numbers of the rows that it wrote: another transaction with one of them wrote the same row, or may have.
    pub rows: Vec<u64>,
    /// Whether it is an XA branch, which was prepared here.
    pub branch: bool,
}

/// Which transactions of a log count, by where their first events end.
#[derive(Clone, Debug)]
pub(crate) enum Groups {
    Only(HashSet<Place>),
    But(HashSet<Place>),
}

/// Numbers of rows that a walk collects at most.
const MOST_ROWS: usize = 8 << 20;

/// What is the same over several walks: where changes go, and which transactions count.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub sinks: Vec<Sink>,
    /// Number of the transaction under way; no two have one.
    pub branch: u64,
    /// Transactions that do not count.
    pub excluded: HashSet<u64>,
}

/// Numbers that an event's changes can have: those of its bytes in the log, [`EACH`] a byte, so that a later change of a key has a higher
/// number, whichever cut it is read for. (A branch in doubt holds its rows: what is in the log between its rows and its decision is of
/// others.) None where the log is larger than numbers are.
fn numbers(end: &Place, size: u32) -> Option<Range<i64>> {
    let file = i64::try_from(end.number()?).ok().filter(|file| *file < FILES)?;
    let last = i64::try_from(end.offset).ok().filter(|offset| *offset < BYTES)?;
    let of = |offset: i64| (file * BYTES + offset) * EACH;
    Some(of((last - i64::from(size)).max(0))..of(last))
}

/// Files of a log that can be numbered, bytes of each, and changes of each byte; their product is all that there are.
const FILES: i64 = 1 << 22;
const BYTES: i64 = 1 << 36;
const EACH: i64 = 1 << 5;

/// A walk, and what came of it.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    targets: &'a mut Targets,
    ledger: &'a mut Ledger,
    wanted: Wanted,
    /// Numbers of the changes of the event under way.
    numbers: Range<i64>,
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
    /// Where the event under way ends.
    at: Place,
    /// Where the first event of the transaction under way ends.
    group: Place,
    /// Which transactions count; all where it is none.
    pub groups: Option<Groups>,
    /// Whether the transaction under way does not.
    passing: bool,
    /// Steps of branches, of [`Wanted::Orders`] alone.
    pub orders: Vec<Order>,
    /// Transactions, of [`Wanted::Marks`] alone.
    pub marked: Vec<Marked>,
    marking: Marked,
    rows_marked: usize,
    /// Why they are not all.
    pub trouble: Option<String>,
    /// Branches that were in doubt before the walk; those that are decided in it are taken out.
    pub watch: HashSet<Xid>,
    /// Where rows were counted: the ledger's sinks are told how many the transactions behind it added.
    pub counted: Option<Place>,
    /// Branches that were prepared before the walk and committed before rows were counted.
    pub early: HashSet<Xid>,
}

impl<'a> Walk<'a> {
    pub fn new(targets: &'a mut Targets, ledger: &'a mut Ledger, wanted: Wanted) -> Self {
        Self {
            targets,
            ledger,
            wanted,
            numbers: 0..0,
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
            at: Place { file: String::new(), offset: 0 },
            group: Place { file: String::new(), offset: 0 },
            groups: None,
            passing: false,
            orders: vec![],
            marked: vec![],
            marking: Marked::default(),
            rows_marked: 0,
            trouble: None,
            watch: HashSet::new(),
            counted: None,
            early: HashSet::new(),
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
        while let Some((head, body, end)) = dump.next().await? {
            match self.at.file == end.file {
                true => self.at.offset = end.offset,
                false => self.at = end.clone(),
            }
            self.numbers = numbers(end, head.size).unwrap_or_default();
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
            kind::GTID | kind::ANONYMOUS_GTID | kind::TAGGED_GTID => self.group(None),
            kind::MARIADB_GTID => {
                let xid = event::mariadb_prepares(body)?;
                self.group(xid);
            }
            kind::XID => self.end(false),
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

    /// The first event of a transaction.
    fn group(&mut self, xid: Option<Xid>) {
        self.passing = match &self.groups {
            None => false,
            Some(Groups::Only(groups)) => !groups.contains(&self.at),
            Some(Groups::But(groups)) => groups.contains(&self.at),
        };
        self.group = self.at.clone();
        self.begin(xid);
    }

    fn begin(&mut self, xid: Option<Xid>) {
        self.marking = Marked::default();
        self.ledger.branch += 1;
        self.current = xid;
        self.touched.clear();
        self.maps.clear();
    }

    /// The transaction under way is committed, or its branch prepared.
    fn end(&mut self, branch: bool) {
        if !self.marking.ids.is_empty() || !self.marking.rows.is_empty() {
            let (begin, end) = (Some(self.group.clone()), Some(self.at.clone()));
            self.marked.push(Marked { begin, end, branch, ..std::mem::take(&mut self.marking) });
        }
        if let (Some(counted), false) = (&self.counted, branch) {
            let counts = !counted.has_reached(&self.at);
            for sink in &self.touched {
                if let Some(sink) = self.ledger.sinks.get_mut(*sink) {
                    sink.settle(self.ledger.branch, counts);
                }
            }
        }
        self.begin(None);
    }

    fn step(&mut self, step: Step, xid: &Xid) {
        if matches!(self.wanted, Wanted::Orders) {
            self.orders.push(Order { end: self.at.clone(), step, xid: xid.clone() });
        }
        if step != Step::Prepared {
            self.watch.remove(xid);
        }
    }

    fn prepare(&mut self, xid: Xid, at_once: bool) {
        let branch = self.branch();
        if !at_once {
            self.step(Step::Prepared, &xid);
        }
        match &self.wanted {
            Wanted::Orders | Wanted::Marks(_) => {}
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
        self.end(!at_once);
    }

    fn statement(&mut self, statement: Statement) {
        match statement {
            Statement::Begin => self.begin(None),
            Statement::Commit => self.end(false),
            Statement::Rollback => {
                let branch = self.branch();
                self.ledger.excluded.extend(branch);
                self.begin(None);
            }
            Statement::RollbackTo => {
                if !self.marking.rows.is_empty() {
                    self.trouble.get_or_insert_with(|| "a transaction was undone in part".into());
                }
                for sink in std::mem::take(&mut self.touched) {
                    self.fault(sink, || Fault::Gone("a transaction was undone in part, and its rows stand in the log".into()));
                }
            }
            Statement::XaStart(xid) => self.begin(Some(xid)),
            Statement::XaCommit(xid) => {
                self.step(Step::Committed, &xid);
                let here = self.prepared.remove(&xid);
                let before = self.counted.as_ref().is_some_and(|counted| counted.has_reached(&self.at));
                if let (Some(_), Some(Some(branch))) = (&self.counted, &here) {
                    self.ledger.sinks.iter_mut().for_each(|sink| sink.settle(*branch, !before));
                }
                match (&self.wanted, here) {
                    (Wanted::All, None) => {
                        if before {
                            self.early.insert(xid.clone());
                        }
                        self.committed.push(xid);
                    }
                    (Wanted::Decisions(of), _) if of.contains(&xid.global()) => self.committed.push(xid),
                    // Decided before the end, so it is not the one that is looked for.
                    (Wanted::Prepared(_), Some(branch)) => self.ledger.excluded.extend(branch),
                    _ => {}
                }
                self.begin(None);
            }
            Statement::XaRollback(xid) => {
                self.step(Step::Undone, &xid);
                let here = self.prepared.remove(&xid);
                self.ledger.excluded.extend(here.flatten());
                if matches!(&self.wanted, Wanted::Decisions(of) if of.contains(&xid.global())) {
                    self.undone.push(xid);
                }
                self.begin(None);
            }
            Statement::Harmless => {}
            _ if self.passing || !matches!(self.wanted, Wanted::All | Wanted::Marks(_)) => {}
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
        // What a table was for others, maybe long ago, does not matter.
        let others = match (&self.wanted, &self.current) {
            (Wanted::Decisions(_) | Wanted::Orders, _) | (Wanted::Prepared(_), None) => true,
            (Wanted::Prepared(wanted), Some(xid)) => !wanted.contains(xid),
            _ => false,
        };
        if self.passing || others {
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
        if let Wanted::Marks(rows) = self.wanted {
            return self.marks(body, how, rows);
        }
        let wanted = match (&self.wanted, &self.current) {
            _ if self.passing => false,
            (Wanted::All, _) => true,
            (Wanted::Prepared(wanted), Some(xid)) => wanted.contains(xid),
            _ => false,
        };
        let at = self.maps.get(&event::rows_table(body)?).copied();
        let (true, Some(at)) = (wanted, at) else { return Ok(()) };
        let Self { targets, ledger, numbers, row, before, short, places, places_before, .. } = self;
        let Ledger { sinks, branch, .. } = &mut **ledger;
        let target = &targets.all[at];
        // Some tables are only looked at.
        let Some(sink) = sinks.get_mut(target.sink) else { return Ok(()) };
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
                let seq = numbers.next().ok_or_else(|| {
                    LogError::Gone(
                        "an event has more changes, or its log more bytes, than can be numbered".into(),
                    )
                })?;
                let change = Change { op, seq, shard: target.shard, count, branch: *branch, before: false };
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

    /// Notes which ids and rows a transaction wrote.
    fn marks(&mut self, body: &[u8], how: (Op, bool, bool), wanted: bool) -> Result<(), LogError> {
        let Some(at) = self.maps.get(&event::rows_table(body)?).copied() else { return Ok(()) };
        let Self { targets, row, before, places, places_before, .. } = self;
        let target = &targets.all[at];
        let Some(form) = &target.form else { return Ok(()) };
        let rows = event::rows(body, how)?;
        if !rows.whole || rows.columns != form.heads().len() {
            self.trouble.get_or_insert_with(|| "rows are logged in part (binlog_row_image)".into());
            return Ok(());
        }
        let number = |row: &[u8], places: &[Range<usize>]| {
            let mut hasher = DefaultHasher::new();
            match &target.key {
                Some(key) => {
                    at.hash(&mut hasher);
                    key.iter().for_each(|column| row[places[*column].clone()].hash(&mut hasher));
                }
                None => usize::MAX.hash(&mut hasher),
            }
            hasher.finish()
        };
        let value = |row: &[u8], places: &[Range<usize>], column: usize| {
            let null = row[(column + 2) / 8] >> ((column + 2) % 8) & 1 == 1;
            (!null).then(|| row[places[column].clone()].to_vec())
        };
        let mut images = Reader(&rows.images);
        while !images.is_empty() {
            let changes = rows.op == Op::Update;
            if changes {
                form.row(&mut images, before, places_before)?;
            }
            form.row(&mut images, row, places)?;
            if let (Some((column, servers)), true) = (target.mark, rows.op != Op::Delete) {
                let id = value(row, places, column);
                // One that stood there before is of another transaction.
                let stood = changes && value(before, places_before, column) == id;
                let known = |id: &Vec<u8>| self.marking.ids.iter().any(|(known, _)| known == id);
                if let Some(id) = id.filter(|id| !stood && !known(id)) {
                    let servers = servers
                        .and_then(|column| value(row, places, column))
                        .map(|bytes| bytes.iter().rev().fold(0_u64, |n, byte| n << 8 | u64::from(*byte)));
                    self.marking.ids.push((id, servers));
                }
            }
            if wanted && target.sink != NOWHERE {
                self.marking.rows.push(number(row, places));
                if changes {
                    self.marking.rows.push(number(before, places_before));
                }
                self.rows_marked += 1;
            }
        }
        if self.rows_marked > MOST_ROWS {
            self.trouble.get_or_insert_with(|| "more rows were written meanwhile than are followed".into());
            self.marking.rows.clear();
        }
        Ok(())
    }

    fn fault(&mut self, sink: usize, fault: impl FnOnce() -> Fault) {
        if matches!(self.wanted, Wanted::Marks(_)) {
            self.trouble.get_or_insert_with(|| match fault() {
                Fault::Gone(reason) | Fault::Altered(reason) => reason,
            });
            return;
        }
        let Some(sink) = self.ledger.sinks.get_mut(sink) else { return };
        if matches!(self.wanted, Wanted::All | Wanted::Prepared(_)) && sink.fault.is_none() {
            sink.fault = Some(fault());
        }
    }

    /// For all tables of this server.
    fn fault_all(&mut self, fault: impl Fn() -> Fault) {
        if matches!(self.wanted, Wanted::All | Wanted::Marks(_)) {
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
