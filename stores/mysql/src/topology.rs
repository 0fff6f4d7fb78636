//! Which physical tables a logical one is made of.

/// A physical table of the pattern, as database and table.
pub(crate) type Physical = (String, String);

/// Most tables that a pattern may stand for.
pub(crate) const MOST: usize = 65_536;

/// The physical tables of a pattern such as `shop_{00..07}.orders_{00..15}`, in its order. Both ends of a range have as many digits
/// as the names.
pub(crate) fn expand(pattern: &str) -> Result<Vec<Physical>, String> {
    let mut depth = 0_u32;
    let dot = pattern.bytes().position(|b| {
        match b {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        b == b'.' && depth == 0
    });
    let dot = dot.ok_or("it has no '.' between database and table".to_owned())?;
    let (database, table) = (&pattern[..dot], &pattern[dot + 1..]);
    let (databases, tables) = (names(database)?, names(table)?);
    if databases.len().saturating_mul(tables.len()) > MOST {
        return Err(format!("it stands for more than {MOST} tables"));
    }
    Ok(databases.iter().flat_map(|d| tables.iter().map(|t| (d.clone(), t.clone()))).collect())
}

/// Tables by names with `*`, which stands for any characters: `shop_*.orders_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    database: String,
    table: String,
}

impl Glob {
    pub fn parse(pattern: &str) -> Result<Self, String> {
        if pattern.contains(['{', '}']) {
            return Err("it has both '*' and '{…}', or '{…}' where only '*' is known".into());
        }
        match pattern.split_once('.') {
            Some((database, table)) if !database.is_empty() && !table.is_empty() => {
                Ok(Self { database: database.into(), table: table.into() })
            }
            _ => Err("it has no '.' between database and table".into()),
        }
    }

    /// The part that means databases.
    pub fn database(&self) -> &str {
        &self.database
    }

    pub fn is(&self, (database, table): &Physical) -> bool {
        like(database, &self.database) && like(table, &self.table)
    }
}

/// The shards of a table that are found by a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wild {
    pub shards: Glob,
    pub exclude: Vec<Glob>,
}

impl Wild {
    pub fn is(&self, place: &Physical) -> bool {
        self.shards.is(place)
            && !self.exclude.iter().any(|glob| glob.is(place))
            // What restores keep and make beside is no shard.
            && !place.1.starts_with(crate::load::PREFIX)
            && !["__replaced_", "__undone_"].iter().any(|kept| place.1.contains(kept))
    }
}

/// Whether a name has the parts of a pattern in their order, the first and the last one at its ends.
fn like(name: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return name == pattern };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let (between, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    match name.strip_suffix(last) {
        Some(without) => name = without,
        None => return false,
    }
    for part in between.split('*') {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// The names of one part.
fn names(part: &str) -> Result<Vec<String>, String> {
    let mut all = vec![String::new()];
    let mut rest = part;
    while let Some((before, range)) = rest.split_once('{') {
        let (range, after) = range.split_once('}').ok_or(format!("'{{' in '{part}' has no '}}'"))?;
        let numbers = numbers(range)?;
        if all.len().saturating_mul(numbers.len()) > MOST {
            return Err(format!("'{part}' stands for more than {MOST} names"));
        }
        all = all.iter().flat_map(|name| numbers.iter().map(move |n| format!("{name}{before}{n}"))).collect();
        rest = after;
    }
    all.iter_mut().for_each(|name| name.push_str(rest));
    if all.iter().any(String::is_empty) || rest.contains('}') {
        return Err(format!("'{part}' is no name"));
    }
    Ok(all)
}

/// `00..15` or `a,b,c`.
fn numbers(range: &str) -> Result<Vec<String>, String> {
    let Some((from, to)) = range.split_once("..") else {
        return Ok(range.split(',').map(|name| name.trim().to_owned()).collect());
    };
    let wrong = || format!("'{{{range}}}' is no range of numbers, such as {{00..15}}");
    let (first, last): (u64, u64) = (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
    if last < first || last - first >= MOST as u64 {
        return Err(wrong());
    }
    // Numbers of one length are written with zeros; others as they are.
    let width = if from.len() == to.len() { from.len() } else { 0 };
    Ok((first..=last).map(|n| format!("{n:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_with_a_star_find_tables_and_leave_some_out() {
        let is = |pattern: &str, database: &str, table: &str| {
            Glob::parse(pattern).unwrap().is(&(database.into(), table.into()))
        };
        assert!(is("shop_*.orders_*", "shop_1", "orders_") && is("*.a*b*c", "x", "a1bb2c"));
        assert!(!is("shop_*.orders_*", "shop", "orders_1") && !is("*.ab*ba", "x", "aba"));
        assert!(!is("*.a*b*c", "x", "a1c") && is("d.t", "d", "t") && !is("d.t", "d", "tt"));
        assert!(Glob::parse("orders_*").is_err() && Glob::parse("d.{0..1}*").is_err());
        let wild =
            Wild { shards: Glob::parse("d.o*").unwrap(), exclude: vec![Glob::parse("*.old*").unwrap()] };
        let found = |table: &str| wild.is(&("d".into(), table.into()));
        assert!(found("o1") && !found("old1") && !found("o1__replaced_3_1"));
    }

    #[test]
    fn patterns_stand_for_tables_in_their_order() {
        let all = expand("shop_{00..07}.orders_{00..15}").unwrap();
        assert_eq!(all.len(), 128);
        assert_eq!(all[17], ("shop_01".into(), "orders_01".into()));
        assert_eq!(expand("d.t_{8..11}").unwrap()[2], ("d".into(), "t_10".into()));
        assert_eq!(expand("{eu,us}.t").unwrap()[1].0, "us");
        for wrong in
            ["orders", "d.t_{1..}", "d.t_{5..1}", "d.{", "d.}", ".t", "d.{0..99999999}", "{0..999}.{0..999}"]
        {
            assert!(expand(wrong).is_err(), "{wrong}");
        }
    }
}
