//! Sharded tables as a ShardingSphere configuration declares them: `dataSources` and the `actualDataNodes` of its sharding rules.
//!
//! Of YAML this reads blocks of keys and lists by indentation, with plain and quoted values, which is how such files are written;
//! where a value that is needed is written in another way, it says so with its line.

use crate::topology::{MOST, Physical};
use std::collections::BTreeMap;

/// A value of the file, under the names that lead to it.
struct Entry<'a> {
    path: Vec<&'a str>,
    value: &'a str,
    line: usize,
}

/// The physical tables of each logical one.
///
/// # Errors
/// What is not understood, with its line.
pub(crate) fn tables(text: &str) -> Result<BTreeMap<String, Vec<Physical>>, String> {
    let entries = entries(text)?;
    let mut databases = BTreeMap::new();
    for entry in &entries {
        if let ["dataSources", name, "url" | "jdbcUrl" | "standardJdbcUrl"] = entry.path[..] {
            databases.insert(
                name.to_owned(),
                database(scalar(entry)?).ok_or(wrong(entry, "it names no database"))?,
            );
        }
    }
    let mut tables = BTreeMap::new();
    for entry in &entries {
        let name = match entry.path[..] {
            // Before version 5 of it, and since.
            ["shardingRule", "tables", name, "actualDataNodes"] => name,
            ["rules", "-", "tables", name, "actualDataNodes"] => name,
            _ => continue,
        };
        let mut nodes = vec![];
        for node in split_nodes(scalar(entry)?) {
            for place in inline(node).map_err(|why| wrong(entry, &why))? {
                let (source, table) = place
                    .split_once('.')
                    .ok_or(wrong(entry, "a node has no '.' between data source and table"))?;
                let database = databases
                    .get(source)
                    .ok_or(wrong(entry, &format!("data source '{source}' is not in dataSources")))?;
                nodes.push((database.clone(), table.to_owned()));
            }
        }
        if tables.insert(name.to_owned(), nodes).is_some() {
            return Err(wrong(entry, &format!("table '{name}' stands twice")));
        }
    }
    if tables.is_empty() {
        return Err("it declares no table with actualDataNodes".into());
    }
    Ok(tables)
}

fn wrong(entry: &Entry<'_>, why: &str) -> String {
    format!("line {}: {why}", entry.line)
}

/// A value that stands on its line, without its quotes.
fn scalar<'a>(entry: &Entry<'a>) -> Result<&'a str, String> {
    let value = entry.value;
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote) {
            return match inner.split_once(quote) {
                Some((inner, rest))
                    if !inner.contains('\\') && (rest.is_empty() || rest.starts_with(' ')) =>
                {
                    Ok(inner)
                }
                _ => Err(wrong(entry, "its quotes are not understood")),
            };
        }
    }
    let plain = value.split(" #").next().unwrap_or_default().trim_end();
    if plain.is_empty() || plain.starts_with(['&', '*', '!', '|', '>', '[', '{', '%', '@', '`']) {
        return Err(wrong(entry, "its value must stand behind it, as plain or quoted text"));
    }
    Ok(plain)
}

/// All values in the order of the file.
fn entries(text: &str) -> Result<Vec<Entry<'_>>, String> {
    let mut entries = vec![];
    let mut open: Vec<(usize, &str)> = vec![];
    // A value of several lines goes on while they are indented more than its key.
    let mut block: Option<usize> = None;
    for (line, whole) in (1..).zip(text.lines()) {
        let mut rest = whole.trim_start_matches(' ');
        let mut indent = whole.len() - rest.len();
        if rest.is_empty() || rest.starts_with('#') || rest.starts_with("---") {
            continue;
        }
        if rest.starts_with('\t') {
            return Err(format!("line {line}: it is indented by a tab"));
        }
        if block.is_some_and(|of| indent > of) {
            continue;
        }
        block = None;
        while let Some(item) = rest.strip_prefix("- ").or((rest == "-").then_some("")) {
            // A list may stand as far left as its key.
            open.retain(|(at, name)| *at < indent || *at == indent && *name != "-");
            open.push((indent, "-"));
            let item_rest = item.trim_start_matches(' ');
            indent += rest.len() - item_rest.len();
            rest = item_rest;
        }
        let Some((key, value)) = rest.split_once(':').filter(|(_, v)| v.is_empty() || v.starts_with(' '))
        else {
            // An item of a list, a tag such as !SHARDING, or a line of a value: nothing with a name.
            continue;
        };
        let (key, value) = (key.trim_matches(['"', '\'']).trim(), value.trim());
        open.retain(|(at, _)| *at < indent);
        let path = open.iter().map(|(_, name)| *name).chain([key]).collect();
        open.push((indent, key));
        if value.starts_with(['|', '>']) {
            block = Some(indent);
        }
        entries.push(Entry { path, value, line });
    }
    Ok(entries)
}

