//! Object stores behind URLs, and a folder whose writes are durable.
