//! The commands, a file each.

pub(crate) mod attachment_service;
pub(crate) mod libvirt;
pub(crate) mod serve;

mod apply;
mod audit;
mod completions;
mod csi;
mod delete;
mod describe;
mod doctor;
mod document_arguments;
mod envelope;
mod events;
mod following;
mod get;
mod image;
mod jobs;
mod json_path;
mod key;
mod kms;
mod luks;
mod man;
mod manifests;
mod selection;
mod token;
mod transfer;
mod volume;
mod wait;

use std::process::ExitCode;

use clap::Subcommand;

use crate::command_error::CommandError;
use crate::ui::Ui;

/// What the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make documents what files say
    Apply(Box<apply::ApplyArgs>),

    /// Check the audit log of a server
    #[command(subcommand)]
    Audit(audit::AuditCommand),

    /// Delete documents, and what was made of them
    Delete(Box<delete::DeleteArgs>),

    /// Show all that is known of documents: their fields, conditions and events
    Describe(describe::DescribeArgs),

    /// List what has happened, the latest last
    Events(events::EventsArgs),

    /// List documents of a kind, or show some of them
    Get(get::GetArgs),

    /// See and stop the work of a server
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),

    /// Make and take away the tokens by which a server knows who asks
    #[command(subcommand)]
    Token(token::TokenCommand),

    /// Send the bytes of an image that waits for them
    Upload(Box<transfer::UploadArgs>),

    /// Fetch the bytes of an image, as they are stored
    Download(Box<transfer::DownloadArgs>),

    /// Wait until documents are as they should be
    Wait(Box<wait::WaitArgs>),

    /// Work on disk images
    #[command(subcommand)]
    Image(Box<image::ImageCommand>),

    /// Work on keys that a key management system (KMS) manages
    #[command(subcommand)]
    Key(Box<key::KeyCommand>),

    /// Ask a key management system (KMS), or make one of a file
    #[command(subcommand)]
    Kms(Box<kms::KmsCommand>),

    /// Make and manage volumes and secrets by libvirt's documents
    #[command(subcommand)]
    Libvirt(Box<libvirt::LibvirtCommand>),

    /// Work on LUKS headers and their keys
    #[command(subcommand)]
    Luks(Box<luks::LuksCommand>),

    /// Make encrypted volumes, and let them appear on this machine
    #[command(subcommand)]
    Volume(Box<volume::VolumeCommand>),

    /// Offer the volumes of a pool to Kubernetes, as the CSI driver of this node
    Csi(Box<csi::CsiArgs>),

    /// Keep documents, and do what they ask for: images, volumes, claims
    Serve(Box<serve::ServeArgs>),

    /// Show in which ways this machine can attach volumes, and how fast it encrypts
    Doctor(doctor::DoctorArgs),

    /// Print the completions for a shell
    #[command(hide = true)]
    Completions(completions::CompletionsArgs),

    /// Write the manual pages to a directory
    #[command(hide = true)]
    Man(man::ManArgs),
}

impl Command {
    /// Carries the command out.
    ///
    /// # Errors
    ///
    /// What went wrong, with its kind and hints.
    pub(crate) fn run(self, ui: &mut Ui) -> Result<ExitCode, CommandError> {
        match self {
            Self::Apply(args) => apply::run(ui, &args),
            Self::Audit(command) => done(command.run(ui)),
            Self::Delete(args) => done(delete::run(ui, &args)),
            Self::Describe(args) => done(describe::run(ui, &args)),
            Self::Events(args) => done(events::run(ui, &args)),
            Self::Get(args) => done(get::run(ui, &args)),
            Self::Jobs(command) => done(command.run(ui)),
            Self::Token(command) => done(command.run(ui)),
            Self::Upload(args) => done(transfer::upload(ui, &args)),
            Self::Download(args) => done(transfer::download(ui, &args)),
            Self::Wait(args) => done(wait::run(ui, &args)),
            Self::Image(command) => command.run(ui),
            Self::Key(command) => command.run(ui),
            Self::Kms(command) => command.run(ui),
            Self::Libvirt(command) => done(command.run(ui)),
            Self::Luks(command) => command.run(ui),
            Self::Volume(command) => command.run(ui),
            Self::Csi(args) => done(csi::run(ui, *args)),
            Self::Serve(args) => done(serve::run(ui, *args)),
            Self::Doctor(args) => done(doctor::run(ui, &args)),
            Self::Completions(args) => done(completions::run(&args)),
            Self::Man(args) => done(man::run(&args)),
        }
    }
}

/// Turns a command that has nothing to say but errors into an exit code.
fn done(result: Result<(), CommandError>) -> Result<ExitCode, CommandError> {
    result.map(|()| ExitCode::SUCCESS)
}

/// The table of exit codes, for the help text.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    a file or device could not be read or written; of many files or documents, some failed; what was
       waited for did not come in time
  2    the command cannot be carried out as it was given
  3    no keyslot opens with the passphrase
  4    the image, header or volume is not what the command needs, or is damaged; what was waited for has
       failed
  5    the images compared are different
  6    the target or volume exists
  7    another process is at work on the same header, image or volume, or uses it; a document is in use
  8    there is no such file, volume, snapshot or document
  9    the image checked has leaks: space is lost, no data
  10   the image checked has corruptions: data may get lost
  11   the key management system or the server cannot be reached or does not work just now
  12   the key management system or the server does not let these credentials do that
  13   something about the volume reported on is not as it should be
  130  interrupted";
