//! Kinds of stores, as the scheme of their URLs.

/// All kinds that a URL may name; a program may link fewer.
pub const SCHEMES: [&str; 7] = ["columnar", "mysql", "mariadb", "phoenix", "hbase", "tablestore", "voltdb"];

/// Whether a URL names a store rather than a vault.
pub fn is_store_url(url: &str) -> bool {
    scheme(url).is_some_and(|s| SCHEMES.contains(&s))
}

/// The kind of store that a URL names; `columnar+s3://…` is a columnar store in a bucket.
pub fn scheme(url: &str) -> Option<&str> {
    let (scheme, _) = url.split_once("://")?;
    Some(scheme.split_once('+').map_or(scheme, |(kind, _)| kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_stores_are_told_from_those_of_vaults() {
        for url in
            ["columnar:///x", "columnar+s3://b/p", "mysql://h", "phoenix://h", "tablestore://h", "voltdb://h"]
        {
            assert!(is_store_url(url), "{url}");
        }
        for url in ["s3://bucket/x", "/folder", "file:///x", "orders", "gs://mysql"] {
            assert!(!is_store_url(url), "{url}");
        }
    }
}
