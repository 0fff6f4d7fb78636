//! `keepfast explain`: the page of an error code.

use crate::app::App;
use crate::args::ExplainArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::table::{Grid, Side::Left};
use crate::output::{Report, human};
use keepfast_model::Code;
use serde_json::json;
use std::io::{self, Write};

include!(concat!(env!("OUT_DIR"), "/pages.rs"));

pub fn run(app: &App, args: ExplainArgs) -> Result<Exit, CliError> {
    let Some(code) = args.code else {
        let list: Vec<_> =
            PAGES.iter().map(|(n, p)| json!({"code": Code(*n).to_string(), "title": title(p)})).collect();
        app.out.show(&AllCodes, &list)?;
        return Ok(Exit::Done);
    };
    let page = number(&code).and_then(|n| PAGES.iter().find(|(known, _)| *known == n));
    let Some((n, text)) = page else { return Err(CliError::NoPage { code: human::safe(&code) }) };
    app.out
        .line(text.trim_end(), &json!({"code": Code(*n).to_string(), "title": title(text), "text": text}))?;
    Ok(Exit::Done)
}

/// `KF0301`, `kf301` or `301`.
fn number(code: &str) -> Option<u16> {
    let digits = code.trim();
    let digits = digits.get(..2).filter(|p| p.eq_ignore_ascii_case("kf")).map_or(digits, |_| &digits[2..]);
    digits.parse().ok()
}

/// The heading without the code.
fn title(page: &str) -> &str {
    let line = page.lines().next().unwrap_or_default();
    line.split_once(": ").map_or(line, |(_, title)| title)
}

struct AllCodes;

impl Report for AllCodes {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut grid = Grid::new([("code", Left), ("meaning", Left)]);
        for (n, page) in PAGES {
            grid.row([Code(*n).to_string(), title(page).to_owned()]);
        }
        grid.write(out, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_people_write_them() {
        for text in ["KF0301", "kf0301", "301", " KF301 "] {
            assert_eq!(number(text), Some(301), "{text}");
        }
        for text in ["", "KF", "KFx", "ü", "KF99999"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
