//! Sharded tables as a ShardingSphere configuration declares them: `dataSources`, and of its sharding rules the `actualDataNodes` and the
//! strategies that are remainders of columns.
//!
//! Of YAML this reads blocks of keys and lists by indentation, with plain and quoted values, which is how such files are written;
//! where a value that is needed is written in another way, it says so with its line.

use crate::topology::{MOST, Physical};
use std::collections::{BTreeMap, BTreeSet};

/// A value of the file, under the names that lead to it.
struct Entry<'a> {
    path: Vec<&'a str>,
    value: &'a str,
    line: usize,
}

/// A logical table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    /// Its physical tables, where there is a rule in the order of its numbers.
    pub shards: Vec<Physical>,
    /// Which of them a row belongs to, where its strategies are understood.
    pub rule: Option<String>,
}

/// The logical tables.
///
/// # Errors
/// What is not understood of where tables are, with its line. Strategies that are not understood are left out.
pub(crate) fn tables(text: &str) -> Result<BTreeMap<String, Declared>, String> {
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
        let (name, root) = match entry.path[..] {
            // Before version 5 of it, and since.
            ["shardingRule", "tables", name, "actualDataNodes"] => (name, &entry.path[..1]),
            ["rules", "-", "tables", name, "actualDataNodes"] => (name, &entry.path[..2]),
            _ => continue,
        };
        let mut nodes = vec![];
        for node in split_nodes(scalar(entry)?) {
            for place in inline(node).map_err(|why| wrong(entry, &why))? {
                let (source, table) = place
                    .split_once('.')
                    .ok_or(wrong(entry, "a node has no '.' between data source and table"))?;
                if !databases.contains_key(source) {
                    return Err(wrong(entry, &format!("data source '{source}' is not in dataSources")));
                }
                nodes.push((source.to_owned(), table.to_owned()));
            }
        }
        let rules = Rules { entries: &entries, root };
        let (nodes, rule) = match rules.of(name, &nodes) {
            Some((nodes, rule)) => (nodes, Some(rule)),
            None => (nodes, None),
        };
        let shards = nodes.into_iter().map(|(source, table)| (databases[source.as_str()].clone(), table));
        let declared = Declared { shards: shards.collect(), rule };
        if tables.insert(name.to_owned(), declared).is_some() {
            return Err(wrong(entry, &format!("table '{name}' stands twice")));
        }
    }
    if tables.is_empty() {
        return Err("it declares no table with actualDataNodes".into());
    }
    Ok(tables)
}

/// A data source and a table in it.
type Node = (String, String);

/// The sharding rules of a file.
struct Rules<'a> {
    entries: &'a [Entry<'a>],
    /// The names that lead to them.
    root: &'a [&'a str],
}

/// The names of data sources, or of tables: one, or those that end in a column's remainder.
enum Names<'a> {
    One,
    Remainder { before: Option<&'a str>, column: &'a str, of: usize },
}

