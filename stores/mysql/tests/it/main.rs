//! Tests on real servers: MariaDB and MySQL, two of each.

mod altered;
mod binlog;
mod common;
mod entering;
mod foreign_keys;
mod loading;
mod oldest;
mod polite;
mod privileges;
mod proof;
mod reading;
mod resharding;
mod topology;
mod types;
mod xa;
