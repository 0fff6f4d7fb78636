//! A unit of parallel reading: plain data that can travel to another process.

use crate::ids::{ByteCount, ShardId};
use crate::key::KeyRange;
use crate::name::TableName;
use serde::{Deserialize, Serialize};

/// A shard or a key range of it. Partitions of a table cover its keys without gap or overlap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The table.
    pub table: TableName,
    /// Its number in the plan, from 0; partitions of one shard stand in key order.
    pub index: u32,
    /// The shard.
    pub shard: ShardId,
    /// The keys it covers.
    #[serde(default)]
    pub range: KeyRange,
    /// Rows expected; a guess.
    #[serde(default)]
    pub rows_expected: u64,
    /// Bytes expected to be read; a guess.
    #[serde(default)]
    pub bytes_expected: ByteCount,
    /// What the store needs to read it again in another process; opaque to everybody else, and free of secrets.
    #[serde(default)]
    pub token: serde_json::Value,
}
