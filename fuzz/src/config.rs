//! `keepfast.toml`.

use keepfast_config::{Config, ConfigError};
use std::path::Path;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text, Path::new("keepfast.toml")) {
        Ok(config) => drop(format!("{config:?}")),
        Err(ConfigError::Form { line, .. }) => assert!(line >= 1 && line <= text.lines().count() + 1),
        Err(e) => panic!("{e}: nothing was opened"),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "[stores.shop]\nurl = [\"mysql://b@10.0.0.1:3306\", \"mysql://b:geheim@10.0.0.2\"]\npassword_file = \"/etc/pw\"\n\
         [stores.shop.tables.orders]\nshards = \"shop_{00..07}.orders_{00..15}\"\nkey = \"order_id\"\nshard_rule = \"user_id % 128\"\n",
        "[stores.old]\nurl = \"columnar:///var/old\"\n",
        "stores = { a = { url = 'columnar+s3://b/p', password_env = \"P\" } }\n",
        "[stores.\"a b\"]\nurl = \"\"\"voltdb://h\"\"\"\n# 1979-05-27T07:32:00Z 0x1f inf\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
