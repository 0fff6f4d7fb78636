//! Errors of servers as errors of stores.

use crate::address::Address;
use crate::wire::WireError;
use keepfast_store::StoreError;

/// Numbers by which servers say that an account may not do something.
const DENIED: [u16; 10] = [1044, 1045, 1130, 1142, 1143, 1227, 1370, 1419, 1698, 3118];

/// Numbers by which servers say that they do not know what a statement asks for: syntax, character sets, collations, engines, options, types.
const UNKNOWN: [u16; 7] = [1064, 1115, 1235, 1273, 1286, 1911, 4161];

/// What went wrong with a server while `what` was tried.
pub(crate) fn failed(what: &str, server: &Address, error: WireError) -> StoreError {
    let (what, object) = (what.to_owned(), server.to_string());
    match error.code() {
        Some(code) if DENIED.contains(&code) => StoreError::Denied { what, object, source: error.into() },
        Some(code) if UNKNOWN.contains(&code) => {
            StoreError::Unsupported { store: object, what: format!("{what}: {error}") }
        }
        _ => StoreError::Unavailable { what, object, source: error.into() },
    }
}
