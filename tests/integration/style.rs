//! Plain words and whole comments, as docs/STYLE.md asks for, and documentation that names files that exist.

use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

const ARCHAIC_WORDS: [&str; 6] = ["whoever", "anew", "nobody", "somebody", "whosoever", "wherefore"];
/// Files that are not checked, because they quote these words or contain texts of other authors.
const UNCHECKED: [&str; 3] = ["docs/STYLE.md", "tests/integration/style.rs", "tests/fixtures/"];
/// The width in `.rustfmt.toml`. Rustfmt does not apply it to comments.
const COLUMNS: usize = 120;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn paths() -> Vec<String> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().expect("git runs");
    let listed = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    listed.split_terminator('\0').map(str::to_owned).collect()
}

/// Returns the files that end in one of `endings`, with their text.
fn files(endings: &[&str]) -> Vec<(String, String)> {
    let mut paths = paths();
    paths.retain(|path| endings.iter().any(|ending| path.ends_with(ending)));
    paths.retain(|path| !UNCHECKED.iter().any(|unchecked| path.starts_with(unchecked)));
    assert!(paths.len() > 10, "too few files: {paths:?}");
    // Git also lists a file that is deleted in the working tree.
    paths
        .into_iter()
        .filter_map(|path| Some((path.clone(), std::fs::read_to_string(root().join(path)).ok()?)))
        .collect()
}

/// Fails with the path and number of each line for which `is_fault` returns true.
fn expect_no_line(endings: &[&str], is_fault: impl Fn(&str) -> bool) {
    let mut faults = Vec::new();
    for (path, text) in files(endings) {
        let lines = text.lines().enumerate().filter(|(_, line)| is_fault(line));
        faults.extend(lines.map(|(at, line)| format!("{path}:{}: {}", at + 1, line.trim())));
    }
    assert!(faults.is_empty(), "{} lines:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn plain_words_are_used() {
    let endings = [".rs", ".md", ".py", ".mjs", ".toml", ".sql", ".yml", ".trycmd", "/run", "justfile"];
    expect_no_line(&endings, |line| {
        let line = line.to_lowercase();
        line.split(|c: char| !c.is_alphabetic()).any(|word| ARCHAIC_WORDS.contains(&word))
    });
}

#[test]
fn comments_fit_into_a_line() {
    expect_no_line(&[".rs"], |line| line.trim_start().starts_with("//") && line.chars().count() > COLUMNS);
}

/// A doc comment of one or two words repeats the name or says too little. Help texts have no full stop and may be short.
#[test]
fn doc_comments_are_sentences() {
    let block = Regex::new(r"(?m)(^ *//[/!].*\n)+").unwrap();
    let too_short = Regex::new(r"^//[/!] ([^\s`\[]+ )?[^\s`\[]+\.$").unwrap();
    for (path, text) in files(&[".rs"]) {
        let mut comments = block.find_iter(&text).map(|comment| comment.as_str().trim());
        assert_eq!(comments.find(|comment| too_short.is_match(comment)), None, "in {path}");
    }
}

#[test]
fn paths_in_the_documentation_exist() {
    let quoted =
        Regex::new(r"`((?:server|cli|common|tests|docs|migrations)/[\w./-]*|[\w./-]+\.rs|[\w-][\w/-]*/)`").unwrap();
    let all: Vec<_> = paths().iter().map(|path| format!("/{path}")).collect();
    let exists = |wanted: &str| {
        let wanted = format!("/{wanted}");
        let followed = |rest: &str| wanted.ends_with('/') || rest.is_empty() || rest.starts_with('/');
        all.iter().any(|path| path.match_indices(&wanted).any(|(at, _)| followed(&path[at + wanted.len()..])))
    };
    for (path, text) in files(&[".md"]).into_iter().filter(|(path, _)| path != "CHANGELOG.md") {
        for quoted in quoted.captures_iter(&text) {
            assert!(exists(&quoted[1]), "{path} names {}, which does not exist", &quoted[1]);
        }
    }
}