/// The database of `jdbc:mysql://host:3306/database?…`.
fn database(url: &str) -> Option<String> {
    let rest = url.strip_prefix("jdbc:mysql://").or_else(|| url.strip_prefix("jdbc:mariadb://"))?;
    let name = rest.split_once('/')?.1.split('?').next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Nodes with commas between them, which stand in expressions too.
fn split_nodes(nodes: &str) -> Vec<&str> {
    let (mut depth, mut start, mut all) = (0_u32, 0, vec![]);
    for (at, c) in nodes.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                all.push(nodes[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    all.push(nodes[start..].trim());
    all
}

/// The names of an inline expression: `t_${0..15}`, `t_$->{['a', 'b']}`.
fn inline(text: &str) -> Result<Vec<String>, String> {
    let mut all = vec![String::new()];
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        let inner = after.strip_prefix("->").unwrap_or(after).strip_prefix('{');
        let (inner, tail) =
            inner.and_then(|i| i.split_once('}')).ok_or(format!("'{text}' has a '$' without {{…}}"))?;
        let names = names(inner.trim()).ok_or(format!(
            "of inline expressions ranges such as ${{0..15}} and lists such as ${{['a', 'b']}} are understood, and '{inner}' is neither"
        ))?;
        if all.len().saturating_mul(names.len()) > MOST {
            return Err(format!("'{text}' stands for more than {MOST} tables"));
        }
        all = all
            .iter()
            .flat_map(|head| names.iter().map(move |name| format!("{head}{before}{name}")))
            .collect();
        rest = tail;
    }
    all.iter_mut().for_each(|name| name.push_str(rest));
    Ok(all)
}

fn names(inner: &str) -> Option<Vec<String>> {
    if let Some((from, to)) = inner.split_once("..") {
        let (from, to): (u32, u32) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        return (from <= to && to - from < MOST as u32).then(|| (from..=to).map(|n| n.to_string()).collect());
    }
    let list = inner.strip_prefix('[')?.strip_suffix(']')?;
    let name = |item: &str| {
        let item = item.trim();
        let quoted = ['\'', '"'].iter().find_map(|q| item.strip_prefix(*q)?.strip_suffix(*q));
        let name = quoted.or_else(|| item.bytes().all(|b| b.is_ascii_digit()).then_some(item))?;
        (!name.is_empty() && !name.contains(['\'', '"', '$'])).then(|| name.to_owned())
    };
    list.split(',').map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# Sharding of the shop
databaseName: sharding_db
dataSources:
  ds_0:
    url: jdbc:mysql://10.0.0.1:3306/demo_ds_0?serverTimezone=UTC&useSSL=false
    username: root
    password: geheim
  ds_1:
    url: \"jdbc:mysql://10.0.0.2:3306/demo_ds_1\"
rules:
- !SHARDING
  tables:
    t_order: # the orders
      actualDataNodes: ds_${0..1}.t_order_${0..15}
      tableStrategy:
        standard:
          shardingColumn: order_id
          shardingAlgorithmName: t_order_inline
    t_log:
      actualDataNodes: 'ds_0.t_log, ds_1.t_log_$->{[\"a\", 7]}'
  shardingAlgorithms:
    t_order_inline:
      type: INLINE
      props:
        algorithm-expression: t_order_${order_id % 16}
";

    #[test]
    fn tables_of_a_file_are_those_of_its_nodes() {
        let found = tables(FILE).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found["t_order"].len(), 32);
        assert_eq!(found["t_order"][17], ("demo_ds_1".into(), "t_order_1".into()));
        let log: Vec<String> = found["t_log"].iter().map(|(d, t)| format!("{d}.{t}")).collect();
        assert_eq!(log, ["demo_ds_0.t_log", "demo_ds_1.t_log_a", "demo_ds_1.t_log_7"]);
        let older = FILE.replace("rules:\n- !SHARDING\n", "shardingRule:\n");
        assert_eq!(tables(&older).unwrap(), found);
    }

    #[test]
    fn what_is_not_understood_is_named_with_its_line_and_no_password() {
        for (from, to, said) in [
            ("ds_${0..1}.t_order_${0..15}", "ds_${0..1}.t_order_${0..order_id}", "neither"),
            ("ds_${0..1}.t_order_${0..15}", "ds_${0..2}.t_order_${0..15}", "'ds_2' is not in dataSources"),
            ("ds_${0..1}.t_order_${0..15}", "*nodes", "line 14: its value must stand behind it"),
            ("ds_${0..1}.t_order_${0..15}", "ds_${0..70000}.t_order_${0..70000}", "line 14"),
            ("/demo_ds_0?", "?", "line 5: it names no database"),
            ("    t_log:", "\tt_log:", "tab"),
            ("actualDataNodes", "nodes", "no table"),
        ] {
            let error = tables(&FILE.replace(from, to)).unwrap_err();
            assert!(error.contains(said), "{error}");
            assert!(!error.contains("geheim"), "{error}");
        }
    }
}
