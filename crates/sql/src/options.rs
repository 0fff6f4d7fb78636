//! What may stand in `WITH (…)` and after `LEVEL`: typed values, the same that the command line's flags take.
//!
//! Every value reads its own text: `text.parse::<Encryption>()` serves `--encrypt` as well as `encrypt = '…'`.

use crate::error::{SqlError, TextPosition, without_secrets};
use crate::parse_moment;
use crate::parser::Cursor;
use jiff::{SignedDuration, Timestamp};
use keepfast_model::ParityChoice;
use keepfast_model::{LockMode, retention_time};
use serde::{Deserialize, Serialize};
use sqlparser::tokenizer::{Token, Word};
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

/// A value that an option does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not valid, it takes {valid}")]
pub struct OptionValueError {
    /// The text as given.
    pub text: String,
    /// What is valid.
    pub valid: &'static str,
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident, $valid:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// The values as a user types them.
            pub const VALID: &'static str = $valid;
        }

        impl FromStr for $name {
            type Err = OptionValueError;
            fn from_str(text: &str) -> Result<Self, OptionValueError> {
                $(if text.eq_ignore_ascii_case($text) { return Ok(Self::$variant); })*
                Err(OptionValueError { text: text.to_owned(), valid: Self::VALID })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text),* })
            }
        }
    };
}

choice! {
    /// How a backup is written.
    BackupMode, "auto, full or incremental" {
        /// Incremental where a base exists and it pays, else full.
        Auto = "auto",
        /// A new base.
        Full = "full",
        /// Changes since the last point; an error where there is none.
        Incremental = "incremental",
    }
}

choice! {
    /// How much of a table's content the store's own checksum covers.
    CertifyLevel, "sample or full" {
        /// Its count, and rotating ranges of keys.
        Sample = "sample",
        /// All of it.
        Full = "full",
    }
}

choice! {
    /// What a restore does with a table that exists.
    IfExists, "replace, fail or merge" {
        /// The restored table takes its place, and the old one is kept beside it.
        Replace = "replace",
        /// It stops before anything is written.
        Fail = "fail",
        /// Restored rows are put into it by key.
        Merge = "merge",
    }
}

choice! {
    /// How deep a verification looks.
    VerifyLevel, "checksum, compare or content" {
        /// Every stored byte, record and key.
        Checksum = "checksum",
        /// Digests computed anew from the rows of vault and live table.
        Compare = "compare",
        /// Row by row, naming keys and columns.
        Content = "content",
    }
}

/// What of a table is encrypted in a vault.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// Nothing.
    None,
    /// These columns, as typed; at least one.
    Columns(Vec<String>),
    /// Everything.
    Full,
}

impl Encryption {
    /// The values as a user types them.
    pub const VALID: &'static str = "none, full or columns:a,b";
}

impl FromStr for Encryption {
    type Err = OptionValueError;
    fn from_str(text: &str) -> Result<Self, OptionValueError> {
        let refuse = || OptionValueError { text: text.to_owned(), valid: Self::VALID };
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self::None);
        }
        if text.eq_ignore_ascii_case("full") {
            return Ok(Self::Full);
        }
        let (head, list) = text.split_once(':').ok_or_else(refuse)?;
        if !head.trim().eq_ignore_ascii_case("columns") {
            return Err(refuse());
        }
        let columns: Vec<String> = list.split(',').map(|c| c.trim().to_owned()).collect();
        let doubled =
            columns.iter().enumerate().any(|(i, c)| columns[..i].iter().any(|d| d.eq_ignore_ascii_case(c)));
        if doubled || columns.iter().any(String::is_empty) {
            return Err(refuse());
        }
        Ok(Self::Columns(columns))
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Columns(columns) => write!(f, "columns:{}", columns.join(",")),
            Self::Full => f.write_str("full"),
        }
    }
}

