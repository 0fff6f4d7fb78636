//! Column types as SQL spells them, in MySQL, PostgreSQL and DataFusion.
//!
//! Read here and not by sqlparser, so that every word of a type is either kept or refused at its place.

use crate::error::{SqlError, TextPosition};
use crate::parser::Cursor;
use crate::source::pieces;
use keepfast_model::ColumnType;
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

/// How many lists may stand inside each other.
const MAX_LISTS: usize = 16;
/// Digits of a bare DECIMAL: as DataFusion has it.
const BARE_DECIMAL: ColumnType = ColumnType::Decimal { precision: 38, scale: 10 };

/// Reads a column type in any of its SQL spellings; the inverse of [`ColumnType::sql`].
///
/// # Errors
/// [`SqlError::Type`] for a type that is unknown or out of range, [`SqlError::Unsupported`] for a known one that a
/// table cannot hold.
pub fn parse_column_type(text: &str) -> Result<ColumnType, SqlError> {
    let mut pieces = pieces(text)?.into_iter();
    let (Some(piece), None) = (pieces.next(), pieces.next()) else {
        return Err(SqlError::Syntax {
            expected: "one column type".into(),
            found: "something else".into(),
            at: TextPosition { line: 1, column: 1 },
        });
    };
    let mut cursor = Cursor::new(piece);
    let declared = cursor.column_type()?;
    cursor.finish()?;
    Ok(declared.column_type)
}

/// A type, and its own text where that says more than the type.
pub(crate) struct Declared {
    pub column_type: ColumnType,
    pub origin: Option<String>,
}

/// What is known while one type is read.
#[derive(Default)]
struct Reading {
    /// `>` that a `>>` has closed ahead of its turn.
    closed: usize,
    /// Whether a width, a precision or a smaller limit was stated that the type itself does not keep.
    says_more: bool,
    lists: usize,
}

