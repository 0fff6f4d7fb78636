//! Places that go wrong on purpose, so that every caller can be tested at every operation.
//!
//! A [`Process`] is one run of a program: it numbers the operations on all places that it [wraps](Process::wrap),
//! makes a fault of its [`Script`] happen where it fits, and remembers every operation by name. What it leaves in the
//! places is what the next process finds. Invariant: a process that has ended changes nothing any more, but for
//! requests that were on their way ([`Fault::Late`]).
//!
//! Everything follows from the script; where callers work on several things at once, which of them has which number
//! follows from how they are scheduled. Read [`fault`](Fault) first.

mod fault;
mod locks;
mod store;
mod trace;
mod volatile;

pub use fault::{Fault, Script};
pub use store::Faulty;
pub use trace::{Count, Kind, Operation, Tally};

use crate::immutability::Immutability;
use crate::target::Target;
use bytes::Bytes;
use jiff::Timestamp;
use keepfast_model::LockMode;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, PutOptions, PutPayload, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use volatile::Volatile;

/// One run of a program, over one or several places. Clones are the same process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    script: Script,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    trace: Vec<Operation>,
    ended: bool,
    full: bool,
    late: Vec<Late>,
    /// By place.
    volatile: HashMap<usize, Volatile>,
    recent: Vec<Recent>,
    places: Vec<Arc<dyn ObjectStore>>,
}

/// A request on its way.
#[derive(Debug)]
struct Late {
    due: u64,
    store: Arc<dyn ObjectStore>,
    request: Request,
}

#[derive(Debug)]
enum Request {
    Put(Path, PutPayload, PutOptions),
    Delete(Path),
    Lock(Arc<dyn Immutability>, Path, LockMode, Timestamp),
}

/// A change that a stale listing does not know of.
#[derive(Debug)]
struct Recent {
    operation: u64,
    place: usize,
    path: Path,
    /// What was deleted; none for what was created.
    deleted: Option<ObjectMeta>,
}

/// An operation that may begin.
struct Begun {
    number: u64,
    fault: Option<Fault>,
}

fn lost() -> Error {
    Error::Generic { store: "faulty", source: "the connection is gone".into() }
}

fn ended() -> Error {
    Error::Generic { store: "faulty", source: "the process has ended".into() }
}

fn refused(path: &str) -> Error {
    Error::PermissionDenied { path: path.to_owned(), source: "refused on purpose".into() }
}

fn full() -> Error {
    let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
    Error::Generic { store: "faulty", source: source.into() }
}

impl Process {
    /// A process that goes wrong as the script says.
    pub fn new(script: Script) -> Self {
        Self { inner: Arc::new(Inner { script, state: Mutex::default() }) }
    }

    /// The same place as this process sees it.
    pub fn wrap(&self, target: &Target) -> Target {
        let place = {
            let mut state = self.state();
            state.places.push(target.store.clone());
            state.places.len() - 1
        };
        let faulty = Arc::new(Faulty {
            process: self.clone(),
            place,
            url: target.url.clone(),
            inner: target.store.clone(),
            barrier: target.barrier().cloned(),
            immutability: target.immutability().cloned(),
        });
        let (prefix, url) = (target.prefix.clone(), target.url.clone());
        let wrapped = Target::with_barrier(faulty.clone(), prefix, url, faulty.clone());
        match target.immutability() {
            Some(_) => wrapped.with_immutability(faulty),
            None => wrapped,
        }
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.state().trace.len() as u64
    }

    /// Every operation, in the order in which they began.
    pub fn trace(&self) -> Vec<Operation> {
        self.state().trace.clone()
    }

    /// Operations counted by kind.
    pub fn tally(&self) -> Tally {
        Tally::of(&self.state().trace, |_| true)
    }

