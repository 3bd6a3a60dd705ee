//! The files of a target while it is made: without names, or with names that say that they are
//! unfinished.

use std::path::{Path, PathBuf};
use std::{fs, io};

use strongroom_disk::{Disk, ErrorKind, FormatPermit, NewFile, Overwrite, Raw, Resizable};
use strongroom_kms::Envelope;
use strongroom_model::{CacheMode, CloneRequest, ExistingTarget, ImageTarget, Resume};

use super::journal::{ChecksumState, Entry, Facts, Journal};
use super::source::Source;
use super::target_key::Earlier;
use crate::envelope_file::{EnvelopeFile, Naming};
use crate::{Error, Result};

/// A target that is not whole yet.
pub(super) struct Files {
    data: NewFile,
    /// A detached header.
    header: Option<NewFile>,
    /// The right to write a header, until it is used.
    permit: Option<FormatPermit>,
    journal: Journal,
    stage: Stage,
    /// Whether a later job could know the source again.
    resumable: bool,
    /// The file of the wrapped key, where there is to be one.
    envelope: Option<EnvelopeFile>,
}

/// What a target is written to, wherever it lies.
pub(super) struct Parts<'a> {
    pub(super) data: &'a dyn Resizable,
    /// A detached header.
    pub(super) header: Option<&'a dyn Resizable>,
    /// The right to write a header, until it is used.
    pub(super) permit: Option<FormatPermit>,
    pub(super) journal: &'a Journal,
    pub(super) stage: Stage,
    /// What errors call what an earlier job has left.
    pub(super) partial: PathBuf,
}

/// What is in the files already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing, and they have no names: a process that is killed leaves nothing.
    Unnamed,
    /// Nothing.
    New,
    /// Everything below this offset of the contents.
    GoingOn(u64),
    /// Everything below this offset, which is all there is, and perhaps what makes it an image.
    Finishing(u64),
}

impl Stage {
    /// Returns where the job goes on, if an earlier one has begun it.
    pub(super) fn start(self) -> Option<u64> {
        match self {
            Self::Unnamed | Self::New => None,
            Self::GoingOn(start) | Self::Finishing(start) => Some(start),
        }
    }
}

/// Where a target goes.
struct Place<'a> {
    target: &'a Path,
    header: Option<&'a Path>,
    overwrite: Overwrite,
    sources: &'a [&'a Raw],
    envelope: Option<&'a Envelope>,
}

/// The files, and what their journal says.
struct Opened {
    data: NewFile,
    header: Option<NewFile>,
    permit: Option<FormatPermit>,
    entry: Entry,
    stage: Stage,
}

impl Files {
    /// Creates the files of a target, or opens those that an earlier job has left.
    ///
    /// # Errors
    ///
    /// Of kind already exists when the target is there and must not be replaced; what differs when
    /// the earlier job was another one.
    pub(super) fn open(
        request: &CloneRequest,
        target: &Path,
        header: Option<&Path>,
        source: &Source,
        job: Facts,
        envelope: Option<&Envelope>,
    ) -> Result<Self> {
        let overwrite = match request.existing_target {
            ExistingTarget::Refuse => Overwrite::Refuse,
            ExistingTarget::Replace => Overwrite::Replace,
        };
        let sources = source.files();
        let place = Place { target, header, overwrite, sources: &sources, envelope };
        let journal = NewFile::journal_path(target);
        let mut opened = match request.resume {
            Resume::Never => place.unnamed(job)?,
            Resume::Allowed => {
                source.check_resumable()?;
                place.named(&journal, job)?
            }
        };
        if let Some(header) = &opened.header
            && opened.data.is_same_place(header)?
        {
            let problem = format!("{} cannot be both the image and its header", target.display());
            return Err(Error::Request { problem });
        }
        if request.cache == CacheMode::None {
            opened.data.bypass_cache()?;
        }
        let checked = source.bytes().and_then(|bytes| bytes.checked.clone());
        let journal = Journal::new(journal, opened.entry, checked);
        if opened.stage == Stage::New {
            journal.write().map_err(|error| journal.failed(&error))?;
        }
        Ok(Self {
            data: opened.data,
            header: opened.header,
            permit: opened.permit,
            journal,
            stage: opened.stage,
            resumable: source.check_resumable().is_ok(),
            envelope: None,
        })
    }

