//! Which server a command talks to, and what proves to it who is asking.

use std::path::{Path, PathBuf};

use clap::Args;
use strongroom_crypto::Token;
use strongroom_server::client::{Answer, Client, Failure, FailureKind, Request};

use crate::command_error::CommandError;
use crate::commands::serve::data_directory;
use crate::passphrases::read_file;
use crate::ui::Ui;

/// The server that a command talks to
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArgs {
    /// The URL of the server [env: STRONGROOM_SERVER] [default: http://127.0.0.1:7480]
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    /// The file with the token that says who asks [env: STRONGROOM_TOKEN_FILE] [default, for a server on
    /// this machine: admin.token in its directory, which STRONGROOM_DATA names]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Certificates that may vouch for the server, in PEM form [default: those of the system]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl ServerArgs {
    /// Returns a way to the server. Nobody is talked to yet.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or the URL is none.
    pub(crate) fn client(&self) -> Result<Client, CommandError> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let server = self.server.clone().or_else(|| variable("STRONGROOM_SERVER"));
        let server = server.as_deref().unwrap_or(DEFAULT);
        let named =
            self.token_file.clone().or_else(|| variable("STRONGROOM_TOKEN_FILE").map(Into::into));
        let token = match named {
            Some(path) => Some(token(&path)?),
            None if Client::is_on_this_machine(server) => own_token()?,
            None => None,
        };
        let authorities = self.ca_file.as_deref().map(read_file).transpose()?;
        let authorities = authorities.as_ref().map(|pem| pem.as_slice());
        Ok(Client::new(server, token.as_ref(), authorities)?)
    }
}

/// Asks a server, and passes its warnings on.
///
/// # Errors
///
/// Why there is no answer.
pub(crate) fn ask(ui: &mut Ui, client: &Client, request: &Request) -> Result<Answer, Failure> {
    let answer = client.ask(request)?;
    for warning in &answer.warnings {
        ui.warning(warning);
    }
    Ok(answer)
}

impl From<Failure> for CommandError {
    fn from(failure: Failure) -> Self {
        use strongroom::ErrorKind;
        let (kind, hint) = match failure.kind {
            FailureKind::Unreachable => (
                ErrorKind::KmsUnavailable,
                Some(
                    "start a server with `strongroom serve`, or name another one with --server URL",
                ),
            ),
            FailureKind::Certificate => (
                ErrorKind::KmsUnavailable,
                Some(
                    "if you know who has signed its certificate, give that authority's with --ca-file \
                     FILE",
                ),
            ),
            FailureKind::Unknown => (
                ErrorKind::KmsDenied,
                Some(
                    "name the file of a token with --token-file FILE; the server has made the first one \
                     in its directory: admin.token",
                ),
            ),
            FailureKind::Forbidden => (
                ErrorKind::KmsDenied,
                Some("name the file of another token with --token-file FILE"),
            ),
            FailureKind::NotFound => (ErrorKind::NotFound, None),
            FailureKind::Exists => (ErrorKind::AlreadyExists, None),
            FailureKind::Conflict | FailureKind::Expired => (ErrorKind::Busy, None),
            FailureKind::Request | FailureKind::Invalid => (ErrorKind::Request, None),
            FailureKind::Checksum => (ErrorKind::Image, None),
            FailureKind::Server => (ErrorKind::KmsUnavailable, None),
        };
        let error = Self::of_kind(kind, failure.message);
        match hint {
            Some(hint) => error.hinted(hint),
            None => error,
        }
    }
}

fn token(path: &Path) -> Result<Token, CommandError> {
    let text = read_file(path)?;
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err(CommandError::request(format!("{} holds no token", path.display())));
    }
    Ok(Token::new(text.to_vec()))
}

/// Returns the token that the server of this machine has made, where there is one.
fn own_token() -> Result<Option<Token>, CommandError> {
    let path = data_directory(None)?.join("admin.token");
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => token(&path).map(Some).map_err(|error| {
            error.hinted("name the file of your own token with --token-file FILE")
        }),
    }
}

/// Where a server listens that nobody told otherwise.
const DEFAULT: &str = "http://127.0.0.1:7480";
