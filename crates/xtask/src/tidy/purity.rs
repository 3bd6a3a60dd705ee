//! Purity: a crate says on line 1 whether it is pure or edge, and a pure one keeps its word.

use proc_macro2::{Delimiter, TokenTree};

use super::finding::Finding;
use super::house::{House, Member, Origin, TextFile};
use super::source::{self, Source, is_punct};

/// Returns crates whose first line, clippy list or dependencies do not fit what they are.
pub(crate) fn check_crates(house: &House) -> Vec<Finding> {
    house.members.iter().flat_map(|member| check_crate(house, member)).collect()
}

/// Returns what the sources of a pure crate must not mention.
pub(crate) fn check_source(source: &Source) -> Vec<Finding> {
    if source.is_tests() || !source.crate_folder().is_some_and(is_pure) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut found = |name: &str, tree: &TokenTree| {
        let message = format!("a pure crate does not use `{name}`: take the value as an argument");
        findings.push(Finding::new(&source.path, source::line(tree), message));
    };
    source::walk(source.code.clone(), &mut |rest| {
        let Some(TokenTree::Ident(first)) = rest.first() else { return };
        if let Some(word) = BANNED_WORDS.iter().find(|word| first == *word) {
            found(word, &rest[0]);
        }
        if first == "std" {
            for (module, tree) in modules_of_std(rest) {
                found(&format!("std::{module}"), &tree);
            }
        }
    });
    findings
}

fn check_crate(house: &House, member: &Member) -> Vec<Finding> {
    let folder = member.folder.as_str();
    let root = format!("crates/{folder}");
    let head =
        ["src/lib.rs", "src/main.rs"].iter().find_map(|p| house.file(&format!("{root}/{p}")));
    let mut findings = Vec::new();
    match head {
        Some(file) => findings.extend(check_head(folder, file)),
        None => findings.push(Finding::new(&root, 1, "has neither lib.rs nor main.rs: add one")),
    }
    if is_pure(folder) {
        let path = format!("{root}/clippy.toml");
        let text = house.file(&path).map_or("", |file| file.text.as_str());
        findings.extend(check_clippy(&path, text));
        findings.extend(check_dependencies(member));
    }
    findings
}

fn check_head(folder: &str, file: &TextFile) -> Option<Finding> {
    let wanted = if is_pure(folder) { "//! Pure." } else { "//! Edge." };
    let message = format!("line 1 does not say what the crate is: begin it with `{wanted}`");
    (!file.text.starts_with(wanted)).then(|| Finding::new(&file.path, 1, message))
}

fn check_clippy(path: &str, text: &str) -> Vec<Finding> {
    let table: toml::Table = text.parse().unwrap_or_default();
    let listed = |key: &str, wanted: &str| {
        let entries = table.get(key).and_then(toml::Value::as_array);
        entries.is_some_and(|entries| {
            entries.iter().any(|entry| {
                let path = entry.get("path").unwrap_or(entry);
                path.as_str() == Some(wanted)
            })
        })
    };
    let types = DISALLOWED_TYPES.iter().map(|name| ("disallowed-types", *name));
    let methods = DISALLOWED_METHODS.iter().map(|name| ("disallowed-methods", *name));
    types
        .chain(methods)
        .filter(|(key, name)| !listed(key, name))
        .map(|(key, name)| {
            Finding::new(path, 1, format!("`{key}` lacks `{name}`: a pure crate must list it"))
        })
        .collect()
}

fn check_dependencies(member: &Member) -> Vec<Finding> {
    let path = format!("crates/{}/Cargo.toml", member.folder);
    let lines = member.dependencies.iter().filter(|line| {
        line.origin == Origin::Elsewhere
            && line.kind == cargo_metadata::DependencyKind::Normal
            && BANNED_PACKAGES.contains(&line.name.as_str())
    });
    lines
        .map(|line| {
            let message = format!("a pure crate does not depend on `{}`: move it up", line.name);
            Finding::new(&path, 1, message)
        })
        .collect()
}