/// `WITH (…)` of a backup. None means: not stated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupOptions {
    /// `mode = auto | full | incremental`
    pub mode: Option<BackupMode>,
    /// `encrypt = none | full | 'columns:a,b'`
    pub encrypt: Option<Encryption>,
    /// `until = '2026-01-31 10:00'`: an earlier moment.
    pub until: Option<Timestamp>,
    /// `before_transaction = 'GTID'`: the moment before a transaction.
    pub before_transaction: Option<String>,
    /// `certify = sample | full`
    pub certify: Option<CertifyLevel>,
    /// `segment_rows = n`: rows a segment aims at, a power of two from 1,024 to 16,777,216.
    pub segment_rows: Option<u32>,
    /// `parity = none | '16+2' | '2/16' | '10%'`: parity of segments, for a table's first base.
    pub parity: Option<ParityChoice>,
    /// `threads = n`: partitions read at the same time, 1 to 1,024.
    pub threads: Option<NonZeroUsize>,
    /// `require = all | n`: how many targets must stand; none inside means all.
    pub require: Option<Option<NonZeroUsize>>,
    /// `retain_for = '30d' | none`: how long points stay locked; none inside means not at all.
    pub retain_for: Option<Option<SignedDuration>>,
    /// `retain_mode = compliance | governance`
    pub retain_mode: Option<LockMode>,
}

/// `WITH (…)` of a restore. None means: not stated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// `if_exists = replace | fail | merge`
    pub if_exists: Option<IfExists>,
    /// `shard_rule = 'user_id % 128'`: by which rule rows go into shards.
    pub shard_rule: Option<String>,
    /// `threads = n`: partitions written at the same time, 1 to 1,024.
    pub threads: Option<NonZeroUsize>,
}

const BACKUP_KEYS: &str = "mode, until, before_transaction, encrypt, certify, segment_rows, parity, threads, require, retain_for, retain_mode";
const RESTORE_KEYS: &str = "if_exists, shard_rule, threads";

impl Cursor<'_> {
    /// `(key = value, …)` of a backup.
    pub(crate) fn backup_options(&mut self) -> Result<BackupOptions, SqlError> {
        let mut options = BackupOptions::default();
        for mut given in self.option_list()? {
            match given.key.to_ascii_lowercase().as_str() {
                "mode" => given.read(&mut options.mode)?,
                "encrypt" => match given.columns.take() {
                    Some(columns) => given.set(&mut options.encrypt, Encryption::Columns(columns))?,
                    None => given.read(&mut options.encrypt)?,
                },
                "until" => given.read_with(&mut options.until, |text| {
                    parse_moment(text).map_err(|_| OptionValueError {
                        text: text.to_owned(),
                        valid: "a time such as '2026-01-31 10:00'",
                    })
                })?,
                "before_transaction" => {
                    given.read_with(&mut options.before_transaction, |text| Ok(text.to_owned()))?
                }
                "certify" => given.read(&mut options.certify)?,
                "segment_rows" => given.read_with(&mut options.segment_rows, segment_rows)?,
                "parity" => given.read_with(&mut options.parity, parity)?,
                "threads" => given.read_with(&mut options.threads, threads)?,
                "require" => given.read_with(&mut options.require, require)?,
                "retain_for" => given.read_with(&mut options.retain_for, |text| {
                    retention_time(text).map_err(|valid| OptionValueError { text: text.to_owned(), valid })
                })?,
                "retain_mode" => given.read_with(&mut options.retain_mode, |text| {
                    let valid = "compliance or governance";
                    text.parse().map_err(|_| OptionValueError { text: text.to_owned(), valid })
                })?,
                _ => return Err(given.unknown(BACKUP_KEYS)),
            }
        }
        Ok(options)
    }

    /// `(key = value, …)` of a restore.
    pub(crate) fn restore_options(&mut self) -> Result<RestoreOptions, SqlError> {
        let mut options = RestoreOptions::default();
        for given in self.option_list()? {
            match given.key.to_ascii_lowercase().as_str() {
                "if_exists" => given.read(&mut options.if_exists)?,
                "shard_rule" => given.read_with(&mut options.shard_rule, |text| Ok(text.to_owned()))?,
                "threads" => given.read_with(&mut options.threads, threads)?,
                _ => return Err(given.unknown(RESTORE_KEYS)),
            }
        }
        Ok(options)
    }

    fn option_list(&mut self) -> Result<Vec<Given>, SqlError> {
        self.expect_token(&Token::LParen, "'(' after WITH")?;
        let mut list = vec![];
        loop {
            let at = self.at();
            let key = match self.peek().token {
                Token::SingleQuotedString(_) => self.string("an option's name")?,
                _ => self.name("an option's name")?,
            };
            self.expect_token(&Token::Eq, &format!("'=' after the option '{}'", without_secrets(&key)))?;
            let value_at = self.at();
            let key = without_secrets(&key);
            let (value, columns) = self.option_value(&key)?;
            list.push(Given { key, at, value, columns, value_at });
            if !self.accept_token(&Token::Comma) {
                break;
            }
        }
        self.expect_token(&Token::RParen, "',' or ')' after an option")?;
        Ok(list)
    }

    /// A word, a number or a string; also `columns(a, b)`, whose names come apart.
    fn option_value(&mut self, key: &str) -> Result<(String, Option<Vec<String>>), SqlError> {
        let value = match &self.peek().token {
            Token::SingleQuotedString(text) | Token::Number(text, _) => text.clone(),
            Token::Word(Word { value, .. }) => value.clone(),
            Token::Minus | Token::Plus => {
                return Err(self.expected(format!("a value of the option '{key}' without a sign")));
            }
            _ => return Err(self.expected(format!("a value of the option '{key}'"))),
        };
        self.parser.advance_token();
        if value.eq_ignore_ascii_case("columns") && self.peek().token == Token::LParen {
            let columns = self.column_list()?;
            return Ok((format!("{value}({})", columns.join(", ")), Some(columns)));
        }
        Ok((value, None))
    }
}