    /// Adds the file of the wrapped key, which gets its name before the others do.
    ///
    /// # Errors
    ///
    /// When it would be one of them.
    pub(super) fn with_envelope(mut self, envelope: Option<EnvelopeFile>) -> Result<Self> {
        let mut files = std::iter::once(&self.data).chain(&self.header);
        let checked = envelope
            .as_ref()
            .map_or(Ok(()), |envelope| files.try_for_each(|file| envelope.refuse_place_of(file)));
        match checked {
            Ok(()) => {
                self.envelope = envelope;
                Ok(self)
            }
            Err(error) => Err(self.stop(error)),
        }
    }

    /// Returns the file of the data.
    pub(super) fn data(&self) -> &Raw {
        self.data.disk()
    }

    /// Returns what the target is written to.
    pub(super) fn parts(&mut self) -> Parts<'_> {
        Parts {
            data: self.data.disk(),
            header: self.header.as_ref().map(|header| header.disk() as &dyn Resizable),
            permit: self.permit.take(),
            journal: &self.journal,
            stage: self.stage,
            partial: NewFile::partial_path(self.data.target()),
        }
    }

    /// Gives the finished files their names, both or neither.
    ///
    /// # Errors
    ///
    /// Those of [`NewFile::commit`].
    pub(super) fn commit(mut self) -> Result<()> {
        if self.stage != Stage::Unnamed {
            self.data.keep_when_dropped();
            self.header.iter_mut().for_each(NewFile::keep_when_dropped);
        }
        let partial = NewFile::partial_path(self.data.target());
        let files = std::iter::once(&self.data).chain(&self.header);
        let namings = files.map(Naming::of).collect::<Result<Vec<_>>>()?;
        // What opens the image is there before the image is.
        let envelope = self.envelope.take().map(EnvelopeFile::commit).transpose();
        let committed: Result<()> = envelope.and_then(|envelope| {
            let committed = match self.header {
                None => self.data.commit(),
                Some(header) => NewFile::commit_pair(self.data, header),
            };
            if let (Err(_), Some(envelope)) = (&committed, envelope) {
                envelope.take_back(&namings);
            }
            Ok(committed?)
        });
        match (committed, self.stage) {
            (Ok(()), Stage::Unnamed) => Ok(()),
            (Ok(()), _) => {
                self.journal.remove();
                Ok(())
            }
            (Err(error), Stage::Unnamed) => Err(error),
            // All is there but its name, which another job can give it.
            (Err(error), _) => {
                let (durable, cause) = (self.journal.durable_len(), Box::new(error));
                Err(Error::Stopped { partial, durable, cause })
            }
        }
    }

    /// Ends a job that failed. What was made is kept where another job can go on with it, and
    /// where there is enough of it: see [`WORTH_KEEPING`].
    pub(super) fn stop(self, error: Error) -> Error {
        let useless = match &error {
            Error::SourceChanged { .. } | Error::Checksum { .. } => true,
            Error::Disk(error) if error.kind() == ErrorKind::Changed => true,
            error => matches!(error.of_network(), Some(strongroom_fetch::Error::Changed { .. })),
        };
        if let Error::PartialUnfit { .. } = error {
            // Nothing was done to it: whoever knows what it is may need it.
            return self.keep().err().unwrap_or(error);
        }
        let durable = self.journal.durable_len();
        let keep = match self.stage {
            // Whoever asked for a journal wants every part; whoever did not is told of a large one.
            Stage::New | Stage::GoingOn(_) | Stage::Finishing(_) => durable > 0,
            Stage::Unnamed => {
                let interrupted = matches!(error, Error::Interrupted);
                interrupted && self.resumable && durable >= WORTH_KEEPING
            }
        };
        if useless || !keep {
            self.remove();
            return error;
        }
        match self.keep() {
            Ok((partial, durable)) => Error::Stopped { partial, durable, cause: Box::new(error) },
            Err(_) => error,
        }
    }

    fn remove(self) {
        if self.stage != Stage::Unnamed {
            self.journal.remove();
        }
        if let Some(header) = self.header {
            header.remove();
        }
        self.data.remove();
    }

    /// Returns what is kept, and up to where it is durable.
    fn keep(self) -> Result<(PathBuf, u64)> {
        // What another job has left there is not this one's to replace, nor its journal.
        let names = [Some(&self.data), self.header.as_ref()];
        if self.stage == Stage::Unnamed {
            for name in names.into_iter().flatten() {
                if let Some(partial) = NewFile::leftover(name.target())? {
                    let problem = format!("{} is there already", partial.display());
                    return Err(Error::Request { problem });
                }
            }
        }
        let durable = match self.journal.write() {
            Ok(()) => self.journal.durable_len(),
            // A disk may be so full that not even this can be written: what was written before counts.
            Err(error) => match self.journal.read()?.map_or(0, |entry| entry.durable()) {
                0 => return Err(self.journal.failed(&error)),
                durable => durable,
            },
        };
        let kept = (|| {
            self.header.map(NewFile::keep).transpose()?;
            self.data.keep()
        })();
        kept.map(|partial| (partial, durable)).map_err(|error| {
            self.journal.remove();
            error.into()
        })
    }
}

