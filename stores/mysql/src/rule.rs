//! Which shard of a table a row belongs to.
//!
//! A rule is SQL of a small kind, so that the server's own value of it can be compared with ours: whole numbers, columns, `+`, `*`,
//! `div`, `%`, `abs(…)` and `crc32(column)`, with SQL's precedence and signs (`-5 % 3` is `-2`). Its number chooses the physical
//! table in the order of the declaration. Where it ends in `% N`, N is the count of tables or a multiple of it, and each table has
//! as many numbers that follow one another.

use crate::names::quoted;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type};
use keepfast_model::{ColumnType, TableSchema};

/// A rule and what its numbers mean for so many tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    text: String,
    value: Value,
    tables: usize,
    /// Numbers that follow one another and mean one table.
    each: i128,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(i128),
    Column(String),
    Crc32(String),
    Abs(Box<Value>),
    Plus(Box<Value>, Box<Value>),
    Times(Box<Value>, Box<Value>),
    /// Truncated towards zero.
    Div(Box<Value>, i128),
    /// With the sign of the left side.
    Rest(Box<Value>, i128),
}

impl Rule {
    /// Reads a rule for a table of so many physical tables.
    pub fn parse(text: &str, tables: usize) -> Result<Self, String> {
        let wrong = |reason: String| {
            format!(
                "its shard_rule '{text}' is none: {reason}; a rule is made of columns, whole numbers, +, *, div, %, abs(…) and \
                 crc32(column), such as 'user_id % 128'"
            )
        };
        let mut parser = Parser { rest: text, deep: 0 };
        let value = parser.sum().map_err(wrong)?;
        if !parser.rest.trim_start().is_empty() {
            return Err(wrong(format!("it goes on with '{}'", parser.rest.trim())));
        }
        let each = match &value {
            Value::Rest(_, slots) => {
                let count = tables as i128;
                if slots % count != 0 {
                    return Err(format!(
                        "its shard_rule '{text}' gives {slots} numbers, which {count} tables cannot share evenly; \
                         they must be as many or a multiple"
                    ));
                }
                slots / count
            }
            _ => 1,
        };
        Ok(Self { text: text.to_owned(), value, tables, each })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Names of the columns that it reads.
    pub fn columns(&self) -> Vec<&str> {
        let mut names = vec![];
        self.value.columns(&mut names);
        names
    }

    /// The rule over the columns of a table.
    pub fn over(&self, schema: &TableSchema) -> Result<Router, String> {
        Ok(Router { rule: self.clone(), value: self.value.over(schema)? })
    }
}

/// A rule whose columns are known.
#[derive(Clone, Debug)]
pub(crate) struct Router {
    rule: Rule,
    value: Bound,
}

#[derive(Clone, Debug)]
enum Bound {
    Number(i128),
    /// Position and name of a column of whole numbers.
    Column(usize, String),
    /// Position, name, and whether it is text.
    Crc32(usize, String, bool),
    Abs(Box<Bound>),
    Plus(Box<Bound>, Box<Bound>),
    Times(Box<Bound>, Box<Bound>),
    Div(Box<Bound>, i128),
    Rest(Box<Bound>, i128),
}

impl Value {
    fn columns<'a>(&'a self, names: &mut Vec<&'a str>) {
        match self {
            Self::Number(_) => {}
            Self::Column(name) | Self::Crc32(name) => names.push(name),
            Self::Abs(of) | Self::Div(of, _) | Self::Rest(of, _) => of.columns(names),
            Self::Plus(a, b) | Self::Times(a, b) => [a, b].into_iter().for_each(|of| of.columns(names)),
        }
    }