/// One `key = value` as typed.
struct Given {
    key: String,
    at: TextPosition,
    value: String,
    /// The names of `columns(a, b)`.
    columns: Option<Vec<String>>,
    value_at: TextPosition,
}

impl Given {
    fn read<T: FromStr<Err = OptionValueError>>(self, slot: &mut Option<T>) -> Result<(), SqlError> {
        self.read_with(slot, str::parse)
    }

    fn read_with<T>(
        self,
        slot: &mut Option<T>,
        read: impl FnOnce(&str) -> Result<T, OptionValueError>,
    ) -> Result<(), SqlError> {
        match read(&self.value) {
            Ok(value) => self.set(slot, value),
            Err(error) => Err(SqlError::Option {
                key: self.key,
                reason: format!("takes {}, not '{}'", error.valid, without_secrets(&error.text)),
                at: self.value_at,
            }),
        }
    }

    fn set<T>(self, slot: &mut Option<T>, value: T) -> Result<(), SqlError> {
        match slot.replace(value) {
            Some(_) => Err(SqlError::Option { key: self.key, reason: "stands twice".into(), at: self.at }),
            None => Ok(()),
        }
    }

    fn unknown(self, valid: &str) -> SqlError {
        SqlError::Option { key: self.key, reason: format!("is unknown here, valid are {valid}"), at: self.at }
    }
}

fn segment_rows(text: &str) -> Result<u32, OptionValueError> {
    let valid = "a power of two from 1024 to 16777216";
    text.parse()
        .ok()
        .filter(|n: &u32| n.is_power_of_two() && (1 << 10..=1 << 24).contains(n))
        .ok_or_else(|| OptionValueError { text: text.to_owned(), valid })
}

fn parity(text: &str) -> Result<ParityChoice, OptionValueError> {
    let valid =
        "none, a text such as '16+2' (files + parity files, at most 128+32), or a share such as '10%'";
    text.parse().map_err(|_| OptionValueError { text: text.to_owned(), valid })
}

fn require(text: &str) -> Result<Option<NonZeroUsize>, OptionValueError> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(None);
    }
    let valid = "all, or a number from 1";
    text.parse().map(Some).map_err(|_| OptionValueError { text: text.to_owned(), valid })
}

fn threads(text: &str) -> Result<NonZeroUsize, OptionValueError> {
    text.parse()
        .ok()
        .filter(|n: &NonZeroUsize| n.get() <= 1024)
        .ok_or_else(|| OptionValueError { text: text.to_owned(), valid: "a number from 1 to 1024" })
}
