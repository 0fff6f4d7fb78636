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

/// A name in backquotes, and what follows it.
pub(crate) fn name_at(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('`')?;
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('`')?;
        name.push_str(part);
        match after.strip_prefix('`') {
            Some(after) => {
                name.push('`');
                rest = after;
            }
            None => return Some((name, after)),
        }
    }
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