/// Returns how far the checksum of the source had come when an earlier job was interrupted with
/// which a request is to go on.
///
/// # Errors
///
/// When its journal is no journal.
pub(super) fn earlier_checksum(request: &CloneRequest) -> Result<Option<ChecksumState>> {
    let entry = earlier_entry(request)?.filter(|entry| entry.durable() > 0);
    Ok(entry.and_then(|entry| entry.checksum().cloned()))
}

/// Returns what an interrupted job says of the target of a request that is to go on with it.
///
/// # Errors
///
/// When its journal is no journal.
pub(super) fn earlier_key(request: &CloneRequest) -> Result<Earlier> {
    let entry = earlier_entry(request)?.filter(Entry::has_begun);
    let is_there = |target: &Path| !is_empty(&NewFile::partial_path(target));
    Ok(match (entry, &request.target) {
        (Some(entry), ImageTarget::File(target)) if is_there(target) => {
            Earlier::Begun(entry.envelope().cloned().map(Box::new))
        }
        _ => Earlier::Nothing,
    })
}

/// Returns the journal of an interrupted job with which a request is to go on.
fn earlier_entry(request: &CloneRequest) -> Result<Option<Entry>> {
    let (ImageTarget::File(target), Resume::Allowed) = (&request.target, request.resume) else {
        return Ok(None);
    };
    if NewFile::leftover(target)?.is_none() {
        return Ok(None);
    }
    Entry::read(&NewFile::journal_path(target))
}

impl Parts<'_> {
    /// Refuses to go on with a file that is shorter than an earlier job made it at its beginning.
    ///
    /// # Errors
    ///
    /// [`Error::PartialUnfit`].
    pub(super) fn check_len(&self, file: &dyn Disk, least: u64) -> Result<()> {
        let len = file.len();
        if self.stage.start().is_none() || len >= least {
            return Ok(());
        }
        let problem = format!("it has {len} bytes, and had {least} when it was begun");
        Err(Error::PartialUnfit { partial: self.partial.clone(), problem })
    }

    /// Returns the error of opening what an earlier job has left, where that is the reason.
    pub(super) fn unfit(&self, error: Error) -> Error {
        match (self.stage.start(), error.kind()) {
            (Some(_), crate::ErrorKind::Image) => {
                let cause = std::error::Error::source(&error);
                let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                let problem = format!("{error}{cause}");
                Error::PartialUnfit { partial: self.partial.clone(), problem }
            }
            _ => error,
        }
    }

    /// Notes that the files get what makes them whole, so that a later job takes them for it. All
    /// else must be durable and found to be right.
    ///
    /// # Errors
    ///
    /// When the journal cannot be written.
    pub(super) fn finishing(&self) -> Result<()> {
        match self.stage {
            Stage::Unnamed => Ok(()),
            _ => self.journal.finishing(),
        }
    }
}

