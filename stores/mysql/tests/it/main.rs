//! Tests on real servers: MariaDB and MySQL, two of each.

mod common;
mod foreign_keys;
mod loading;
mod reading;
mod resharding;