    fn over(&self, schema: &TableSchema) -> Result<Bound, String> {
        let find = |name: &String| {
            let exact = schema.columns.iter().position(|c| c.name == *name);
            // The server knows no case in names of columns.
            let found = exact
                .or_else(|| schema.columns.iter().position(|c| c.name.to_lowercase() == name.to_lowercase()));
            found.ok_or_else(|| format!("column '{name}' of its shard_rule is not among its columns"))
        };
        let both =
            |a: &Self, b: &Self| Ok::<_, String>((Box::new(a.over(schema)?), Box::new(b.over(schema)?)));
        Ok(match self {
            Self::Number(number) => Bound::Number(*number),
            Self::Column(name) => {
                let at = find(name)?;
                let column = &schema.columns[at];
                if !whole(&column.column_type) {
                    return Err(format!(
                        "column '{name}' of its shard_rule is of type {}, which is no whole number; crc32({name}) makes one of texts \
                         and bytes",
                        column.column_type
                    ));
                }
                Bound::Column(at, column.name.clone())
            }
            Self::Crc32(name) => {
                let at = find(name)?;
                let column = &schema.columns[at];
                let text = match &column.column_type {
                    ColumnType::Char { .. } | ColumnType::Varchar { .. } | ColumnType::Text => true,
                    ColumnType::Binary { .. } | ColumnType::Varbinary { .. } | ColumnType::Blob => false,
                    other if whole(other) => false,
                    other => {
                        return Err(format!(
                            "crc32({name}) of its shard_rule: a value of type {other} has no bytes to sum"
                        ));
                    }
                };
                Bound::Crc32(at, column.name.clone(), text)
            }
            Self::Abs(of) => Bound::Abs(Box::new(of.over(schema)?)),
            Self::Plus(a, b) => both(a, b).map(|(a, b)| Bound::Plus(a, b))?,
            Self::Times(a, b) => both(a, b).map(|(a, b)| Bound::Times(a, b))?,
            Self::Div(of, by) => Bound::Div(Box::new(of.over(schema)?), *by),
            Self::Rest(of, by) => Bound::Rest(Box::new(of.over(schema)?), *by),
        })
    }
}

fn whole(column_type: &ColumnType) -> bool {
    matches!(
        column_type,
        ColumnType::Int8
            | ColumnType::Int16
            | ColumnType::Int32
            | ColumnType::Int64
            | ColumnType::UInt8
            | ColumnType::UInt16
            | ColumnType::UInt32
            | ColumnType::UInt64
            | ColumnType::Decimal { scale: 0, .. }
    )
}

impl Router {
    /// The physical table of every row of a batch, by its place in the declaration.
    pub fn route(&self, batch: &RecordBatch) -> Result<Vec<u32>, String> {
        (0..batch.num_rows()).map(|row| self.table(batch, row)).collect()
    }

    fn table(&self, batch: &RecordBatch, row: usize) -> Result<u32, String> {
        let text = &self.rule.text;
        let number = self.value.of(batch, row).map_err(|wrong| match wrong {
            Wrong::Null(column) => format!("column '{column}' is NULL, so that '{text}' gives no shard"),
            Wrong::Large => format!("'{text}' gives a number beyond 127 bits"),
        })?;
        if number < 0 {
            return Err(format!(
                "'{text}' gives {number}, and no shard has a number below zero; abs(…) drops the sign"
            ));
        }
        match usize::try_from(number / self.rule.each) {
            Ok(table) if table < self.rule.tables => Ok(table as u32),
            _ => Err(format!("'{text}' gives {number}, and there are {} shards", self.rule.tables)),
        }
    }

    /// SQL that is true for rows that do not belong to a physical table.
    pub fn elsewhere(&self, table: usize) -> String {
        let value = self.value.sql();
        let from = table as i128 * self.rule.each;
        format!("COALESCE({value} NOT BETWEEN {from} AND {}, TRUE)", from + self.rule.each - 1)
    }
}

enum Wrong {
    Null(String),
    Large,
}

impl Bound {
    fn of(&self, batch: &RecordBatch, row: usize) -> Result<i128, Wrong> {
        Ok(match self {
            Self::Number(number) => *number,
            Self::Column(at, name) => {
                number(batch.column(*at), row).ok_or_else(|| Wrong::Null(name.clone()))?
            }
            Self::Crc32(at, name, _) => {
                let array = batch.column(*at);
                if array.is_null(row) {
                    return Err(Wrong::Null(name.clone()));
                }
                let sum = match array.data_type() {
                    DataType::Utf8 => crc32(array.as_string::<i32>().value(row).as_bytes()),
                    DataType::Binary => crc32(array.as_binary::<i32>().value(row)),
                    _ => crc32(number(array, row).unwrap_or(0).to_string().as_bytes()),
                };
                sum.into()
            }
            Self::Abs(of) => of.of(batch, row)?.checked_abs().ok_or(Wrong::Large)?,
            Self::Plus(a, b) => a.of(batch, row)?.checked_add(b.of(batch, row)?).ok_or(Wrong::Large)?,
            Self::Times(a, b) => a.of(batch, row)?.checked_mul(b.of(batch, row)?).ok_or(Wrong::Large)?,
            Self::Div(of, by) => of.of(batch, row)? / by,
            Self::Rest(of, by) => of.of(batch, row)? % by,
        })
    }