/// Returns the banned modules in `std::module` and `std::{module, …}`.
fn modules_of_std(rest: &[TokenTree]) -> Vec<(String, TokenTree)> {
    let [_, first, second, next, ..] = rest else { return Vec::new() };
    if !is_punct(first, ':') || !is_punct(second, ':') {
        return Vec::new();
    }
    let candidates = match source::group(next, Delimiter::Brace) {
        None => vec![next.clone()],
        Some(group) => {
            let trees: Vec<TokenTree> = group.stream().into_iter().collect();
            trees
                .split(|tree| is_punct(tree, ','))
                .filter_map(|part| part.first().cloned())
                .collect()
        }
    };
    candidates
        .into_iter()
        .map(|tree| (tree.to_string(), tree))
        .filter(|(name, _)| BANNED_MODULES.contains(&name.as_str()))
        .collect()
}

fn is_pure(folder: &str) -> bool {
    PURE.contains(&folder)
}

const PURE: &[&str] = &["crypto", "model", "luks"];
/// `std::time::Duration` is a value and stays allowed.
const BANNED_MODULES: &[&str] = &["fs", "net", "env", "thread", "process"];
const BANNED_WORDS: &[&str] = &["SystemTime", "Instant", "tokio", "tracing"];
const BANNED_PACKAGES: &[&str] =
    &["getrandom", "libc", "log", "rustix", "signal-hook", "tempfile", "tokio", "tracing"];
const DISALLOWED_TYPES: &[&str] =
    &["std::fs::File", "std::net::TcpStream", "std::time::Instant", "std::time::SystemTime"];
const DISALLOWED_METHODS: &[&str] =
    &["std::env::var", "std::thread::spawn", "std::fs::read", "std::fs::write"];

#[cfg(test)]
mod tests {
    use super::super::house::Dependency;
    use super::*;

    fn complaints(path: &str, text: &str) -> String {
        let source = Source::parse(&TextFile::new(path, text)).unwrap();
        check_source(&source).iter().map(|finding| format!("{finding}\n")).collect()
    }

    #[test]
    fn finds_files_sockets_threads_clocks_and_the_environment() {
        for text in [
            "use std::fs;",
            "use std::{fmt, net::TcpStream};",
            "fn a() { let _ = std::env::var(\"A\"); }",
            "fn a() { assert!(std::thread::panicking()); }",
            "use std::time::{Duration, Instant};",
            "use std::time::SystemTime;",
            "fn a() { std::process::abort() }",
            "fn a() { tracing::info!(\"a\"); }",
        ] {
            assert!(complaints("crates/luks/src/a.rs", text).contains("a.rs:1: a pure"), "{text}");
        }
    }

    #[test]
    fn lets_durations_comments_and_tests_be() {
        let text =
            "//! Not std::fs.\nuse std::time::Duration;\n#[cfg(test)]\nmod tests { use std::fs; }";
        assert_eq!(complaints("crates/luks/src/a.rs", text), "");
        assert_eq!(complaints("crates/luks/tests/it/main.rs", "use std::fs;"), "");
    }

    #[test]
    fn lets_edge_crates_be() {
        assert_eq!(complaints("crates/disk/src/a.rs", "use std::fs;"), "");
    }

    #[test]
    fn finds_a_first_line_that_says_nothing() {
        let file = TextFile::new("crates/luks/src/lib.rs", "//! LUKS.\n");
        assert!(check_head("luks", &file).unwrap().to_string().contains("`//! Pure.`"));
        assert!(check_head("disk", &file).unwrap().to_string().contains("`//! Edge.`"));
        let file = TextFile::new("crates/luks/src/lib.rs", "//! Pure. LUKS.\n");
        assert!(check_head("luks", &file).is_none());
    }

    #[test]
    fn finds_a_gap_in_the_clippy_list() {
        let text = "disallowed-types = [\"std::fs::File\", { path = \"std::time::Instant\" }]";
        let findings = check_clippy("crates/luks/clippy.toml", text);
        let lines: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
        assert!(lines.contains("std::time::SystemTime") && lines.contains("std::env::var"));
        assert!(!lines.contains("std::fs::File") && !lines.contains("std::time::Instant"));
    }

    #[test]
    fn finds_a_package_that_is_not_pure() {
        let line = Dependency {
            name: "rustix".to_owned(),
            kind: cargo_metadata::DependencyKind::Normal,
            origin: Origin::Elsewhere,
        };
        let member = Member { folder: "luks".to_owned(), dependencies: vec![line] };
        assert_eq!(check_dependencies(&member).len(), 1);
    }
}
