//! Names and texts as statements write them.

/// A name in backquotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `database`.`table`
pub(crate) fn full(database: &str, table: &str) -> String {
    format!("{}.{}", quoted(database), quoted(table))
}

/// A text in quotes, for sessions without NO_BACKSLASH_ESCAPES.
pub(crate) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_stay_one_name() {
        assert_eq!(full("a`b", "c.d"), "`a``b`.`c.d`");
        assert_eq!(text("it's \\ so"), "'it''s \\\\ so'");
    }
}