    fn sql(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Column(_, name) => quoted(name),
            // Bytes of a text are those of UTF-8, whatever the column's character set.
            Self::Crc32(_, name, true) => format!("CRC32(CONVERT({} USING utf8mb4))", quoted(name)),
            Self::Crc32(_, name, false) => format!("CRC32({})", quoted(name)),
            Self::Abs(of) => format!("ABS({})", of.sql()),
            Self::Plus(a, b) => format!("({} + {})", a.sql(), b.sql()),
            Self::Times(a, b) => format!("({} * {})", a.sql(), b.sql()),
            Self::Div(of, by) => format!("({} DIV {by})", of.sql()),
            Self::Rest(of, by) => format!("({} % {by})", of.sql()),
        }
    }
}

/// A whole number of a physical column; none for NULL.
fn number(array: &ArrayRef, row: usize) -> Option<i128> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::Decimal128(_, _) => array.as_primitive::<Decimal128Type>().value(row),
        _ => return None,
    })
}

/// The CRC-32 of zip and Ethernet, as the servers' `CRC32` gives it.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let mut sum = at as u32;
            let mut bit = 0;
            while bit < 8 {
                sum = if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
                bit += 1;
            }
            table[at] = sum;
            at += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |sum: u32, byte| TABLE[usize::from(sum as u8 ^ byte)] ^ (sum >> 8))
}

/// Parentheses and functions within one another at most.
const DEEPEST: u32 = 32;

