//! Reading S3's answers: flat elements between tags, without attributes that matter.
//!
//! An answer that is not what was expected gives nothing, and the caller says so; it is never a panic.

/// The texts of all elements of this name, in order, markup inside included.
pub(super) fn all<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}"), format!("</{name}>"));
    let mut found = vec![];
    let mut rest = xml;
    while let Some(at) = rest.find(&open) {
        rest = &rest[at + open.len()..];
        // `<Version` is not `<VersionId>`.
        if !rest.starts_with(['>', ' ', '/']) {
            continue;
        }
        let Some(start) = rest.find('>') else { break };
        if rest[..start].ends_with('/') {
            found.push("");
            rest = &rest[start + 1..];
            continue;
        }
        let Some(end) = rest.find(&close).filter(|end| *end > start) else { break };
        found.push(&rest[start + 1..end]);
        rest = &rest[end + close.len()..];
    }
    found
}

/// The text of the first element of this name.
pub(super) fn first<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    all(xml, name).into_iter().next()
}

/// Text without its escapes.
pub(super) fn text(escaped: &str) -> String {
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(end) = rest.find(';').filter(|end| *end <= 8) else {
            out.push('&');
            rest = &rest[1..];
            continue;
        };
        let number = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        let decoded = match &rest[1..end] {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            n if n.starts_with("#x") => number(&n[2..], 16),
            n if n.starts_with('#') => number(&n[1..], 10),
            _ => None,
        };
        match decoded {
            Some(c) => out.push(c),
            None => out.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_their_whole_name() {
        let xml = r#"<L xmlns="x"><Version><Key>a&amp;b</Key><VersionId>1</VersionId></Version><Empty/><Version a="b"><Key>c</Key></Version></L>"#;
        assert_eq!(all(xml, "Version").len(), 2);
        assert_eq!(first(xml, "VersionId"), Some("1"));
        assert_eq!(first(xml, "Empty"), Some(""));
        assert_eq!(text(first(xml, "Key").unwrap()), "a&b");
        assert_eq!(first(xml, "Nothing"), None);
    }

    #[test]
    fn broken_answers_give_nothing() {
        for xml in ["", "<", "<A", "<A>", "<A>x", "</A><A", "<A/", "&#xffffffff;", "&&&;", "<A>é&#x0;"] {
            let _ = (all(xml, "A"), text(xml));
        }
        assert_eq!(text("&#x41;&#66;&quot;&unknown;&"), "AB\"&unknown;&");
    }
}
