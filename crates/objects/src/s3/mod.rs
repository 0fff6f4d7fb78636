//! What S3 offers beyond objects: locks and versions, as requests signed by the store's own credentials.
//!
//! The object store library knows neither. Its public parts suffice: it tells an object's URL, its credentials and its
//! HTTP client, and signs any request.

mod client;
mod lock;
mod xml;

pub(crate) use client::{Client, Keep};
