//! Files of documents that people name.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use strongroom_model::dialect::admission;
use strongroom_model::dialect::documents::{self, Located};
use strongroom_model::dialect::resource::{Resource, Scope};
use strongroom_server::client::{Failure, FailureCause, Place};

use super::document_arguments::DEFAULT;
use crate::command_error::CommandError;

/// Which files
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// A file of documents, YAML or JSON; a directory for all such files in it; `-` for standard input.
    /// Several times for several
    #[arg(short = 'f', long = "filename", value_name = "FILE", id = "files")]
    files: Vec<PathBuf>,

    /// Take the files of the directories in a directory, too
    #[arg(short = 'R', long, requires = "files")]
    recursive: bool,
}

/// A document of a file.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// The file.
    label: String,
    pub(crate) located: Located,
    pub(crate) resource: Resource,
}

impl FileArgs {
    /// Returns whether there are any.
    pub(crate) fn are_given(&self) -> bool {
        !self.files.is_empty()
    }

    fn depth(&self) -> Depth {
        if self.recursive { Depth::All } else { Depth::One }
    }
}

/// How far below a directory files are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    One,
    All,
}

/// Reads all documents of all files, in their order.
///
/// # Errors
///
/// Everything that is wrong with the first file that has something wrong in it.
pub(crate) fn read(args: &FileArgs) -> Result<Vec<Manifest>, CommandError> {
    let mut manifests = Vec::new();
    let is_stdin = |path: &&PathBuf| path.as_path() == Path::new("-");
    if args.files.iter().filter(is_stdin).count() > 1 {
        return Err(CommandError::request("standard input is named twice, and can be read once"));
    }
    for path in &args.files {
        for file in files(path, args.depth())? {
            let label = if file == Path::new("-") {
                "standard input".to_owned()
            } else {
                file.display().to_string()
            };
            let text = text(&file, &label)?;
            let read = documents::read(&label, &text).map_err(|errors| {
                let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
                CommandError::request(lines.join("\nerror: "))
            })?;
            for located in read {
                manifests.push(Manifest::new(&label, located)?);
            }
        }
    }
    if manifests.is_empty() {
        return Err(CommandError::request("there is no document in what was named with -f"));
    }
    Ok(manifests)
}

impl Manifest {
    fn new(label: &str, located: Located) -> Result<Self, CommandError> {
        let line = located.line;
        let Some(resource) = located.object.resource() else {
            let text = |key: &str| located.object.text(&[key]).unwrap_or_default().to_owned();
            let (kind, version) = (text("kind"), text("apiVersion"));
            let known = Resource::ALL.into_iter().find(|found| found.kind() == kind);
            let problem = format!("{label}:{line}: kind: nothing here knows {kind} of {version}");
            let error = CommandError::request(problem);
            return Err(match known {
                Some(known) => error.hinted(format!("there is {kind} of {}", known.api_version())),
                None => error.hinted("take it out, or put it into a file of its own"),
            });
        };
        Ok(Self { label: label.to_owned(), located, resource })
    }

    /// Returns where it belongs: into the namespace that it names, or that somebody else does.
    ///
    /// # Errors
    ///
    /// When they differ, or it has no name.
    pub(crate) fn place(&self, namespace: Option<&str>) -> Result<Place, CommandError> {
        let object = &self.located.object;
        if object.name().is_empty() {
            return Err(self.error("metadata.name", "is missing"));
        }
        let own = object.namespace();
        if self.resource.scope() == Scope::Cluster {
            return Ok(Place::of_one(self.resource, None, object.name()));
        }
        if let (Some(own), Some(named)) = (own, namespace)
            && own != named
        {
            let problem = format!("the document belongs to {own}, and the command says {named}");
            return Err(self.error("metadata.namespace", &problem));
        }
        let namespace = own.or(namespace).unwrap_or(DEFAULT);
        Ok(Place::of_one(self.resource, Some(namespace), object.name()))
    }

    /// Returns what a server says of it, with file and line.
    pub(crate) fn refused(&self, failure: Failure) -> CommandError {
        let at = |field: &str| format!("{}:{}", self.label, self.located.line_of(field));
        let title = format!("{} {}", self.resource.kind(), self.located.object.name());
        let message = match &failure.causes[..] {
            [] => format!("{}: {title}: {}", at(""), failure.message),
            causes => {
                let line = |cause: &FailureCause| {
                    let colon = if cause.field.is_empty() { "" } else { ": " };
                    format!(
                        "{}: {title}: {}{colon}{}",
                        at(&cause.field),
                        cause.field,
                        cause.message
                    )
                };
                causes.iter().map(line).collect::<Vec<_>>().join("\nerror: ")
            }
        };
        CommandError::from(Failure { message, ..failure })
    }

    /// Returns the fields that nobody knows, each with file and line.
    pub(crate) fn unknown_fields(&self) -> Vec<String> {
        let title = format!("{} {}", self.resource.kind(), self.located.object.name());
        let fields = admission::unknown_fields(&self.located.object);
        let line = |field: &String| {
            let line = self.located.line_of(field);
            format!("{}:{line}: {title}: there is no field {field}", self.label)
        };
        fields.iter().map(line).collect()
    }

    fn error(&self, field: &str, problem: &str) -> CommandError {
        let line = self.located.line_of(field);
        CommandError::request(format!("{}:{line}: {field}: {problem}", self.label))
    }
}

/// Returns a failure whose text has what is wrong with each field.
pub(crate) fn with_causes(failure: Failure) -> Failure {
    let mut message = failure.message.clone();
    for cause in &failure.causes {
        // Most servers say them in the message as well.
        if !message.contains(&cause.message) {
            message.push_str("; ");
            message.push_str(&cause.message);
        }
    }
    Failure { message, ..failure }
}

/// Reads a file, as much as documents may have and a byte more. What is freed is wiped: it may be a Secret.
fn text(file: &Path, label: &str) -> Result<Vec<u8>, CommandError> {
    let failed = |source| CommandError::io(format!("cannot read {label}"), source);
    let mut text = Vec::new();
    let mut reader: Box<dyn Read> = match file == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(file).map_err(failed)?),
    };
    (&mut *reader).take(MOST).read_to_end(&mut text).map_err(failed)?;
    Ok(text)
}

/// Returns the files that a path means, those of a directory by their names.
fn files(path: &Path, depth: Depth) -> Result<Vec<PathBuf>, CommandError> {
    if path == Path::new("-") || !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        let failed =
            |source| CommandError::io(format!("cannot read {}", directory.display()), source);
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let file = entry.path();
            // A link to a directory may lead back here, and is not followed.
            if entry.file_type().map_err(failed)?.is_dir() {
                directories.push(file);
                continue;
            }
            let extension = file.extension().and_then(|extension| extension.to_str());
            if matches!(extension, Some("yaml" | "yml" | "json")) && file.is_file() {
                files.push(file);
            }
        }
        if depth == Depth::One {
            break;
        }
    }
    files.sort();
    if files.is_empty() {
        let problem = format!("{} has no files that end in .yaml, .yml or .json", path.display());
        let error = CommandError::request(problem);
        return Err(match depth {
            Depth::One => error.hinted("-R looks into the directories below it, too"),
            Depth::All => error,
        });
    }
    Ok(files)
}

/// More than the reader of documents takes.
const MOST: u64 = 8 << 20;