impl<'a> Rules<'a> {
    fn value(&self, path: &[&str]) -> Option<&'a str> {
        let found = self.entries.iter().find(|entry| {
            let own = entry.path.strip_prefix(self.root);
            own == Some(path)
        });
        found.and_then(|entry| scalar(entry).ok())
    }

    fn has(&self, path: &[&str]) -> bool {
        self.entries.iter().any(|e| e.path.strip_prefix(self.root).is_some_and(|own| own.starts_with(path)))
    }

    /// The nodes of a table in the order of a rule's numbers, and that rule; none where a strategy is another one than a remainder, or where
    /// there is a node too many or too few for it.
    fn of(&self, table: &str, nodes: &[Node]) -> Option<(Vec<Node>, String)> {
        let databases = self.names(table, "databaseStrategy", "defaultDatabaseStrategy")?;
        let tables = self.names(table, "tableStrategy", "defaultTableStrategy")?;
        let sources = databases.all(nodes.iter().map(|(source, _)| source.as_str()))?;
        let names = tables.all(nodes.iter().map(|(_, name)| name.as_str()))?;
        let product = sources.iter().flat_map(|s| names.iter().map(move |n| (s.clone(), n.clone())));
        let ordered: Vec<Node> = product.collect();
        let same = ordered.iter().collect::<BTreeSet<_>>() == nodes.iter().collect();
        if !same || ordered.len() != nodes.len() {
            return None;
        }
        let rule = match (databases, tables) {
            (Names::One, Names::One) => return None,
            (Names::Remainder { column, of, .. }, Names::One)
            | (Names::One, Names::Remainder { column, of, .. }) => format!("{column} % {of}"),
            (Names::Remainder { column, of, .. }, Names::Remainder { column: second, of: each, .. }) => {
                format!("({column} % {of}) * {each} + {second} % {each}")
            }
        };
        Some((ordered, rule))
    }

    /// What names a strategy gives; none where it is not understood.
    fn names(&self, table: &str, own: &str, default: &str) -> Option<Names<'a>> {
        let path = match [vec!["tables", table, own], vec![default]].into_iter().find(|path| self.has(path)) {
            Some(path) => path,
            None => return Some(Names::One),
        };
        let below = |names: &[&'static str]| [&path[..], names].concat();
        if self.has(&below(&["none"])) {
            return Some(Names::One);
        }
        if let Some(column) = self.value(&below(&["inline", "shardingColumn"])) {
            return remainder(self.value(&below(&["inline", "algorithmExpression"]))?, column);
        }
        let column = self.value(&below(&["standard", "shardingColumn"]))?;
        let algorithm = self.value(&below(&["standard", "shardingAlgorithmName"]))?;
        let of = |names: &[&'static str]| self.value(&[&["shardingAlgorithms", algorithm], names].concat());
        match of(&["type"])?.to_ascii_uppercase().as_str() {
            "INLINE" => remainder(of(&["props", "algorithm-expression"])?, column),
            "MOD" => Some(Names::Remainder {
                before: None,
                column: plain(column)?,
                of: of(&["props", "sharding-count"])?.parse().ok().filter(|of| (1..=MOST).contains(of))?,
            }),
            _ => None,
        }
    }
}

/// The names that `orders_${user_id % 16}` gives, and no other form of expression.
fn remainder<'a>(expression: &'a str, column: &str) -> Option<Names<'a>> {
    let (before, rest) = expression.split_once('$')?;
    let inner = rest.strip_prefix("->").unwrap_or(rest).strip_prefix('{')?.strip_suffix('}')?;
    let (name, of) = inner.split_once('%')?;
    let (name, of) = (plain(name.trim())?, of.trim().parse().ok()?);
    let fits = name.eq_ignore_ascii_case(column) && (1..=MOST).contains(&of);
    fits.then_some(Names::Remainder { before: Some(before), column: name, of })
}

