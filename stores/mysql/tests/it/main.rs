//! Tests on real servers: MariaDB and MySQL, two of each.

mod altered;
mod binlog;
mod common;
mod conserved;
mod definitions;
mod entering;
mod families;
mod foreign_keys;
mod loading;
mod merging;
mod oddities;
mod oldest;
mod planning;
mod polite;
mod privileges;
mod proof;
mod proxy;
mod reading;
mod resharding;
mod sakila;
mod topology;
mod types;
mod xa;
