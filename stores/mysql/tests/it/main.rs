//! Tests on real servers: MariaDB and MySQL, two of each.

mod binlog;
mod common;
mod foreign_keys;
mod loading;
mod oddities;
mod planning;
mod polite;
mod privileges;
mod proof;
mod proxy;
mod reading;
mod resharding;
mod topology;
mod types;
mod xa;