impl Cursor<'_> {
    /// A column's type. Something must have been taken before, as a column's name is, for the origin to be right.
    pub(crate) fn column_type(&mut self) -> Result<Declared, SqlError> {
        let mut reading = Reading::default();
        let before = self.parser.get_current_index();
        let column_type = self.any_type(&mut reading)?;
        if reading.closed > 0 {
            return Err(self.expected("one '>' for each '<' before it"));
        }
        let tokens = before + 1..=self.parser.get_current_index();
        let origin = reading.says_more.then(|| spell(tokens.map(|i| self.parser.token_at(i))));
        Ok(Declared { column_type, origin })
    }

    fn any_type(&mut self, reading: &mut Reading) -> Result<ColumnType, SqlError> {
        let mut column_type = self.single_type(reading)?;
        loop {
            let at = self.at();
            if self.accept_token(&Token::LBracket) {
                if !self.accept_token(&Token::RBracket) {
                    return Err(self.expected("']': lists have no fixed length"));
                }
            } else if !self.accept(&["ARRAY"]) {
                return Ok(column_type);
            }
            column_type = list(column_type, reading, at)?;
        }
    }

    fn single_type(&mut self, reading: &mut Reading) -> Result<ColumnType, SqlError> {
        let at = self.at();
        let Some(name) = self.word(0).map(str::to_ascii_uppercase) else {
            return Err(self.expected("a column type"));
        };
        self.parser.advance_token();
        Ok(match name.as_str() {
            "BOOL" | "BOOLEAN" => ColumnType::Boolean,
            "TINYINT" => self.integer(reading, ColumnType::Int8, ColumnType::UInt8)?,
            "SMALLINT" | "INT2" => self.integer(reading, ColumnType::Int16, ColumnType::UInt16)?,
            "MEDIUMINT" => {
                reading.says_more = true;
                self.integer(reading, ColumnType::Int32, ColumnType::UInt32)?
            }
            "INT" | "INTEGER" | "INT4" => self.integer(reading, ColumnType::Int32, ColumnType::UInt32)?,
            "BIGINT" | "INT8" => self.integer(reading, ColumnType::Int64, ColumnType::UInt64)?,
            "REAL" | "FLOAT4" => self.no_unsigned(ColumnType::Float32)?,
            "FLOAT8" => self.no_unsigned(ColumnType::Float64)?,
            "DOUBLE" => {
                self.accept(&["PRECISION"]);
                self.no_unsigned(ColumnType::Float64)?
            }
            "FLOAT" => {
                let bits = self.one_number("FLOAT", 1, 53)?;
                reading.says_more |= bits.is_some();
                self.no_unsigned(if bits.unwrap_or(24) <= 24 {
                    ColumnType::Float32
                } else {
                    ColumnType::Float64
                })?
            }
            "DECIMAL" | "NUMERIC" | "DEC" => {
                let decimal = self.decimal(&name, at)?;
                self.no_unsigned(decimal)?
            }
            "VARCHAR" | "NVARCHAR" => ColumnType::Varchar { length: self.length(&name)? },
            "CHAR" | "CHARACTER" | "NCHAR" => {
                if self.accept(&["VARYING"]) {
                    ColumnType::Varchar { length: self.length(&name)? }
                } else {
                    ColumnType::Char { length: self.length(&name)?.unwrap_or(1) }
                }
            }
            "TEXT" | "STRING" | "CLOB" => self.no_length(&name, "VARCHAR(n)", ColumnType::Text)?,
            "TINYTEXT" | "MEDIUMTEXT" | "LONGTEXT" => {
                reading.says_more = true;
                self.no_length(&name, "VARCHAR(n)", ColumnType::Text)?
            }
            "BINARY" => {
                if self.accept(&["VARYING"]) {
                    ColumnType::Varbinary { length: self.length(&name)? }
                } else {
                    ColumnType::Binary { length: self.length(&name)?.unwrap_or(1) }
                }
            }
            "VARBINARY" => ColumnType::Varbinary { length: self.length(&name)? },
            "BLOB" | "BYTEA" | "BYTES" => self.no_length(&name, "VARBINARY(n)", ColumnType::Blob)?,
            "TINYBLOB" | "MEDIUMBLOB" | "LONGBLOB" => {
                reading.says_more = true;
                self.no_length(&name, "VARBINARY(n)", ColumnType::Blob)?
            }
            "DATE" => ColumnType::Date,
            "TIME" => {
                self.fraction(&name, reading)?;
                if self.zone()? {
                    return Err(SqlError::Unsupported {
                        what: "TIME WITH TIME ZONE".into(),
                        instead: "write TIME, or TIMESTAMP WITH TIME ZONE".into(),
                        at,
                    });
                }
                ColumnType::Time
            }
            "TIMESTAMP" => {
                self.fraction(&name, reading)?;
                ColumnType::Timestamp { zone: self.zone()? }
            }
            "TIMESTAMPTZ" => {
                self.fraction(&name, reading)?;
                ColumnType::Timestamp { zone: true }
            }
            "DATETIME" => {
                self.fraction(&name, reading)?;
                ColumnType::Timestamp { zone: false }
            }
            "JSON" | "JSONB" => ColumnType::Json,
            "UUID" => ColumnType::Uuid,
            "ARRAY" => return self.array(reading, at),
            other => return Err(refused(other, at)),
        })
    }

    /// `ARRAY<T>` and `ARRAY(T)`, behind the first word.
    fn array(&mut self, reading: &mut Reading, at: TextPosition) -> Result<ColumnType, SqlError> {
        if self.accept_token(&Token::LParen) {
            let item = self.any_type(reading)?;
            self.expect_token(&Token::RParen, "')' after the type of the list")?;
            return list(item, reading, at);
        }
        self.expect_token(&Token::Lt, "'<' or '(' after ARRAY")?;
        let item = self.any_type(reading)?;
        if reading.closed > 0 {
            reading.closed -= 1;
        } else if self.accept_token(&Token::ShiftRight) {
            reading.closed += 1;
        } else {
            self.expect_token(&Token::Gt, "'>' after the type of the list")?;
        }
        list(item, reading, at)
    }

    fn integer(
        &mut self,
        reading: &mut Reading,
        signed: ColumnType,
        unsigned: ColumnType,
    ) -> Result<ColumnType, SqlError> {
        // A display width: it limits nothing.
        reading.says_more |= self.one_number("an integer type", 1, 255)?.is_some();
        let column_type = if self.accept(&["UNSIGNED"]) {
            unsigned
        } else {
            self.accept(&["SIGNED"]);
            signed
        };
        self.no_zerofill()?;
        Ok(column_type)
    }

    fn no_zerofill(&self) -> Result<(), SqlError> {
        if self.sees(&["ZEROFILL"]) {
            return Err(self.unsupported("ZEROFILL", "pad with lpad(…) in the query"));
        }
        Ok(())
    }

    /// Refuses UNSIGNED behind a type that has no unsigned form.
    fn no_unsigned(&self, column_type: ColumnType) -> Result<ColumnType, SqlError> {
        if self.sees(&["UNSIGNED"]) {
            return Err(self.unsupported(format!("{} UNSIGNED", column_type.sql()), "leave UNSIGNED out"));
        }
        if self.peek().token == Token::LParen {
            return Err(self.expected("no length for this type"));
        }
        self.no_zerofill()?;
        Ok(column_type)
    }

    fn no_length(&self, name: &str, instead: &str, column_type: ColumnType) -> Result<ColumnType, SqlError> {
        if self.peek().token == Token::LParen {
            return Err(self.unsupported(format!("a length of {name}"), format!("write {instead}")));
        }
        Ok(column_type)
    }

    fn decimal(&mut self, name: &str, at: TextPosition) -> Result<ColumnType, SqlError> {
        if !self.accept_token(&Token::LParen) {
            return Ok(BARE_DECIMAL);
        }
        let precision = self.number("the number of digits")?;
        let scale =
            if self.accept_token(&Token::Comma) { self.number("the digits after the point")? } else { 0 };
        self.expect_token(&Token::RParen, "')' after the digits")?;
        let fits = (1..=38).contains(&precision) && scale <= precision;
        match (u8::try_from(precision), u8::try_from(scale)) {
            (Ok(precision), Ok(scale)) if fits => Ok(ColumnType::Decimal { precision, scale }),
            _ => Err(SqlError::Type {
                text: format!("{name}({precision},{scale})"),
                reason: "takes 1 to 38 digits, at most all of them after the point".into(),
                at,
            }),
        }
    }

    /// `(n)` of a text or binary type, at least 1.
    fn length(&mut self, name: &str) -> Result<Option<u32>, SqlError> {
        let length = self.one_number(name, 1, u64::from(u32::MAX))?;
        Ok(length.and_then(|n| u32::try_from(n).ok()))
    }

    /// `(n)` of digits after the second. Values are kept in microseconds whatever it says.
    fn fraction(&mut self, name: &str, reading: &mut Reading) -> Result<(), SqlError> {
        reading.says_more |= self.one_number(name, 0, 6)?.is_some_and(|n| n < 6);
        Ok(())
    }

    fn one_number(&mut self, name: &str, least: u64, most: u64) -> Result<Option<u64>, SqlError> {
        if !self.accept_token(&Token::LParen) {
            return Ok(None);
        }
        let at = self.at();
        let number = self.number("a number")?;
        if !(least..=most).contains(&number) {
            return Err(SqlError::Type {
                text: format!("{name}({number})"),
                reason: format!("takes a number from {least} to {most}"),
                at,
            });
        }
        self.expect_token(&Token::RParen, "')' after the number")?;
        Ok(Some(number))
    }

    /// `[WITH TIME ZONE | WITHOUT TIME ZONE]`
    fn zone(&mut self) -> Result<bool, SqlError> {
        if self.accept(&["WITH", "TIME", "ZONE"]) {
            return Ok(true);
        }
        if self.sees(&["WITH", "LOCAL"]) {
            return Err(self.unsupported("WITH LOCAL TIME ZONE", "write WITH TIME ZONE"));
        }
        self.accept(&["WITHOUT", "TIME", "ZONE"]);
        Ok(false)
    }
}

