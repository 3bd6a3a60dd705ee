//! The workspace as it lies on disk: its crates and its text files.

use std::fs;
use std::path::Path;

use cargo_metadata::{DependencyKind, MetadataCommand};

use super::Error;

/// The crates and text files of a workspace.
#[derive(Debug)]
pub(crate) struct House {
    /// The crates below `crates/`.
    pub(crate) members: Vec<Member>,
    /// Every text file that git does not ignore.
    pub(crate) files: Vec<TextFile>,
}

/// A crate below `crates/`.
#[derive(Debug)]
pub(crate) struct Member {
    /// The folder's name, which is the crate's name in the table of floors: `crypto`.
    pub(crate) folder: String,
    /// What its manifest asks for.
    pub(crate) dependencies: Vec<Dependency>,
}

/// A line of a manifest.
#[derive(Debug)]
pub(crate) struct Dependency {
    /// The folder below `crates/` for a crate of the house, else the package's name.
    pub(crate) name: String,
    /// Normal, development or build.
    pub(crate) kind: DependencyKind,
    /// Whether the house itself has it.
    pub(crate) origin: Origin,
}

/// Where a dependency comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `crates/`.
    House,
    /// Anywhere else.
    Elsewhere,
}

/// A file that is UTF-8.
#[derive(Debug)]
pub(crate) struct TextFile {
    /// The path below the workspace, with `/`.
    pub(crate) path: String,
    /// The contents.
    pub(crate) text: String,
}

impl House {
    /// Reads the workspace at `root`.
    pub(crate) fn read(root: &Path) -> Result<Self, Error> {
        let ignored = Ignored::parse(&read_text(&root.join(".gitignore"))?.unwrap_or_default());
        let mut files = Vec::new();
        collect(root, root, &ignored, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { members: members(root)?, files })
    }

    /// Returns the file at `path`.
    pub(crate) fn file(&self, path: &str) -> Option<&TextFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

impl TextFile {
    /// Returns a file with these contents.
    #[cfg(test)]
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Returns whether it is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }
}

/// The lines of a `.gitignore` that this house uses: `/folder/` and `*.extension`.
struct Ignored {
    folders: Vec<String>,
    suffixes: Vec<String>,
}

impl Ignored {
    fn parse(text: &str) -> Self {
        let folders = text
            .lines()
            .filter_map(|line| line.strip_prefix('/')?.strip_suffix('/'))
            .map(str::to_owned)
            .collect();
        let suffixes =
            text.lines().filter_map(|line| line.strip_prefix('*')).map(str::to_owned).collect();
        Self { folders, suffixes }
    }

    fn holds(&self, path: &str) -> bool {
        path == ".git"
            || self.folders.iter().any(|folder| folder == path)
            || self.suffixes.iter().any(|suffix| path.ends_with(suffix.as_str()))
    }
}

fn collect(
    root: &Path,
    folder: &Path,
    ignored: &Ignored,
    files: &mut Vec<TextFile>,
) -> Result<(), Error> {
    let entries = fs::read_dir(folder).map_err(|reason| read_error(folder, reason))?;
    for entry in entries {
        let entry = entry.map_err(|reason| read_error(folder, reason))?;
        let path = entry.path();
        let below = path.strip_prefix(root).expect("the walk began at the root");
        let below = below.to_string_lossy().replace('\\', "/");
        if ignored.holds(&below) {
            continue;
        }
        let kind = entry.file_type().map_err(|reason| read_error(&path, reason))?;
        if kind.is_dir() {
            collect(root, &path, ignored, files)?;
        } else if kind.is_file()
            && let Some(text) = read_text(&path)?
        {
            files.push(TextFile { path: below, text });
        }
    }
    Ok(())
}

/// Returns the contents, `None` when there is no such file or it is not text.
fn read_text(path: &Path) -> Result<Option<String>, Error> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(None) };
    if metadata.len() > LARGEST_TEXT {
        return Ok(None);
    }
    let bytes = fs::read(path).map_err(|reason| read_error(path, reason))?;
    Ok(String::from_utf8(bytes).ok())
}

fn read_error(path: &Path, reason: std::io::Error) -> Error {
    Error::Read { path: path.to_owned(), reason }
}

fn members(root: &Path) -> Result<Vec<Member>, Error> {
    let metadata =
        MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec().map_err(
            |error| Error::Metadata { root: root.to_owned(), reason: error.to_string() },
        )?;
    let folder_of = |package: &cargo_metadata::Package| -> String {
        let folder = package.manifest_path.parent().and_then(|folder| folder.file_name());
        folder.expect("a manifest lies in a folder").to_owned()
    };
    let house: Vec<(String, String)> = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| (package.name.to_string(), folder_of(package)))
        .collect();
    let dependency = |line: &cargo_metadata::Dependency| {
        let member = house.iter().find(|(package, _)| *package == line.name);
        Dependency {
            name: member.map_or_else(|| line.name.clone(), |(_, folder)| folder.clone()),
            kind: line.kind,
            origin: if member.is_some() { Origin::House } else { Origin::Elsewhere },
        }
    };
    Ok(metadata
        .workspace_packages()
        .into_iter()
        .map(|package| Member {
            folder: folder_of(package),
            dependencies: package.dependencies.iter().map(dependency).collect(),
        })
        .collect())
}

/// Larger files are images and the like: 1 MiB.
const LARGEST_TEXT: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignores_what_git_ignores() {
        let ignored = Ignored::parse("/target/\n/fuzz/corpus/\n*.partial\n");
        assert!(ignored.holds("target"));
        assert!(ignored.holds("fuzz/corpus"));
        assert!(ignored.holds("crates/disk.partial"));
        assert!(ignored.holds(".git"));
        assert!(!ignored.holds("fuzz"));
        assert!(!ignored.holds("crates/target"));
    }

    #[test]
    fn finds_this_crate_and_this_file() {
        let root = super::super::workspace_root();
        let house = House::read(&root).unwrap();
        assert!(house.file("crates/xtask/src/tidy/house.rs").is_some());
        let member = house.members.iter().find(|member| member.folder == "xtask").unwrap();
        assert!(member.dependencies.iter().any(|line| line.name == "syn"));
    }
}
