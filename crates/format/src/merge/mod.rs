//! How changes meet their base: per shard and key, base first, then changes in the shard's order.
//!
//! Invariant: rows come out in key order as they came in, and a batch that no change touches comes out as it is.
//! [`keyed`] folds puts, patches and deletes, [`cells`] has deletes over ranges of versions, [`bag`] counts.

pub mod bag;
pub mod cells;
pub mod keyed;
mod rows;
mod walk;

pub use bag::{BagAdditions, BagMerger};
pub use cells::merge_cells;
pub use keyed::merge_keyed;
pub use walk::RowMerger;

/// Rows of a batch that is made anew, at most about.
const BATCH_ROWS: usize = 8_192;
