//! What can go wrong in the server.

use std::path::PathBuf;

use strongroom_model::dialect::admission::Refused;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is a document of that name.
    #[error("{what} is there already")]
    Exists {
        /// Which.
        what: String,
    },
    /// There is none.
    #[error("{what} is not there")]
    NotFound {
        /// Which.
        what: String,
    },
    /// Somebody else has changed it meanwhile.
    #[error("{what} was changed meanwhile: read it again")]
    Conflict {
        /// Which.
        what: String,
    },
    /// What somebody wants to hear of was too long ago.
    #[error("nothing is remembered from version {version} on: list again")]
    Expired {
        /// Since when.
        version: u64,
    },
    /// A document may not be kept.
    #[error("{what} is refused")]
    Refused {
        /// Which.
        what: String,
        /// Why.
        #[source]
        refused: Refused,
    },
    /// How the server is started is not possible.
    #[error("{problem}")]
    Settings {
        /// What does not fit, and what to do.
        problem: String,
    },
    /// Another server has the data directory.
    #[error("another server works in {}", data.display())]
    InUse {
        /// The directory.
        data: PathBuf,
    },
    /// A file, or the network, failed.
    #[error("{what}")]
    Io {
        /// What could not be done.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The passphrase of a Secret is not that of the image that names it.
    #[error("the passphrase of Secret {secret} opens none of the keyslots of image {image}")]
    KeyUnfit {
        /// The Secret.
        secret: String,
        /// The image.
        image: String,
    },
    /// A use case failed.
    #[error(transparent)]
    Strongroom(#[from] strongroom::Error),
}
