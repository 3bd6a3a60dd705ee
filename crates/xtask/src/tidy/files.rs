//! Files: none too long, none named for nothing.

use super::finding::Finding;
use super::source::Source;

/// Returns what is wrong with a file's name and the folders it lies in.
pub(crate) fn check_path(path: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if path.ends_with("/mod.rs") {
        let message = "no mod.rs here: name the file after its module, beside the folder";
        findings.push(Finding::new(path, 1, message));
    }
    let rust = path.strip_suffix(".rs");
    let names: Vec<&str> = rust.unwrap_or(path).split('/').collect();
    // The last part of another file, such as a script, is no module.
    let modules = if rust.is_some() { &names[..] } else { &names[..names.len() - 1] };
    if path.starts_with("crates/") || path.starts_with("fuzz/") || path.starts_with("benches/") {
        let named = modules.iter().filter(|name| says_nothing(name));
        findings.extend(named.map(|name| Finding::new(path, 1, complaint(name))));
    }
    if let ["crates", name @ ("error" | "errors"), ..] = names[..] {
        let message = format!("no crate `{name}`: every crate has its own error beside its code");
        findings.push(Finding::new(path, 1, message));
    }
    findings
}

/// Returns a finding when a file has too many lines that are not tests.
pub(crate) fn check_length(source: &Source) -> Vec<Finding> {
    let lines = source.code_lines();
    if lines <= MOST_LINES {
        return Vec::new();
    }
    let message = format!("{lines} lines without tests, {MOST_LINES} at most: split it");
    vec![Finding::new(&source.path, MOST_LINES, message)]
}

/// Returns whether a name of a module says nothing about what is inside.
pub(crate) fn says_nothing(name: &str) -> bool {
    let last = name.rsplit(['_', '-']).next().unwrap_or(name);
    BANNED.contains(&last)
}

/// Returns what to say about such a name.
pub(crate) fn complaint(name: &str) -> String {
    format!("`{name}` says nothing: name it after what it holds")
}

const MOST_LINES: usize = 800;
const BANNED: &[&str] =
    &["utils", "util", "helpers", "helper", "common", "misc", "types", "manager", "managers"];

#[cfg(test)]
mod tests {
    use super::super::house::TextFile;
    use super::*;

    fn complaints(path: &str) -> String {
        check_path(path).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn finds_mod_rs() {
        assert!(complaints("crates/luks/src/header/mod.rs").contains("no mod.rs"));
        assert_eq!(complaints("crates/luks/src/header.rs"), "");
    }

    #[test]
    fn finds_names_that_say_nothing() {
        assert!(complaints("crates/luks/src/utils.rs").contains("`utils` says nothing"));
        assert!(complaints("crates/luks/src/common/af.rs").contains("`common`"));
        assert!(complaints("crates/common/Cargo.toml").contains("`common`"));
        assert!(complaints("crates/luks/src/key_types.rs").contains("`key_types`"));
        assert!(complaints("crates/error/Cargo.toml").contains("no crate `error`"));
        assert_eq!(complaints("crates/luks/src/error.rs"), "");
        assert_eq!(complaints("crates/luks/src/util_linux.rs"), "");
    }

    #[test]
    fn finds_a_file_that_is_too_long_and_does_not_count_tests() {
        let long = "fn a() {}\n".repeat(801);
        let source = Source::parse(&TextFile::new("crates/luks/src/a.rs", &long)).unwrap();
        assert_eq!(check_length(&source).len(), 1);
        let tested = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        let source = Source::parse(&TextFile::new("crates/luks/src/a.rs", &tested)).unwrap();
        assert_eq!(check_length(&source).len(), 0);
    }
}
