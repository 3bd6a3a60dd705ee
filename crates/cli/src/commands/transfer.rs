//! `strongroom upload` and `strongroom download`

mod partial;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clap::Args;
use serde_json::{Value, json};
use strongroom::ErrorKind;
use strongroom_disk::Overwrite;
use strongroom_model::dialect::resource::Resource;
use strongroom_server::client::{Begun, Client, Failure, FailureKind, ImagePlace};

use self::partial::Partial;
use super::document_arguments::{CallArgs, NamespaceArgs, resource};
use crate::command_error::{CommandError, quoted};
use crate::interruption;
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
    call: CallArgs,
}

/// Fetch the bytes of an image, as they are stored
///
/// An encrypted image comes encrypted. The file gets its name when it is whole, with the checksum that the
/// server tells; until then it is called .NAME.partial. The same command goes on with what has come.
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
    call: CallArgs,
}

/// Sends an image.
///
/// # Errors
///
/// When the file cannot be read, and what the server says.
pub(crate) fn upload(ui: &mut Ui, args: &UploadArgs) -> Result<(), CommandError> {
    let place = place(&args.image, &args.call.namespace)?;
    let opened = File::open(&args.file).and_then(|file| {
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("no plain file")) }
    });
    let file = opened.map_err(|error| cannot("read", &args.file, error))?;
    let client = args.call.client()?;
    let output = args.call.output();
    let stands = client.uploaded(&place).unwrap_or(0);
    let len = file.metadata().map_err(|error| cannot("read", &args.file, error))?.len();
    if (1..len).contains(&stands) {
        ui.status(&format!("going on behind the first {}", bytes(stands)));
    }
    let watch = Arc::new(ui.watch(output));
    let told = Arc::clone(&watch);
    let told: Arc<dyn Fn(u64, u64) + Send + Sync> = Arc::new(move |done, of| told.reach(done, of));
    let sent = client.upload(&place, &file, &told);
    watch.finish();
    let len = sent.map_err(|failure| not_sent(&client, &place, failure))?;
    let words = format!("{} sent to {}", bytes(len), args.image);
    done(ui, output, &words, &json!({ "image": args.image, "bytes": len }))
}

/// Returns why an image was not sent, and how to go on.
fn not_sent(client: &Client, place: &ImagePlace, failure: Failure) -> CommandError {
    let is_cut = failure.kind == FailureKind::Unreachable;
    let error = CommandError::from(failure);
    match client.uploaded(place) {
        Ok(stands) if is_cut && stands > 0 => error.unhinted().hinted(format!(
            "the server has the first {}: run the command again to go on",
            bytes(stands)
        )),
        Err(_) if is_cut => error.hinted(
            "the server keeps what has come: run the command again once it can be reached, to go on",
        ),
        _ => error,
    }
}

/// Fetches an image.
///
/// # Errors
///
/// When the file cannot be written, and what the server says; what has come is kept then.
pub(crate) fn download(ui: &mut Ui, args: &DownloadArgs) -> Result<(), CommandError> {
    let place = place(&args.image, &args.call.namespace)?;
    if args.file == Path::new("-") {
        let problem =
            "an image is not fetched to standard output, where nothing could be gone on with";
        return Err(CommandError::request(problem)
            .hinted("name a file: it gets its name when it is whole and has its checksum"));
    }
    let client = args.call.client()?;
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    let output = args.call.output();
    let partial = Partial::open(&args.file, overwrite)?;
    let interrupted = interruption::flag()?;
    let (fetched, resumed) = fetch(ui, &client, &place, &partial, &interrupted, output)?;
    let len = match fetched {
        Ok(len) => len,
        Err(failure) => return Err(not_fetched(partial, failure, &interrupted)),
    };
    partial.commit()?;
    let words = format!("{} fetched into {}", bytes(len), args.file.display());
    let report = json!({ "file": args.file, "bytes": len, "resumed_bytes": resumed });
    done(ui, output, &words, &report)
}

/// Fetches what is missing of a file. Returns how long it is, and how much of it was there before.
fn fetch(
    ui: &mut Ui,
    client: &Client,
    place: &ImagePlace,
    partial: &Partial,
    interrupted: &AtomicBool,
    output: Output,
) -> Result<(Result<u64, Failure>, u64), CommandError> {
    let mut receiving = partial.receive(interrupted)?;
    let mut earlier = partial.earlier();
    let begun = receiving.begun().map(|(tag, len)| Begun { tag, len, bytes: &mut earlier });
    let watch = ui.watch(output);
    let from = AtomicU64::new(NOTHING);
    let told = |done, of| {
        // The first that is told is where it goes on.
        let first = from.compare_exchange(NOTHING, done, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() && done > 0 {
            Ui::new().status(&format!("going on behind the first {}", bytes(done)));
        }
        watch.reach(done, of);
    };
    let fetched = client.download(place, begun, &mut receiving, &told);
    watch.finish();
    let Ok(len) = fetched else { return Ok((fetched, 0)) };
    receiving.finish(len)?;
    // Where nothing was told, nothing was missing.
    let resumed = match from.into_inner() {
        NOTHING => len,
        from => from,
    };
    Ok((Ok(len), resumed))
}

/// Returns why an image was not fetched, and how to go on.
fn not_fetched(partial: Partial, failure: Failure, interrupted: &AtomicBool) -> CommandError {
    let kind = failure.kind;
    let mut error = CommandError::from(failure);
    if interrupted.load(Ordering::Relaxed) {
        error = CommandError::of_kind(ErrorKind::Interrupted, "interrupted");
    }
    if kind == FailureKind::Checksum {
        partial.remove();
        return error.hinted("nothing was left behind; run the command again to begin anew");
    }
    match partial.keep() {
        Some((path, len)) => error.unhinted().hinted(format!(
            "{} holds the first {}: run the command again to go on, or remove it",
            quoted(&path.display().to_string()),
            bytes(len)
        )),
        None => error,
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

/// Stands for a place in an image that was not told yet.
const NOTHING: u64 = u64::MAX;
