//! Documents: there, and true about the crates that exist.

use super::finding::Finding;
use super::house::House;

/// Returns documents that are missing or say too little.
pub(crate) fn check(house: &House) -> Vec<Finding> {
    let text = |path: &str| house.file(path).map(|file| file.text.as_str());
    let mut findings: Vec<Finding> = REQUIRED
        .iter()
        .filter(|path| text(path).is_none())
        .map(|path| Finding::new(path, 1, "is missing: write it"))
        .collect();
    if let Some(text) = text("ARCHITECTURE.md") {
        let without = house.members.iter().filter(|member| !has_invariant(text, &member.folder));
        findings.extend(without.map(|member| {
            let message = format!(
                "crate `{0}` has no line `Invariant: …` under a heading with `{0}`: add it",
                member.folder
            );
            Finding::new("ARCHITECTURE.md", 1, message)
        }));
    }
    if text("CHANGELOG.md").is_some_and(|text| !has_unreleased(text)) {
        let message = "has no section `## [Unreleased]`: add it";
        findings.push(Finding::new("CHANGELOG.md", 1, message));
    }
    findings
}

/// Whether a heading names the crate in backquotes and an invariant stands in its section.
fn has_invariant(text: &str, folder: &str) -> bool {
    let quoted = format!("`{folder}`");
    let mut in_section = false;
    text.lines().any(|line| {
        if line.starts_with('#') {
            in_section = line.contains(&quoted);
        }
        in_section && line.starts_with("Invariant:")
    })
}

fn has_unreleased(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("## ") && line.contains("Unreleased"))
}

const REQUIRED: &[&str] =
    &["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"];

#[cfg(test)]
mod tests {
    use super::super::house::{Member, TextFile};
    use super::*;

    fn house(files: &[(&str, &str)]) -> House {
        House {
            members: vec![Member { folder: "luks".to_owned(), dependencies: Vec::new() }],
            files: files.iter().map(|(path, text)| TextFile::new(path, text)).collect(),
        }
    }

    #[test]
    fn finds_missing_documents() {
        assert_eq!(check(&house(&[])).len(), REQUIRED.len());
    }

    #[test]
    fn finds_a_crate_without_invariant() {
        let told = "### `luks`\n\nWhat it is.\n\nInvariant: bytes in, bytes out.\n";
        assert!(has_invariant(told, "luks"));
        assert!(!has_invariant(told, "disk"));
        assert!(!has_invariant("### `luks`\n\n### `disk`\n\nInvariant: a.\n", "luks"));
        let findings = check(&house(&[("ARCHITECTURE.md", "### `luks`\n")]));
        assert!(findings.iter().any(|finding| finding.to_string().contains("crate `luks`")));
    }

    #[test]
    fn finds_a_changelog_without_unreleased() {
        assert!(has_unreleased("# Changelog\n\n## [Unreleased]\n"));
        let findings = check(&house(&[("CHANGELOG.md", "# Changelog\n")]));
        assert!(findings.iter().any(|finding| finding.to_string().contains("`## [Unreleased]`")));
    }
}
