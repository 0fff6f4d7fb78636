//! MySQL and MariaDB as a store: tables that are spread over databases and servers, read at one moment.
//!
//! Read [`store`](MySqlStore) first, then `barrier` for how all servers are read at one moment, `decode` for how rows become
//! columns, and `binlog` for what happens between two moments.

mod address;
mod barrier;
mod binlog;
mod catalog;
mod connection;
mod cut;
mod decode;
mod definition;
mod definitions;
mod encode;
mod error;
mod family;
mod hook;
mod identity;
mod load;
mod lockless;
mod names;
mod options;
mod past;
mod plan;
mod polite;
mod pool;
mod privileges;
mod prove;
mod rule;
mod scan;
mod sphere;
mod store;
#[doc(hidden)]
pub mod testing;
mod texts;
mod topology;
mod trigger;
mod types;
mod wire;

pub use options::{Lock, Marker, Options, Pause, ShardedTable, Transactions};
pub use polite::Limits;
pub use store::MySqlStore;
