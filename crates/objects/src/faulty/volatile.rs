//! What a place would lose if the power failed now.
//!
//! A deferred put and a delete are not durable before the next barrier. Until then a power failure may leave any state
//! that the object had since the last barrier, and the newest bytes torn.

use bytes::Bytes;
use keepfast_model::random::Random;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use std::collections::BTreeMap;
use std::sync::Arc;

/// States of one object since the last barrier, the oldest first; none where it was absent.
type States = Vec<Option<Bytes>>;

/// What is not durable in one place.
#[derive(Debug, Default)]
pub(super) struct Volatile {
    objects: BTreeMap<Path, States>,
}

impl Volatile {
    pub fn durable(&mut self) {
        self.objects.clear();
    }

    /// An object changed from one state into another.
    pub fn changed(&mut self, path: &Path, before: Option<Bytes>, after: Option<Bytes>) {
        self.objects.entry(path.clone()).or_insert_with(|| vec![before]).push(after);
    }

    /// What each object is after a power failure. Its oldest state was durable and is whole.
    pub fn survivors(&mut self, seed: u64) -> Vec<(Path, Option<Bytes>)> {
        let mut random = Random::new(seed);
        std::mem::take(&mut self.objects)
            .into_iter()
            .map(|(path, states)| {
                let chosen = random.below(states.len() as u64) as usize;
                let state = states.into_iter().nth(chosen).flatten();
                let left = state.map(|bytes| match random.below(4) {
                    0 if chosen > 0 => Bytes::new(),
                    1 if chosen > 0 => bytes.slice(..random.below(bytes.len() as u64) as usize),
                    _ => bytes,
                });
                (path, left)
            })
            .collect()
    }
}

/// Leaves in the store what a power failure leaves.
pub(super) async fn lose(store: &Arc<dyn ObjectStore>, survivors: Vec<(Path, Option<Bytes>)>) {
    for (path, state) in survivors {
        // A store that cannot do this leaves the object as it is, which is one of its states too.
        match state {
            Some(bytes) => {
                drop(store.put_opts(&path, PutPayload::from(bytes), PutMode::Overwrite.into()).await);
            }
            None => drop(store.delete(&path).await),
        }
    }
}