/// A column's name that needs no quotes.
fn plain(column: &str) -> Option<&str> {
    let letters = column.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (letters && column.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')).then_some(column)
}

impl Names<'_> {
    /// All of them in the order of the remainder, where those that are there show it.
    fn all<'n>(&self, there: impl Iterator<Item = &'n str>) -> Option<Vec<String>> {
        // Each once, in the order of the nodes.
        let mut seen = BTreeSet::new();
        let there: Vec<&str> = there.filter(|name| seen.insert(*name)).collect();
        let first = there.first()?;
        match self {
            Self::One => (there.len() == 1).then(|| vec![(*first).to_owned()]),
            Self::Remainder { before: Some(before), of, .. } => {
                Some((0..*of).map(|n| format!("{before}{n}")).collect())
            }
            Self::Remainder { before: None, of, .. } => {
                let before = first.trim_end_matches(|c: char| c.is_ascii_digit());
                let all: Vec<String> = (0..*of).map(|n| format!("{before}{n}")).collect();
                // It takes the first name that ends in the remainder: of 1 and 11 the 1, where that stands first.
                (there == all).then_some(all)
            }
        }
    }
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
        assert_eq!(found["t_order"].shards.len(), 32);
        assert_eq!(found["t_order"].shards[17], ("demo_ds_1".into(), "t_order_1".into()));
        let log: Vec<String> = found["t_log"].shards.iter().map(|(d, t)| format!("{d}.{t}")).collect();
        assert_eq!(log, ["demo_ds_0.t_log", "demo_ds_1.t_log_a", "demo_ds_1.t_log_7"]);
        let older = FILE.replace("rules:\n- !SHARDING\n", "shardingRule:\n");
        assert_eq!(tables(&older).unwrap(), found);
    }

    /// `FILE` with these strategies of `t_order`, and these nodes.
    fn with(nodes: &str, strategies: &str) -> Declared {
        let from = "      tableStrategy:
        standard:
          shardingColumn: order_id
          shardingAlgorithmName: t_order_inline
";
        assert!(FILE.contains(from));
        let more = "    t_order_mod:
      type: MOD
      props:
        sharding-count: 16
    sources:
      type: inline
      props:
        algorithm-expression: \"ds_$->{ user_id%2 }\"
    sources_mod:
      type: MOD
      props:
        sharding-count: 2
    hashed:
      type: HASH_MOD
      props:
        sharding-count: 16
";
        let file = FILE.replace(from, strategies).replace("ds_${0..1}.t_order_${0..15}", nodes) + more;
        tables(&file).unwrap()["t_order"].clone()
    }

    fn strategy(of: &str, column: &str, algorithm: &str) -> String {
        format!(
            "      {of}Strategy:\n        standard:\n          shardingColumn: {column}\n          shardingAlgorithmName: {algorithm}\n"
        )
    }

    #[test]
    fn strategies_that_are_remainders_make_a_rule_and_others_none() {
        let sources = strategy("database", "user_id", "sources");
        let orders = strategy("table", "order_id", "t_order_inline");
        let both = sources.clone() + &orders;
        let all = "ds_${0..1}.t_order_${0..15}";
        let rule = |nodes: &str, strategies: &str| with(nodes, strategies).rule;
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(rule(all, &both), some("(user_id % 2) * 16 + order_id % 16"));
        let modulo = sources.clone() + &strategy("table", "order_id", "t_order_mod");
        assert_eq!(rule(all, &modulo), some("(user_id % 2) * 16 + order_id % 16"));
        assert_eq!(rule("ds_1.t_order_${0..15}", &orders), some("order_id % 16"));
        assert_eq!(rule("ds_${0..1}.t_order", &sources), some("user_id % 2"));
        let modulo_both = strategy("database", "user_id", "sources_mod") + &orders;
        assert_eq!(with(all, &modulo_both), with(all, &both));
        let none = "      tableStrategy:\n        none:\n";
        assert_eq!(rule("ds_${0..1}.t_order", &(sources.clone() + none)), some("user_id % 2"));
        // The order of its numbers, whatever that of the nodes is.
        let turned = with("ds_1.t_order_${0..15},ds_0.t_order_${0..15}", &both);
        assert_eq!(turned, with(all, &both));
        for (nodes, strategies) in [
            // Data sources that no strategy chooses; tables that none does; a node too few, and one too many.
            (all, orders.clone()),
            (all, sources.clone()),
            ("ds_${0..1}.t_order_${0..14}", both.clone()),
            ("ds_${0..1}.t_order_${0..16}", both.clone()),
            ("ds_${0..1}.t_order_${[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,'015']}", both.clone()),
            // Another column than the strategy's, an algorithm that is not there, one that is not understood.
            (all, sources.clone() + &strategy("table", "user_id", "t_order_inline")),
            (all, sources.clone() + &strategy("table", "order_id", "nowhere")),
            // MOD takes the first name that ends in the remainder, and here t_order_11 stands before t_order_1.
            ("ds_${0..1}.t_order_${[11,0,1,2,3,4,5,6,7,8,9,10,12,13,14,15]}", modulo),
            (all, sources + &strategy("table", "order_id", "hashed")),
        ] {
            let found = with(nodes, &strategies);
            assert_eq!(found.rule, None, "{nodes} {strategies}");
            assert!(found.shards.len() > 1);
        }
    }

    #[test]
    fn rules_of_before_version_5_are_read_too() {
        let file = "\
dataSources:
  ds_0:
    url: jdbc:mysql://10.0.0.1/a
  ds_1:
    url: jdbc:mysql://10.0.0.1/b
shardingRule:
  tables:
    t:
      actualDataNodes: ds_${0..1}.t_${0..3}
      tableStrategy:
        inline:
          shardingColumn: id
          algorithmExpression: t_${id % 4}
  defaultDatabaseStrategy:
    inline:
      shardingColumn: user_id
      algorithmExpression: ds_${user_id % 2}
";
        let found = tables(file).unwrap()["t"].clone();
        assert_eq!(found.rule.as_deref(), Some("(user_id % 2) * 4 + id % 4"));
        assert_eq!(found.shards[5], ("b".to_owned(), "t_1".to_owned()));
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
