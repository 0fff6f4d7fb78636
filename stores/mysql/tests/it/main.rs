//! Tests on real servers: MariaDB and MySQL, two of each.

mod binlog;
mod common;
mod conserved;
mod foreign_keys;
mod loading;
mod polite;
mod privileges;
mod proof;
mod reading;
mod resharding;
mod topology;
mod types;
mod xa;
