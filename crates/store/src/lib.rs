//! The trait family that every store implements, so that the engine sees a store only through it.
//!
//! A [`Store`] opens a [`Cut`](cut::OpenCut) over tables, reads partitions and changes at it, proves its own counts,
//! and takes rows back through a [`Load`]. Capabilities are asked for, never guessed from a store's name.
//! Every implementation passes the suite in [`conformance`]; [`awkward`] is the store that is hardest on callers.

pub mod awkward;
pub mod conformance;
pub mod cut;
pub mod edit;
pub mod error;
pub mod faulty;
pub mod load;
mod row;
pub mod sample;
pub mod store;
pub mod throttled;

pub use cut::{BatchStream, Images, OpenCut, PlanOptions, ProofRequest, ScanOptions, TableAtCut};
pub use edit::{Edit, OnDuplicate, TableEdit};
pub use error::StoreError;
pub use faulty::{Fault, Faulty};
pub use load::{Load, LoadMode, LoadOptions, LoadState, LoadedPart, Published, UndoToken, UnfinishedLoad};
pub use store::{Capabilities, CutKind, CutOptions, Past, PublishKind, Store, TableInfo, Until};
pub use throttled::{Clock, Limits, SystemClock, Throttled};

/// Result of a store's call.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
