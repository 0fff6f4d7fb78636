//! Every dependency's licence is on the list of `deny.toml`, and every dependency comes from crates.io.
//!
//! `cargo deny` checks the same and more, where it is installed; this makes sure that the rule holds everywhere.

use crate::workspace::Workspace;
use std::collections::BTreeSet;

/// Says how many dependencies were looked at, or which ones are refused.
pub fn run(workspace: &Workspace) -> Result<String, String> {
    let allowed = allowed(&workspace.read("deny.toml")?);
    if allowed.is_empty() {
        return Err("deny.toml allows no licence at all: is its list `allow = [` still there?".into());
    }
    let lock = workspace.read("Cargo.lock")?;
    if let Some(line) =
        lock.lines().find(|line| line.starts_with("source = ") && !line.contains("crates.io-index"))
    {
        return Err(format!("Cargo.lock has a dependency that is not from crates.io: {line}"));
    }
    let arguments =
        "tree --locked --workspace --target all --edges normal,build,dev --prefix none --format {p}|{l}";
    let listed = workspace.cargo(&arguments.split(' ').collect::<Vec<_>>()).output();
    let listed = listed.map_err(|why| format!("cargo tree did not start: {why}"))?;
    if !listed.status.success() {
        return Err(format!("cargo tree failed: {}", String::from_utf8_lossy(&listed.stderr).trim()));
    }
    let listed = String::from_utf8_lossy(&listed.stdout);
    let mut seen = BTreeSet::new();
    let mut refused = BTreeSet::new();
    for (package, licence) in listed.lines().filter_map(|line| line.split_once('|')) {
        let licence = licence.trim_end_matches(" (*)").trim();
        seen.insert(package);
        if !permits(licence, &allowed) {
            refused.insert(format!(
                "{package}: {}",
                if licence.is_empty() { "no licence stated" } else { licence }
            ));
        }
    }
    match (seen.len(), refused.len()) {
        (0, _) => Err("cargo tree listed nothing".into()),
        (all, 0) => Ok(format!("{all} packages, all under {} allowed licences", allowed.len())),
        _ => Err(format!(
            "licences not allowed by deny.toml: {}",
            refused.into_iter().collect::<Vec<_>>().join("; ")
        )),
    }
}

/// The strings of the list `allow = [ … ]` in the section `[licenses]`.
fn allowed(deny: &str) -> BTreeSet<String> {
    let Some((_, section)) = deny.split_once("[licenses]") else { return BTreeSet::new() };
    let Some((_, list)) = section.split_once("allow = [") else { return BTreeSet::new() };
    let list = list.split_once(']').map_or(list, |(list, _)| list);
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether a licence expression (SPDX, or the older `A/B`) can be satisfied with allowed licences alone.
fn permits(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let good = any(&mut words, allowed);
    good == Some(true) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Option<bool> {
    let mut good = all(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        good |= all(words, allowed)?;
    }
    Some(good)
}

fn all(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Option<bool> {
    let mut good = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        good &= one(words, allowed)?;
    }
    Some(good)
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Option<bool> {
    match words.next()? {
        "(" => {
            let good = any(words, allowed)?;
            words.next_if_eq(&")")?;
            Some(good)
        }
        ")" | "OR" | "AND" | "WITH" => None,
        licence => match words.next_if_eq(&"WITH") {
            Some(_) => Some(allowed.contains(&format!("{licence} WITH {}", words.next()?))),
            None => Some(allowed.contains(licence)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mit_and_apache() -> BTreeSet<String> {
        allowed(
            "[licenses]\nallow = [\n  \"MIT\",\n  \"Apache-2.0\", \"Apache-2.0 WITH LLVM-exception\"\n]\n",
        )
    }

    #[test]
    fn an_expression_is_permitted_when_allowed_licences_satisfy_it() {
        let good =
            ["MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "MIT AND Apache-2.0", "(GPL-3.0 OR MIT) AND Apache-2.0"];
        for expression in good.into_iter().chain(["Apache-2.0 WITH LLVM-exception", "GPL-3.0 AND MIT OR MIT"])
        {
            assert!(permits(expression, &mit_and_apache()), "{expression}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let bad = [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "MIT WITH Other-exception",
            "(MIT",
            "MIT OR",
            "MIT GPL-3.0",
            "mit",
        ];
        for expression in bad {
            assert!(!permits(expression, &mit_and_apache()), "{expression}");
        }
    }
}
