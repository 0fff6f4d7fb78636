//! The commands of the guide and of the README's session, run as they are printed.
//!
//! Invariant: a page never shows a command that does not work. Output is not compared: times and sizes differ.

use crate::steps::Steps;
use crate::workspace::Workspace;
use std::path::Path;
use std::process::Command;

/// Pages whose `console` blocks are one session each, from top to bottom.
const PAGES: [&str; 2] = ["README.md", "docs/guide.md"];

/// Runs each page's session in an empty folder.
pub fn run(workspace: &Workspace, steps: &mut Steps) {
    for page in PAGES {
        steps.step(&format!("commands of {page}"), |_| {
            workspace.read(page).and_then(|text| session(workspace, page, &commands(&text))).into()
        });
    }
}

/// A command as it stands in a page, and the exit code it must end with.
#[derive(Debug, PartialEq, Eq)]
struct Typed {
    text: String,
    exit: i32,
}

/// Lines `$ command` of fenced blocks marked `console`; a trailing `# exit N` says that it does not end with 0.
fn commands(page: &str) -> Vec<Typed> {
    let fenced = page.split("```").skip(1).step_by(2);
    let lines = fenced.filter_map(|block| block.strip_prefix("console\n")).flat_map(str::lines);
    let typed = lines.filter_map(|line| line.strip_prefix("$ "));
    typed
        .map(|line| {
            match line.rsplit_once("# exit ").and_then(|(text, exit)| Some((text, exit.trim().parse().ok()?)))
            {
                Some((text, exit)) => Typed { text: text.trim_end().to_owned(), exit },
                None => Typed { text: line.to_owned(), exit: 0 },
            }
        })
        .collect()
}

fn session(workspace: &Workspace, page: &str, commands: &[Typed]) -> Result<String, String> {
    let name = page.replace(['/', '.'], "-");
    let folder = std::env::temp_dir().join(format!("keepfast-{name}-{}", std::process::id()));
    std::fs::create_dir(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    let failed = commands.iter().find_map(|command| in_folder(workspace, &folder, command).err());
    std::fs::remove_dir_all(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    match failed {
        Some(why) => Err(why),
        None if commands.is_empty() => Err("it shows no command".into()),
        None => Ok(format!("{} commands end as the page says", commands.len())),
    }
}

fn in_folder(workspace: &Workspace, folder: &Path, command: &Typed) -> Result<(), String> {
    let mut path = workspace.release.clone().into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    println!("   $ {}", command.text);
    let mut shell = Command::new("sh");
    shell.args(["-c", &command.text]).current_dir(folder).env("PATH", path).env_remove("KEEPFAST_DATA");
    let status = shell.status().map_err(|why| format!("sh did not start: {why}"))?;
    if status.code() == Some(command.exit) {
        Ok(())
    } else {
        Err(format!("`{}` ended with {status}, the page says {}", command.text, command.exit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_the_dollar_lines_of_console_blocks_with_their_exit_codes() {
        let page = "text $ no\n```console\n$ keepfast list\nname\n$ keepfast verify b  # exit 3\n```\n```sh\n$ other\n```\n";
        let typed = |text: &str, exit| Typed { text: text.into(), exit };
        assert_eq!(commands(page), [typed("keepfast list", 0), typed("keepfast verify b", 3)]);
    }
}
