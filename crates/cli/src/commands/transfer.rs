//! `strongroom upload` and `strongroom download`

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use strongroom_disk::{Disk, NewFile, Overwrite};
use strongroom_model::dialect::resource::Resource;
use strongroom_server::client::{ImagePlace, Target};

use super::document_arguments::{NamespaceArgs, resource};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::server_arguments::ServerArgs;
use crate::ui::{Output, Ui, bytes};

/// Send the bytes of an image that waits for them
///
/// The image is a BackingImage or VirtualMachineImage of the source type `upload`. What has come is kept when
/// the connection breaks, and the same command goes on from there.
#[derive(Debug, Args)]
pub(crate) struct UploadArgs {
    /// The image: backingimage/NAME or vmimage/NAME
    image: String,

    /// The file to send
    file: PathBuf,

    #[command(flatten)]
    transfer: TransferArgs,
}

/// Fetch the bytes of an image, as they are stored
///
/// An encrypted image comes encrypted. The file gets its name when it is whole.
#[derive(Debug, Args)]
pub(crate) struct DownloadArgs {
    /// The image: backingimage/NAME or vmimage/NAME
    image: String,

    /// Where it goes
    file: PathBuf,

    /// Replace a file that is there already
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    transfer: TransferArgs,
}

#[derive(Debug, Args)]
struct TransferArgs {
    #[command(flatten)]
    namespace: NamespaceArgs,

    #[command(flatten)]
    output: OutputArgs,

    #[command(flatten)]
    server: ServerArgs,
}

/// Sends an image.
///
/// # Errors
///
/// When the file cannot be read, and what the server says.
pub(crate) fn upload(ui: &mut Ui, args: &UploadArgs) -> Result<(), CommandError> {
    let place = place(&args.image, &args.transfer.namespace)?;
    let opened = File::open(&args.file).and_then(|file| {
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("no plain file")) }
    });
    let file = opened.map_err(|error| cannot("read", &args.file, error))?;
    let client = args.transfer.server.client()?;
    let output = args.transfer.output.output();
    let watch = Arc::new(ui.watch(output));
    let told = Arc::clone(&watch);
    let told: Arc<dyn Fn(u64, u64) + Send + Sync> = Arc::new(move |done, of| told.reach(done, of));
    let len = client.upload(&place, &file, &told)?;
    watch.finish();
    let words = format!("{} sent to {}", bytes(len), args.image);
    done(ui, output, &words, &json!({ "image": args.image, "bytes": len }))
}

/// Fetches an image.
///
/// # Errors
///
/// When the file cannot be written, and what the server says; there is no file then.
pub(crate) fn download(ui: &mut Ui, args: &DownloadArgs) -> Result<(), CommandError> {
    let place = place(&args.image, &args.transfer.namespace)?;
    let client = args.transfer.server.client()?;
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    let (file, permit) = NewFile::create(&args.file, overwrite, &[])
        .map_err(strongroom::Error::from)
        .map_err(CommandError::from)?;
    // Nothing is formatted with it: an image comes as it is.
    drop(permit);
    let output = args.transfer.output.output();
    let watch = ui.watch(output);
    let mut target = SparseFile { file: &file, at: 0 };
    let len = client.download(&place, &mut target, &|done, of| watch.reach(done, of))?;
    file.disk().set_len(len).map_err(strongroom::Error::from)?;
    file.commit().map_err(strongroom::Error::from)?;
    watch.finish();
    let words = format!("{} fetched into {}", bytes(len), args.file.display());
    done(ui, output, &words, &json!({ "file": args.file, "bytes": len }))
}

/// A new file in which zeros are holes.
struct SparseFile<'a> {
    file: &'a NewFile,
    at: u64,
}

impl Target for SparseFile<'_> {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.at + bytes.len() as u64;
        if bytes.iter().any(|byte| *byte != 0) {
            let disk = self.file.disk();
            let written = disk.set_len(end).and_then(|()| disk.write_at(bytes, self.at));
            written.map_err(io::Error::other)?;
        }
        self.at = end;
        Ok(())
    }
}

/// Returns the image that a word names.
fn place(word: &str, namespace: &NamespaceArgs) -> Result<ImagePlace, CommandError> {
    let (kind, name) = word.split_once('/').ok_or_else(|| {
        CommandError::request(format!("{word} is not of the form RESOURCE/NAME"))
            .hinted(format!("name an image as backingimage/{word}"))
    })?;
    match resource(kind)? {
        Resource::BackingImage | Resource::VirtualMachineImage => {}
        other => {
            let problem = format!("a {} has no bytes to send or fetch", other.kind());
            return Err(CommandError::request(problem)
                .hinted("name a BackingImage or a VirtualMachineImage"));
        }
    }
    Ok(ImagePlace { namespace: namespace.or_default().to_owned(), name: name.to_owned() })
}

fn done(ui: &mut Ui, output: Output, words: &str, value: &Value) -> Result<(), CommandError> {
    match output {
        Output::Json => ui.json(value),
        Output::Text => {
            ui.status(words);
            Ok(())
        }
    }
}

fn cannot(what: &str, path: &Path, source: io::Error) -> CommandError {
    CommandError::io(format!("cannot {what} {}", path.display()), source)
}