impl Place<'_> {
    /// Creates files that are gone with the process.
    fn unnamed(&self, job: Facts) -> Result<Opened> {
        self.create(job, Stage::Unnamed)
    }

    /// Opens the files of an earlier job, or creates such as a later one can open.
    fn named(&self, journal: &Path, job: Facts) -> Result<Opened> {
        let entry = Entry::read(journal)?.filter(Entry::has_begun);
        let partial = NewFile::leftover(self.target)?;
        if let (Some(partial), Some(entry)) = (&partial, entry)
            && !is_empty(partial)
        {
            entry.refuse_changes(&job, partial)?;
            if job.contains_key("checksum") && entry.checksum().is_none() {
                // What is in the target was never part of a checksum.
                let problem = "it says nothing of how far the checksum has come".to_owned();
                return Err(Error::Journal { path: journal.to_owned(), problem });
            }
            return self.reopen(entry, journal);
        }
        // Nothing is known to be durable, so there is nothing to go on with: whatever there is of
        // data or header is made anew.
        for target in std::iter::once(self.target).chain(self.header) {
            discard(target, self.overwrite, self.sources)?;
        }
        // A journal of another file must never stand beside the new one.
        match fs::remove_file(journal) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let (path, problem) = (journal.to_owned(), error.to_string());
                Err(Error::Journal { path, problem })
            }
            _ => self.create(job, Stage::New),
        }
    }

    fn reopen(&self, entry: Entry, journal: &Path) -> Result<Opened> {
        let start = entry.durable();
        let open = |target: &Path| -> Result<NewFile> {
            Ok(match entry.is_finishing() {
                true => NewFile::reopen_at_the_end(target, self.overwrite, self.sources)?,
                false => NewFile::reopen(target, self.overwrite, self.sources)?.0,
            })
        };
        let data = open(self.target)?;
        let header = self.header.map(open).transpose()?;
        // Only now that nobody else can be at work on them does the journal count.
        let problem = if Entry::read(journal)?.as_ref() != Some(&entry) {
            "another job has changed it"
        } else if data.disk().identity()? != entry.file() {
            "it is about another file than the unfinished one beside it"
        } else {
            ""
        };
        if !problem.is_empty() {
            let (path, problem) = (journal.to_owned(), problem.to_owned());
            return Err(Error::Journal { path, problem });
        }
        let stage = match entry.is_finishing() {
            true => Stage::Finishing(start),
            false => Stage::GoingOn(start),
        };
        Ok(Opened { data, header, permit: None, entry, stage })
    }

    fn create(&self, job: Facts, stage: Stage) -> Result<Opened> {
        let create = |target: &Path| match stage {
            Stage::Unnamed => NewFile::create(target, self.overwrite, self.sources),
            _ => NewFile::create_named(target, self.overwrite, self.sources),
        };
        let (data, permit) = create(self.target)?;
        let entry = Entry::new(job, data.disk().identity()?, self.envelope.cloned());
        let Some(header) = self.header else {
            return Ok(Opened { data, header: None, permit: Some(permit), entry, stage });
        };
        // A detached header is formatted, the data file beside it holds nothing but ciphertext.
        let (header, permit) = create(header)?;
        Ok(Opened { data, header: Some(header), permit: Some(permit), entry, stage })
    }
}

/// Removes the unfinished file of a target, if it is one of ours that nobody is at work on.
fn discard(target: &Path, overwrite: Overwrite, sources: &[&Raw]) -> Result<()> {
    let partial = NewFile::partial_path(target);
    // A process that was killed at once left it without a byte, and without its marker.
    if is_empty(&partial) && NewFile::leftover(target)?.is_some() {
        return fs::remove_file(&partial).map_err(|source| {
            let operation = strongroom_disk::Operation::Create;
            strongroom_disk::Error::from_io(operation, partial.display().to_string(), source).into()
        });
    }
    match NewFile::reopen(target, overwrite, sources) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        opened => Ok(opened.map(|(file, _)| file.remove())?),
    }
}

/// Tells whether an unfinished file holds nothing, not even its marker.
fn is_empty(partial: &Path) -> bool {
    fs::symlink_metadata(partial).is_ok_and(|found| found.file_type().is_file() && found.len() == 0)
}

/// The least bytes for which an interrupted job leaves something, though nobody had asked it to:
/// what a resumed job does again at most.
const WORTH_KEEPING: u64 = 64 << 20;
