//! Whether a source was what it was believed to be, once all of it was read.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_disk::{Checked, Resizable};
use strongroom_model::{Checksum, CloneRequest, ImageSource};

use super::Work;
use super::bytes::Identity;
use super::checksum::Verdict;
use super::source::{Contents, Source};
use crate::{Error, Result};

/// What the checksum of a request is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Checking<'a> {
    /// The source must have it.
    Expected,
    /// Only its algorithm counts: the digest that the source has is put there.
    Taken(&'a OnceCell<Vec<u8>>),
}

/// Notices when the source is written while it is read, when the copy would be of no moment at
/// all, and when it does not have the checksum that it must have.
pub(super) struct Guard<'a> {
    request: &'a CloneRequest,
    label: String,
    checked: Option<Arc<Checked<Arc<dyn Resizable>>>>,
    files: Vec<(PathBuf, Identity)>,
    checking: Checking<'a>,
    work: &'a Work<'a>,
}

impl<'a> Guard<'a> {
    /// Begins to watch a source and its detached header.
    pub(super) fn new(
        request: &'a CloneRequest,
        header: Option<&Path>,
        source: &Source,
        checking: Checking<'a>,
        work: &'a Work<'a>,
    ) -> Self {
        let mut files = Vec::new();
        if let (ImageSource::File(path), Some(bytes)) = (&request.source, source.bytes()) {
            files.push((path.clone(), bytes.identity.clone()));
        }
        files.extend(header.map(|path| (path.to_owned(), Identity::of_path(path))));
        let chain = source.chain.iter();
        files.extend(chain.map(|named| (named.path.clone(), named.identity.clone())));
        Self {
            request,
            label: source.label().to_owned(),
            checked: source.bytes().and_then(|bytes| bytes.checked.clone()),
            files,
            checking,
            work,
        }
    }

    /// Reads what the checksum has not seen yet, and looks whether all is as it should be.
    ///
    /// # Errors
    ///
    /// [`Error::Checksum`] and [`Error::SourceChanged`].
    pub(super) fn check(&self, contents: &Contents) -> Result<()> {
        let expected = self.request.checksum.as_ref();
        if let (Some(checked), Some(expected)) = (&self.checked, expected) {
            let found = checked.finish(self.work.cancelled)?.ok_or(Error::Interrupted)?;
            self.judge(expected, found)?;
        }
        if let (Contents::Stream(stream), Some(expected)) = (contents, expected)
            && let Some(found) = stream.reader.digest()
        {
            self.judge(expected, found)?;
        }
        match self.files.iter().find(|(path, before)| Identity::of_path(path) != *before) {
            Some((path, _)) => Err(Error::SourceChanged { label: path.display().to_string() }),
            None => Ok(()),
        }
    }

    fn judge(&self, expected: &Checksum, found: Vec<u8>) -> Result<()> {
        match self.checking {
            Checking::Expected => Verdict { label: &self.label, expected, found: &found }.check(),
            Checking::Taken(taken) => {
                // Asked twice, the same source gives the same digest.
                let _ = taken.set(found);
                Ok(())
            }
        }
    }
}