fn list(item: ColumnType, reading: &mut Reading, at: TextPosition) -> Result<ColumnType, SqlError> {
    reading.lists += 1;
    if reading.lists > MAX_LISTS {
        let reason = format!("holds more than {MAX_LISTS} lists inside each other");
        return Err(SqlError::Type { text: "of a list".into(), reason, at });
    }
    Ok(ColumnType::List(Box::new(item)))
}

/// The error for a type that is no column type here.
fn refused(name: &str, at: TextPosition) -> SqlError {
    let instead = match name {
        "ENUM" | "SET" => "write VARCHAR(n)",
        "BIT" | "VARBIT" => "write BOOLEAN or BINARY(n)",
        "YEAR" => "write SMALLINT",
        "INTERVAL" => "write BIGINT with the unit in the column's name",
        "SERIAL" | "BIGSERIAL" | "SMALLSERIAL" | "SERIAL4" | "SERIAL8" => "write BIGINT and give the numbers",
        "TIMETZ" => "write TIME, or TIMESTAMP WITH TIME ZONE",
        "MONEY" => "write DECIMAL(19,4)",
        "STRUCT" | "MAP" | "TUPLE" | "UNION" | "OBJECT" | "VARIANT" => "write JSON",
        "GEOMETRY" | "GEOGRAPHY" | "POINT" | "XML" | "HSTORE" | "INET" | "CIDR" | "MACADDR" => {
            "write TEXT or BLOB"
        }
        _ => {
            return SqlError::Type {
                text: name.to_owned(),
                reason:
                    "is unknown; INT, BIGINT, DOUBLE, DECIMAL(p,s), VARCHAR(n), BLOB, DATE and TIMESTAMP are \
                         the most used ones"
                        .into(),
                at,
            };
        }
    };
    SqlError::Unsupported { what: format!("column type {name}"), instead: instead.into(), at }
}

/// Tokens as text, with spaces only between words.
fn spell<'t>(tokens: impl Iterator<Item = &'t TokenWithSpan>) -> String {
    let mut text = String::new();
    let mut after_word = false;
    for token in tokens {
        let is_word = matches!(token.token, Token::Word(Word { .. }));
        if is_word && (after_word || text.ends_with(')')) {
            text.push(' ');
        }
        match &token.token {
            Token::Word(word) => text.push_str(&word.value.to_ascii_uppercase()),
            other => text.push_str(&other.to_string()),
        }
        after_word = is_word;
    }
    text
}