    /// The faults that happened, each with its operation. A test whose fault never came has tested nothing.
    pub fn fired(&self) -> Vec<(Operation, Fault)> {
        self.state().trace.iter().filter_map(|o| Some((o.clone(), o.fault?))).collect()
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// Ends the process now, without a fault at any operation.
    pub fn end(&self) {
        self.state().ended = true;
    }

    /// Lets requests that were on their way take effect.
    pub async fn settle(&self) {
        let late = std::mem::take(&mut self.state().late);
        for request in late {
            request.arrive().await;
        }
    }

    /// No code that holds the lock can panic half way through a change, so a poisoned state is a whole one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers an operation and says what becomes of it.
    async fn begin(&self, kind: Kind, place: &str, path: &str, bytes: u64) -> Result<Begun> {
        let (begun, due) = {
            let mut state = self.state();
            let number = state.trace.len() as u64;
            let fault = match state.ended {
                true => None,
                false => self.inner.script.fault(number, kind),
            };
            state.trace.push(Operation {
                number,
                kind,
                place: place.to_owned(),
                path: path.to_owned(),
                bytes,
                fault,
            });
            if state.ended {
                return Err(ended());
            }
            if state.full && kind == Kind::Put {
                return Err(full());
            }
            let (due, waiting) = std::mem::take(&mut state.late).into_iter().partition(|l| l.due <= number);
            state.late = waiting;
            (Begun { number, fault }, due)
        };
        let due: Vec<Late> = due;
        for late in due {
            late.arrive().await;
        }
        match begun.fault {
            Some(Fault::DiesBefore) => {
                self.end();
                Err(ended())
            }
            Some(Fault::PowerFails { seed }) => {
                self.lose_power(seed).await;
                Err(ended())
            }
            Some(Fault::LosesRequest) => Err(lost()),
            Some(Fault::Refused) => Err(refused(path)),
            Some(Fault::Full) => {
                self.state().full = true;
                Err(full())
            }
            Some(Fault::Overtaken { by }) => {
                self.wait_for(begun.number + by).await;
                Ok(begun)
            }
            _ => Ok(begun),
        }
    }

    /// Waits until an operation of this number has begun, or everything else waits too.
    async fn wait_for(&self, number: u64) {
        const PATIENCE: u32 = 200;
        for _ in 0..PATIENCE {
            if self.operations() > number {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn lose_power(&self, seed: u64) {
        let lost: Vec<_> = {
            let mut state = self.state();
            state.ended = true;
            let places = state.places.clone();
            places
                .into_iter()
                .enumerate()
                .map(|(at, store)| {
                    let survivors = state.volatile.entry(at).or_default().survivors(seed ^ at as u64);
                    (store, survivors)
                })
                .collect()
        };
        for (store, survivors) in lost {
            volatile::lose(&store, survivors).await;
        }
    }

    /// How many bytes an operation read turns out when it is answered.
    fn read(&self, number: u64, bytes: u64) {
        if let Some(operation) = self.state().trace.get_mut(number as usize) {
            operation.bytes = bytes;
        }
    }

    fn may_lose_power(&self) -> bool {
        self.inner.script.any(|f| matches!(f, Fault::PowerFails { .. }))
    }

    fn may_be_stale(&self) -> bool {
        self.inner.script.any(|f| matches!(f, Fault::Stale { .. }))
    }

    /// Notes a change that is not durable yet.
    fn changed(&self, place: usize, path: &Path, before: Option<Bytes>, after: Option<Bytes>) {
        self.state().volatile.entry(place).or_default().changed(path, before, after);
    }

    /// Everything done in a place before is durable.
    fn durable(&self, place: usize) {
        self.state().volatile.entry(place).or_default().durable();
    }

    /// What a listing that is stale by so many operations gets wrong: what it misses, and what it still shows.
    fn stale(&self, place: usize, number: u64, by: u64) -> (Vec<Path>, Vec<ObjectMeta>) {
        let state = self.state();
        let recent = state.recent.iter().filter(|r| r.place == place && r.operation + by > number);
        let (mut missing, mut shown) = (vec![], vec![]);
        for change in recent {
            match &change.deleted {
                None => missing.push(change.path.clone()),
                Some(meta) => shown.push(meta.clone()),
            }
        }
        // What was made and deleted within the window is not known at all.
        shown.retain(|meta| !missing.contains(&meta.location));
        (missing, shown)
    }
}

impl Late {
    /// Whatever the answer is: nobody waits for it.
    async fn arrive(self) {
        match self.request {
            Request::Put(path, payload, options) => {
                drop(self.store.put_opts(&path, payload, options).await);
            }
            Request::Delete(path) => drop(object_store::ObjectStoreExt::delete(&*self.store, &path).await),
            Request::Lock(locks, path, mode, until) => drop(locks.lock(&path, mode, until).await),
        }
    }
}
