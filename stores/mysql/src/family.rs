//! Statements of one family of servers, run on one of the other.
//!
//! Each takes most of what the other writes. What stands in nearly every statement of MySQL and is unknown to most of MariaDB's servers are
//! collations of Unicode: they are named as the server knows them. All else is left to the server, which refuses what it does not know.

use crate::connection::Connection;
use crate::wire::WireError;

/// Collations of MySQL, and of MariaDB: both by Unicode's algorithm, of editions 9 and 14, or by code points. MySQL's do not regard spaces at
/// the end as padding, nor do those of MariaDB that stand for them; all named here become MySQL's.
const COLLATIONS: [(&str, [&str; 2]); 4] = [
    ("utf8mb4_0900_ai_ci", ["utf8mb4_uca1400_nopad_ai_ci", "utf8mb4_uca1400_ai_ci"]),
    ("utf8mb4_0900_as_ci", ["utf8mb4_uca1400_nopad_as_ci", "utf8mb4_uca1400_as_ci"]),
    ("utf8mb4_0900_as_cs", ["utf8mb4_uca1400_nopad_as_cs", "utf8mb4_uca1400_as_cs"]),
    ("utf8mb4_0900_bin", ["utf8mb4_nopad_bin", "utf8mb4_nopad_bin"]),
];

/// The server's number for a collation that it does not know.
const UNKNOWN: u16 = 1273;

/// The other family's collation that is nearest.
fn nearest(name: &[u8]) -> Option<&'static str> {
    COLLATIONS.iter().find_map(|(mysql, mariadb)| {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        match is(mysql) {
            true => Some(mariadb[0]),
            false => mariadb.iter().any(|other| is(other)).then_some(*mysql),
        }
    })
}

/// A statement with collations that the server knows, where it does not know its own; which ones were put in the place of which.
pub(crate) async fn adapted(
    at: &mut Connection,
    statement: &[u8],
) -> Result<(Vec<u8>, Vec<(String, &'static str)>), WireError> {
    let (mut made, mut from) = (vec![], 0);
    let mut replaced: Vec<(String, &'static str)> = vec![];
    for (begin, end) in pieces(statement) {
        let Some(other) = nearest(&statement[begin..end]) else { continue };
        let own = String::from_utf8_lossy(&statement[begin..end]).into_owned();
        if !replaced.iter().any(|(known, _)| *known == own) {
            match at.rows(&format!("SELECT _utf8mb4'' COLLATE {own}")).await {
                Err(e) if e.code() == Some(UNKNOWN) => replaced.push((own, other)),
                answer => {
                    answer?;
                    continue;
                }
            }
        }
        made.extend_from_slice(&statement[from..begin]);
        made.extend_from_slice(other.as_bytes());
        from = end;
    }
    made.extend_from_slice(&statement[from..]);
    Ok((made, replaced))
}

/// Comments that are read by the one family alone, and not by this server: parts of the statement for it are missing here.
async fn unread(at: &mut Connection, statement: &[u8]) -> Result<Vec<String>, WireError> {
    let texts = pieces(statement).into_iter().map(|(begin, end)| &statement[begin..end]);
    let comments: Vec<&[u8]> = texts.filter(|text| text.starts_with(b"/*")).collect();
    if comments.is_empty() {
        return Ok(vec![]);
    }
    let version = at.rows("SELECT VERSION()").await?;
    let version = version.first().and_then(|row| row.first()?.as_deref()).unwrap_or_default();
    let mariadb = version.windows(7).any(|word| word == b"MariaDB");
    let unread = comments.into_iter().filter(|text| match text.strip_prefix(b"/*!") {
        None => !mariadb,
        Some(rest) => mariadb && mysql_alone(rest),
    });
    Ok(unread.map(|text| String::from_utf8_lossy(text).into_owned()).collect())
}

/// Whether MariaDB skips a comment of this version, which stands at its beginning.
fn mysql_alone(text: &[u8]) -> bool {
    let digits: String = text.iter().take_while(|c| c.is_ascii_digit()).map(|c| char::from(*c)).collect();
    digits.len() == 5 && digits.parse().is_ok_and(|version| (50_700..100_000).contains(&version))
}

/// As [`adapted`], and says what was replaced, and what the server leaves out.
pub(crate) async fn adapted_aloud(
    at: &mut Connection,
    statement: &[u8],
    of: &str,
) -> Result<Vec<u8>, WireError> {
    let (made, replaced) = adapted(at, statement).await?;
    for (own, other) in replaced {
        tracing::warn!("{of}: this server does not know collation {own}; it has {other} instead");
    }
    for comment in unread(at, statement).await? {
        tracing::warn!("{of}: this server does not read {comment}, and has it without that");
    }
    Ok(made)
}

/// Where the words of a statement stand that are not in quotes, and comments that only some servers read, as a whole.
fn pieces(text: &[u8]) -> Vec<(usize, usize)> {
    let (mut all, mut at) = (vec![], 0);
    while let Some(&c) = text.get(at) {
        let begin = at;
        match c {
            b'\'' | b'"' | b'`' => {
                at += 1;
                while text.get(at).is_some_and(|other| *other != c) {
                    at += if text[at] == b'\\' && c != b'`' { 2 } else { 1 };
                }
                at += 1;
            }
            b'/' if is_conditional(&text[at..]) => {
                let end = text[at..].windows(2).position(|two| two == b"*/");
                at = end.map_or(text.len(), |end| at + end + 2);
                all.push((begin, at));
            }
            _ if is_letter(c) => {
                at += text[at..].iter().take_while(|c| is_letter(**c)).count();
                all.push((begin, at));
            }
            _ => at += 1,
        }
    }
    all
}

/// Whether a comment begins that the one family reads and the other does not.
fn is_conditional(text: &[u8]) -> bool {
    text.starts_with(b"/*M!") || text.strip_prefix(b"/*!").is_some_and(mysql_alone)
}

fn is_letter(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_words_outside_quotes_and_comments_of_one_family() {
        let text = r"TABLE `a b``c` (x char(3) COLLATE=utf8mb4_0900_bin COMMENT 'it\'s /*M! b', y /*!80023 INVISIBLE */ /*!50100 z */ /*M!100301 w*/) é 'open \";
        let found: Vec<&str> = pieces(text.as_bytes()).into_iter().map(|(b, e)| &text[b..e]).collect();
        let words = ["TABLE", "x", "char", "3", "COLLATE", "utf8mb4_0900_bin", "COMMENT", "y"];
        let comments = ["/*!80023 INVISIBLE */", "50100", "z", "/*M!100301 w*/", "é"];
        assert_eq!(found, [&words[..], &comments].concat());
        assert_eq!(pieces(b"/*!80023"), [(0, 8)]);
    }

    #[test]
    fn each_familys_collations_have_one_of_the_other() {
        assert_eq!(nearest(b"UTF8MB4_0900_ai_ci"), Some("utf8mb4_uca1400_nopad_ai_ci"));
        for name in ["utf8mb4_uca1400_ai_ci", "utf8mb4_uca1400_nopad_ai_ci"] {
            assert_eq!(nearest(name.as_bytes()), Some("utf8mb4_0900_ai_ci"));
        }
        assert_eq!(nearest(b"utf8mb4_general_ci"), None);
    }
}
