//! Registries: no file names the address of a package registry. Which one is used is a matter of
//! each machine's settings.

use super::finding::Finding;
use super::house::TextFile;

/// Returns lines that name a registry's address.
pub(crate) fn check(file: &TextFile) -> Vec<Finding> {
    // Cargo itself writes the name of its index on every line of a lock file.
    if file.path == "Cargo.lock" || file.path.ends_with("/Cargo.lock") {
        return Vec::new();
    }
    let named = file.text.lines().enumerate().filter_map(|(index, line)| {
        addresses().find(|address| line.contains(address)).map(|address| (index + 1, address))
    });
    named
        .map(|(line, address)| {
            let message = format!("names `{address}`: leave registries to the machine's settings");
            Finding::new(&file.path, line, message)
        })
        .collect()
}

fn addresses() -> impl Iterator<Item = String> {
    HOSTS.iter().map(|(name, domain)| format!("{name}.{domain}"))
}

/// In halves, so that this list does not find itself.
const HOSTS: &[(&str, &str)] = &[
    ("crates", "io"),
    ("deb.debian", "org"),
    ("security.debian", "org"),
    ("archive.ubuntu", "com"),
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("proxy.golang", "org"),
    ("sum.golang", "org"),
    ("repo.maven", "apache.org"),
    ("rubygems", "org"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_address() {
        for address in addresses() {
            let text = format!("# a\nindex = \"https://x.{address}/simple\"\n");
            let findings = check(&TextFile::new("scripts/a", &text));
            assert!(findings[0].to_string().starts_with("scripts/a:2: names"), "{address}");
        }
    }

    #[test]
    fn lets_lock_files_be() {
        let text = addresses().next().unwrap();
        assert!(check(&TextFile::new("Cargo.lock", &text)).is_empty());
        assert!(check(&TextFile::new("fuzz/Cargo.lock", &text)).is_empty());
        assert_eq!(check(&TextFile::new("Cargo.toml", &text)).len(), 1);
    }
}
