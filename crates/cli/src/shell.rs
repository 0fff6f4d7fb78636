//! The interactive SQL shell: statements end in `;` and may span lines; an error never ends it.

use crate::app::App;
use crate::args::WorkersArg;
use crate::error::CliError;
use crate::exit::{Exit, print_error};
use crate::output::statements;
use keepfast_sql::{is_complete, parse};
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Config, Editor};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

const PROMPT: &str = "keepfast> ";
const CONTINUED: &str = "      ... ";
const HISTORY: &str = "sql_history";

const HELP: &str = "\
Statements end in ';' and may span lines. Ctrl-C clears the line or stops a statement; Ctrl-D leaves.

  BACKUP TABLE t TO 'name';                      make a restore point
  RESTORE TABLE t [AS new] FROM 'name';          bring it back; AS OF POINT n or TIMESTAMP '…' for an older state
  VERIFY BACKUP 'name' LEVEL compare;            prove it; checksum, compare or content
  SHOW BACKUPS;  SHOW RESTORE POINTS FROM 'name';  DESCRIBE BACKUP 'name';
  SELECT … FROM backup('name', 't' [, 'as of']); query a backup without restoring it
  CREATE TABLE, INSERT, UPDATE, DELETE, DROP TABLE, SELECT   on the embedded tables

  \\d          tables           \\d NAME     columns of a table
  \\l          backups          \\timing     time of every statement on or off
  \\h          this help        \\q          leave
";

/// Runs the shell until it is left.
///
/// # Errors
/// [`CliError::Terminal`] where lines cannot be read, [`CliError::Stream`] where standard output fails. Errors of
/// statements are shown and nothing more.
pub async fn run(app: &App) -> Result<Exit, CliError> {
    let terminal = |source| CliError::Terminal { source };
    let config = Config::builder().auto_add_history(false).max_history_size(2000).map_err(terminal)?.build();
    let mut editor = Editor::<(), DefaultHistory>::with_config(config).map_err(terminal)?;
    editor.set_history_ignore_space(true);
    let history = app.data().join(HISTORY);
    // A missing history is an empty one; an unreadable one must not keep anybody from working.
    let _ = editor.load_history(&history);
    let mut shell = Shell { app, timing: false };
    if std::io::stdin().is_terminal() {
        let mut out = app.out.writer();
        writeln!(
            out,
            "Keepfast {}, tables in {}; \\h for help",
            env!("CARGO_PKG_VERSION"),
            app.data().display()
        )?;
        out.flush()?;
    }
    let mut text = String::new();
    let exit = loop {
        let prompt = if text.is_empty() { PROMPT } else { CONTINUED };
        match tokio::task::block_in_place(|| editor.readline(prompt)) {
            Ok(line) => {
                if text.is_empty() && line.trim().is_empty() {
                    continue;
                }
                let command = text.is_empty() && line.trim_start().starts_with('\\');
                text.push_str(&line);
                if !command && !is_complete(&text) {
                    text.push('\n');
                    continue;
                }
                let entry = std::mem::take(&mut text);
                remember(&mut editor, &history, &entry);
                if shell.entry(entry.trim(), command).await? == Next::Leave {
                    break Exit::Done;
                }
            }
            Err(ReadlineError::Interrupted) => text.clear(),
            Err(ReadlineError::Eof) => {
                // What stands there without `;` when input ends is still meant.
                let rest = std::mem::take(&mut text);
                if !rest.trim().is_empty() {
                    shell.entry(rest.trim(), false).await?;
                }
                break Exit::Done;
            }
            Err(source) => return Err(terminal(source)),
        }
    };
    Ok(exit)
}

/// Keeps an entry in the history, unless it holds a password. Only a folder that exists gets a history.
fn remember(editor: &mut Editor<(), DefaultHistory>, history: &PathBuf, entry: &str) {
    if holds_secret(entry) {
        return;
    }
    if matches!(editor.add_history_entry(entry), Ok(true)) && history.parent().is_some_and(|p| p.is_dir()) {
        // The history is a convenience; it must not fail a statement.
        let _ = editor.append_history(history);
    }
}

/// Whether a URL in the text holds a password.
fn holds_secret(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(['\'', '"', ' ', '\n', '#', '?']).next().unwrap_or_default();
        authority.rfind('@').is_some_and(|at| authority[..at].contains(':'))
    })
}

/// Whether the shell goes on.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Read,
    Leave,
}

struct Shell<'a> {
    app: &'a App,
    timing: bool,
}

impl Shell<'_> {
    async fn entry(&mut self, entry: &str, command: bool) -> Result<Next, CliError> {
        if command {
            return self.command(entry.trim_end_matches(';')).await;
        }
        self.statements(entry).await?;
        Ok(Next::Read)
    }

    async fn command(&mut self, text: &str) -> Result<Next, CliError> {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        match (word, rest.trim()) {
            ("\\q" | "\\quit", _) => return Ok(Next::Leave),
            ("\\d", "") => self.statements("SHOW TABLES").await?,
            ("\\d", table) => self.statements(&format!("DESCRIBE {table}")).await?,
            ("\\l", _) => self.statements("SHOW BACKUPS").await?,
            ("\\h" | "\\?" | "\\help", _) => self.say(HELP)?,
            ("\\timing", _) => {
                self.timing = !self.timing;
                self.say(if self.timing { "timing is on\n" } else { "timing is off\n" })?;
            }
            (other, _) => self.say(&format!("there is no command {other}; \\h shows them\n"))?,
        }
        Ok(Next::Read)
    }

    fn say(&self, text: &str) -> Result<(), CliError> {
        let mut out = self.app.out.writer();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// Runs statements up to the first error, which is shown.
    async fn statements(&self, text: &str) -> Result<(), CliError> {
        let parsed = match parse(text) {
            Ok(parsed) => parsed,
            Err(e) => {
                print_error(&e.into(), false);
                return Ok(());
            }
        };
        for statement in &parsed {
            // Each statement has its own Ctrl-C.
            let cancel = self.app.interrupt.renew();
            let engine = self.app.engine_with(WorkersArg::Threads, cancel.clone());
            let began = Instant::now();
            let mut out = self.app.out.writer();
            let ended = match engine.execute(statement).await {
                Ok(outcome) => statements::write_text(&mut out, outcome, began, &cancel, self.timing).await,
                Err(e) => Err(e.into()),
            };
            out.flush()?;
            match ended {
                Ok(Exit::Done) => {}
                Ok(_) => break,
                Err(e @ CliError::Stream { .. }) => return Err(e),
                Err(e) => {
                    print_error(&e, false);
                    break;
                }
            }
        }
        self.app.interrupt.renew();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_with_a_password_are_not_remembered() {
        assert!(holds_secret("BACKUP TABLE t TO 'mysql://u:geheim@h/d'"));
        assert!(!holds_secret("BACKUP TABLE t TO 's3://bucket/x#b'"));
        assert!(!holds_secret("RESTORE TABLE t FROM 'b@3'"));
        assert!(!holds_secret("SELECT 'mail: a@b'"));
    }
}
