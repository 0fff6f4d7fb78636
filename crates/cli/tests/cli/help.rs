//! Help, version and completions; nothing of later versions is shown.

use crate::run::Folder;

#[test]
fn help_shows_the_verbs_that_work_and_no_others() {
    let folder = Folder::new();
    let help = folder.ok(&["help"]);
    let verbs: Vec<&str> =
        help.lines().filter_map(|l| l.strip_prefix("  ")?.split_whitespace().next()).collect();
    for verb in [
        "demo",
        "backup",
        "restore",
        "undo",
        "verify",
        "diff",
        "list",
        "show",
        "query",
        "sql",
        "compact",
        "prune",
        "drop",
        "hold",
        "release",
        "vault",
        "key",
        "import",
        "export",
        "worker",
        "explain",
        "completions",
    ] {
        assert!(verbs.contains(&verb), "{verb} is not in {help}");
        assert!(folder.ok(&["help", verb]).contains("Usage: keepfast"), "{verb}");
    }
    for verb in ["follow", "drill", "plan", "serve"] {
        assert!(!verbs.contains(&verb), "{verb} is in {help}");
        folder.fails(2, &[verb]);
    }
    folder.fails(2, &["vault", "copy"]);
}

#[test]
fn without_a_verb_help_is_shown_as_wrong_use() {
    let folder = Folder::new();
    let run = folder.run(&[]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("Usage:") && run.out.is_empty(), "{run:?}");
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(Folder::new().ok(&["--version"]), format!("keepfast {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_know_the_verbs() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = folder.ok(&["completions", shell]);
        assert!(script.contains("restore") && script.contains("if-exists"), "{shell}");
    }
}
