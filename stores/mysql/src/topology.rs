//! Which physical tables a logical one is made of.

/// A physical table of the pattern, as database and table.
pub(crate) type Physical = (String, String);

/// Most tables that a pattern may stand for.
const MOST: usize = 65_536;

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
