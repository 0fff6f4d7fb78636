//! Tests on real servers: MariaDB and MySQL, two of each.

mod common;
mod loading;
mod reading;
