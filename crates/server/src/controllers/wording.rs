//! How errors are told to people: what they come from too, but without paths of the data directory. Those are
//! nobody's business but the machine's owner's, and mean nothing to whoever reads a document.

use std::path::Path;

use super::turn::chain;

/// Returns an error with all that it comes from. What lies in the data directory, where `kek_file` is, is
/// called by what it is: `image ID` or `volume ID`.
pub(crate) fn told(error: &(dyn std::error::Error + 'static), kek_file: &Path) -> String {
    let text = chain(error);
    let Some(data) = kek_file.parent() else { return text };
    let real = data.canonicalize();
    let text = real.map_or_else(|_| text.clone(), |real| without(&text, &real));
    without(&text, data)
}

/// Replaces paths below a directory.
fn without(text: &str, directory: &Path) -> String {
    let prefix = format!("{}/", directory.display());
    if directory.components().count() < 2 {
        // Everything is below the root.
        return text.to_owned();
    }
    let mut parts = text.split(&prefix);
    let mut told = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|sign: char| sign.is_whitespace() || ":;,'\"`)".contains(sign));
        let (path, rest) = part.split_at(end.unwrap_or(part.len()));
        told.push_str(&named(path));
        told.push_str(rest);
    }
    told
}

/// Returns what lies at a path within the data directory.
fn named(path: &str) -> String {
    let mut names = path.split('/').filter(|name| !name.is_empty());
    while let Some(name) = names.next() {
        let kind = match name {
            "images" => "image",
            "volumes" => "volume",
            "snapshots" => "snapshot",
            _ => continue,
        };
        if let Some(id) = names.next() {
            // What is being made, or deleted, has another name for so long.
            let id = id.trim_start_matches('.');
            let id = id.strip_suffix(".new").or(id.strip_suffix(".old")).unwrap_or(id);
            return format!("{kind} {id}");
        }
    }
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_the_data_directory_is_called_by_what_it_is() {
        let data = Path::new("/var/lib/my strongroom");
        for (text, wanted) in [
            (
                "cannot write /var/lib/my strongroom/images/0a-1/data: no space left",
                "cannot write image 0a-1: no space left",
            ),
            (
                "'/var/lib/my strongroom/pool/items/volumes/.pvc-1.new/data', and more",
                "'volume pvc-1', and more",
            ),
            ("read /var/lib/my strongroom/kek", "read kek"),
            ("/var/lib/other/images/a: gone", "/var/lib/other/images/a: gone"),
        ] {
            assert_eq!(without(text, data), wanted);
        }
        assert_eq!(without("/etc/passwd", Path::new("/")), "/etc/passwd");
    }

    #[test]
    fn an_error_is_told_with_what_it_comes_from() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images/a/data");
        let source = std::io::Error::other(format!("{} is odd", path.display()));
        let error = crate::Error::Io { what: "it failed".to_owned(), source };
        assert_eq!(told(&error, &folder.path().join("kek")), "it failed: image a is odd");
    }
}