struct Parser<'a> {
    rest: &'a str,
    deep: u32,
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn takes(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.rest = &self.rest[wanted.len_utf8()..];
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        match self.takes(wanted) {
            true => Ok(()),
            false => Err(format!("'{wanted}' is missing before '{}'", self.rest.trim())),
        }
    }

    fn sum(&mut self) -> Result<Value, String> {
        let mut left = self.product()?;
        while self.takes('+') {
            left = Value::Plus(Box::new(left), Box::new(self.product()?));
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Value, String> {
        let mut left = self.one()?;
        loop {
            left = match self.peek() {
                Some('*') => {
                    self.takes('*');
                    Value::Times(Box::new(left), Box::new(self.one()?))
                }
                Some('%') => {
                    self.takes('%');
                    Value::Rest(Box::new(left), self.divisor()?)
                }
                Some('/') => return Err("'/' gives fractions; div gives whole numbers".into()),
                Some(c) if c.is_alphabetic() => match self.name() {
                    name if name.eq_ignore_ascii_case("div") => Value::Div(Box::new(left), self.divisor()?),
                    name if name.eq_ignore_ascii_case("mod") => Value::Rest(Box::new(left), self.divisor()?),
                    name => return Err(format!("'{name}' stands where an operator is wanted")),
                },
                _ => return Ok(left),
            };
        }
    }

    fn divisor(&mut self) -> Result<i128, String> {
        match self.one()? {
            Value::Number(number @ 1..) => Ok(number),
            _ => Err("what stands behind % and div is a whole number above zero".into()),
        }
    }

    fn one(&mut self) -> Result<Value, String> {
        self.deep += 1;
        if self.deep > DEEPEST {
            return Err(format!("it is more than {DEEPEST} deep"));
        }
        let value = match self.peek() {
            Some('(') => {
                self.takes('(');
                let value = self.sum()?;
                self.expect(')')?;
                value
            }
            Some(c) if c.is_ascii_digit() => {
                let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
                let (digits, rest) = self.rest.split_at(end);
                self.rest = rest;
                let number: i64 = digits.parse().map_err(|_| format!("{digits} is beyond 63 bits"))?;
                Value::Number(number.into())
            }
            Some('`') => Value::Column(self.quoted()?),
            Some(c) if c.is_alphabetic() || c == '_' => {
                let name = self.name().to_owned();
                match (name.to_ascii_lowercase().as_str(), self.takes('(')) {
                    (_, false) => Value::Column(name),
                    ("abs", true) => {
                        let value = self.sum()?;
                        self.expect(')')?;
                        Value::Abs(Box::new(value))
                    }
                    ("crc32", true) => {
                        let Value::Column(column) = self.one()? else {
                            return Err("crc32 takes a column".into());
                        };
                        self.expect(')')?;
                        Value::Crc32(column)
                    }
                    (_, true) => return Err(format!("there is no function '{name}'")),
                }
            }
            _ => return Err(format!("a value is missing before '{}'", self.rest.trim())),
        };
        self.deep -= 1;
        Ok(value)
    }

    fn name(&mut self) -> &str {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        name
    }

    /// A name in backquotes; one in it stands twice.
    fn quoted(&mut self) -> Result<String, String> {
        self.expect('`')?;
        let mut name = String::new();
        loop {
            let (part, rest) = self.rest.split_once('`').ok_or("a name in backquotes does not end")?;
            name.push_str(part);
            self.rest = rest;
            match rest.strip_prefix('`') {
                Some(rest) => {
                    name.push('`');
                    self.rest = rest;
                }
                None => return Ok(name),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, Int64Array, StringArray};
    use keepfast_model::{Column, ColumnId, TableShape};
    use std::sync::Arc;

    fn schema() -> TableSchema {
        let types = [
            ("id", ColumnType::Int64),
            ("big", ColumnType::UInt64),
            ("na`me", ColumnType::Text),
            ("price", ColumnType::Decimal { precision: 9, scale: 2 }),
        ];
        let columns = types.into_iter().zip(1..).map(|((name, column_type), id)| Column {
            id: ColumnId(id),
            name: name.into(),
            column_type,
            nullable: true,
            default: None,
            origin: None,
        });
        TableSchema { columns: columns.collect(), key: vec![], shape: TableShape::Rows }
    }

    fn batch() -> RecordBatch {
        let big = Decimal128Array::from(vec![Some(i128::from(u64::MAX)), Some(17), None]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(131), Some(-5), None])),
            Arc::new(big.with_precision_and_scale(20, 0).unwrap()),
            Arc::new(StringArray::from(vec![Some("123456789"), Some("中"), None])),
            Arc::new(Decimal128Array::from(vec![1, 2, 3]).with_precision_and_scale(9, 2).unwrap()),
        ];
        RecordBatch::try_new(schema().physical(), columns).unwrap()
    }

    fn table(rule: &str, tables: usize, row: usize) -> Result<u32, String> {
        Rule::parse(rule, tables)?.over(&schema())?.table(&batch(), row)
    }

    #[test]
    fn a_rule_gives_the_number_that_sql_gives() {
        assert_eq!(table("id % 128", 128, 0), Ok(3));
        assert_eq!(table("ID % 128", 128, 0), Ok(3));
        assert_eq!(table("big % 10", 10, 0), Ok(5));
        assert_eq!(table("crc32(`na``me`) % 7", 7, 0), Ok(0xcbf4_3926_u32 % 7));
        assert_eq!(table("abs(id) % 3", 3, 1), Ok(2));
        assert_eq!(table("(id % 8) * 16 + id div 8 % 16", 128, 0), Ok(3 * 16));
        assert_eq!(table("id mod 4", 4, 0), Ok(3));
        // 128 numbers over 16 tables: eight each, one after the other.
        assert_eq!(table("(id + 13) % 128", 16, 0), Ok(2));
        assert_eq!(table("id", 200, 0), Ok(131));
    }

    #[test]
    fn rows_without_a_shard_are_refused_and_say_why() {
        for (rule, tables, row, words) in [
            ("id % 3", 3, 1, "gives -2, and no shard has a number below zero"),
            ("id % 3", 3, 2, "column 'id' is NULL"),
            ("crc32(`na``me`) % 3", 3, 2, "NULL"),
            ("id", 100, 0, "gives 131, and there are 100 shards"),
        ] {
            let error = table(rule, tables, row).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_and_says_why() {
        for (rule, tables, words) in [
            ("id / 3", 3, "'/' gives fractions"),
            ("id % 0", 3, "above zero"),
            ("id % 128", 24, "cannot share evenly"),
            ("id % 4", 8, "cannot share evenly"),
            ("md5(id) % 3", 3, "no function 'md5'"),
            ("id % 3; DROP TABLE t", 3, "it goes on with"),
            ("", 3, "a value is missing"),
            ("(id % 3", 3, "')' is missing"),
            ("`id", 3, "does not end"),
            ("nobody % 3", 3, "not among its columns"),
            ("price % 3", 3, "no whole number"),
            ("`na``me` % 3", 3, "crc32("),
            ("crc32(price) % 3", 3, "no bytes"),
            ("99999999999999999999 + id", 3, "beyond 63 bits"),
        ] {
            let error = table(rule, tables, 0).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert!(table(&"(".repeat(1000), 3, 0).unwrap_err().contains("deep"));
    }

    #[test]
    fn the_server_is_asked_for_rows_that_belong_elsewhere() {
        let router = Rule::parse("id % 128", 16).unwrap().over(&schema()).unwrap();
        assert_eq!(router.elsewhere(2), "COALESCE((`id` % 128) NOT BETWEEN 16 AND 23, TRUE)");
    }
}
