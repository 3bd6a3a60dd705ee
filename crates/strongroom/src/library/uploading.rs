//! Uploads: bytes that somebody brings, piece by piece.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strongroom_crypto::{Hash, Hasher};
use strongroom_model::{Checksum, ImageFormat, ImageId};

use super::digest;
use super::folder::{exists, failed, write_anew};
use super::inspection::examine;
use super::lock::Lock;
use super::making::{Begun, Making};
use super::problem::refuse_odd;
use super::{Image, ImageCondition, ImageProblem, Library, NewImage, label};
use crate::catalog::Records;
use crate::images::Work;
use crate::{Error, Result, hexadecimal};

impl Library {
    /// Begins an upload of so many bytes, or finds one that was begun. Returns how many bytes of it are
    /// durable.
    ///
    /// # Errors
    ///
    /// When another one of that name was begun, with another length or checksum.
    pub fn begin_upload(&self, new: &NewImage, len: u64) -> Result<u64> {
        refuse_length(new, len)?;
        match self.begin(new, ORIGIN)? {
            Begun::Ready(image) if image.len == len => Ok(len),
            Begun::Ready(image) => {
                let difference = format!("has {} bytes, not {len}", image.len);
                Err(Error::image(&new.id, ImageProblem::Exists { difference }))
            }
            Begun::Making(making) => announce(making, new, len),
        }
    }

    /// Begins an upload anew: what has come of one before is given up. An image that is ready stays, also
    /// when it has become so this moment.
    ///
    /// # Errors
    ///
    /// [`ImageProblem::Exists`] when the image is ready, [`ImageProblem::AtWork`] while somebody brings bytes
    /// of it.
    pub fn restart_upload(&self, new: &NewImage, len: u64) -> Result<()> {
        refuse_length(new, len)?;
        let exists = || {
            let difference = "is ready, and does not change any more".to_owned();
            Error::image(&new.id, ImageProblem::Exists { difference })
        };
        let lock = Lock::take(&self.root, &new.id)?;
        match Records::<Image>::of(&*self.catalog).load(new.id.as_str())? {
            Some(stored) if stored.record.condition == ImageCondition::Ready => {
                return Err(exists());
            }
            Some(stored) => self.delete_locked(stored)?,
            None => {}
        }
        match self.begin_under(lock, new, ORIGIN)? {
            Begun::Ready(_) => Err(exists()),
            Begun::Making(making) => announce(making, new, len).map(drop),
        }
    }

    /// Returns how many bytes of an upload are durable, and how many it will have; both are the length of
    /// the file when it has ended.
    ///
    /// # Errors
    ///
    /// When there is none of that name.
    pub fn uploaded(&self, id: &ImageId) -> Result<(u64, u64)> {
        let image = self.image(id)?;
        if image.condition == ImageCondition::Ready {
            return Ok((image.len, image.len));
        }
        let entry = Entry::read(&self.folder(id).upload_journal())?;
        let entry = entry.ok_or_else(|| Error::image(id, ImageProblem::NoUpload))?;
        Ok((entry.durable, entry.announced.len))
    }

    /// Adds what a reader has to an upload, at an offset that must be where it stands. Returns how many bytes
    /// are there by then, all of them durable. Whatever came before an error of the reader stays.
    ///
    /// # Errors
    ///
    /// When the offset is another one, or more comes than was announced.
    pub fn append(&self, id: &ImageId, offset: u64, from: &mut dyn Read) -> Result<u64> {
        let making = self.upload(id)?;
        let journal = making.folder.upload_journal();
        let entry = Entry::read(&journal)?;
        let entry = entry.ok_or_else(|| Error::image(id, ImageProblem::NoUpload))?;
        if offset != entry.durable {
            let stands = entry.durable;
            return Err(Error::image(id, ImageProblem::Offset { stands, offset }));
        }
        if making.folder.has_data()? {
            // All of it has come: an earlier call has begun to end it.
            return match from.read(&mut [0]) {
                Ok(0) => Ok(entry.durable),
                _ => Err(Error::image(id, ImageProblem::TooLong { len: entry.durable })),
            };
        }
        let path = making.folder.upload();
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(|source| failed(&path, source))?;
        Growing::new(id, file, path, journal, entry)?.take(from)
    }

    /// Ends an upload: what has come is whole, has its checksum, and is what its format says. The LUKS header
    /// of an encrypted image is checked and recorded.
    ///
    /// # Errors
    ///
    /// When anything of that is not so; then it stays as it is, to be deleted or gone on with.
    pub fn finish_upload(&self, id: &ImageId, work: &Work<'_>) -> Result<Image> {
        let image = self.image(id)?;
        if image.condition == ImageCondition::Ready {
            return Ok(image);
        }
        let making = self.upload(id)?;
        let entry = Entry::read(&making.folder.upload_journal())?;
        let entry = entry.ok_or_else(|| Error::image(id, ImageProblem::NoUpload))?;
        let Announced { len, format, checksum } = &entry.announced;
        if entry.durable != *len {
            let (len, found) = (*len, entry.durable);
            return Err(Error::image(id, ImageProblem::Incomplete { len, found }));
        }
        let (upload, data) = (making.folder.upload(), making.folder.data());
        let is_named = exists(&data)?;
        let path = if is_named { &data } else { &upload };
        let format: Option<ImageFormat> = format.as_deref().map(str::parse).transpose()?;
        let facts = examine(path, id, format)?;
        let sha512 = hexadecimal(&entry.hasher(path)?.finish());
        if let Some(expected) = checksum {
            let expected: Checksum = expected.parse()?;
            digest::check(path, &label(id), &expected, &sha512, work)?;
        }
        if !is_named {
            making.folder.take_name(&upload)?;
        }
        making.ready(facts, sha512)
    }

    /// Returns an image that is being uploaded, for this call alone.
    fn upload(&self, id: &ImageId) -> Result<Making<'_>> {
        let lock = Lock::take(&self.root, id)?;
        let stored = self.load(id)?;
        match stored.record.condition {
            ImageCondition::Creating => Ok(Making::found(self, lock, stored)),
            condition => Err(Error::image(id, ImageProblem::NotReady { condition })),
        }
    }
}

/// Writes down what an upload will bring, or finds that it has been. Returns how many bytes are durable.
fn announce(mut making: Making<'_>, new: &NewImage, len: u64) -> Result<u64> {
    let wanted = Announced {
        len,
        format: new.format.map(|format| format.name().to_owned()),
        checksum: new.checksum.as_ref().map(ToString::to_string),
    };
    if let Some(found) = Entry::read(&making.folder.upload_journal())? {
        found.announced.refuse_difference(&new.id, &wanted)?;
        return Ok(found.durable);
    }
    let path = making.folder.upload();
    create(&path).map_err(|source| failed(&path, source))?;
    let hash = state(&Hasher::new(Hash::Sha512));
    let entry = Entry { version: VERSION, announced: wanted, durable: 0, hash };
    entry.write(&making.folder.upload_journal())?;
    making.record(|image| image.len = len)?;
    Ok(0)
}

fn refuse_length(new: &NewImage, len: u64) -> Result<()> {
    if len == 0 || i64::try_from(len).is_err() {
        let problem = format!("an upload of {len} bytes makes no image");
        return Err(Error::Request { problem });
    }
    match new.format {
        Some(ImageFormat::Raw) => refuse_odd(&new.id, len),
        // Of the others the header tells, once it is there.
        _ => Ok(()),
    }
}

/// What is known of an upload before its first byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Announced {
    len: u64,
    format: Option<String>,
    checksum: Option<String>,
}

/// How far an upload has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    version: u32,
    announced: Announced,
    /// Up to where the bytes survive a loss of power.
    durable: u64,
    /// SHA-512 of those, on its way, in hexadecimal.
    hash: String,
}

/// An upload that gets longer.
struct Growing<'a> {
    id: &'a ImageId,
    file: File,
    path: PathBuf,
    journal: PathBuf,
    entry: Entry,
    hasher: Hasher,
    /// Where the next byte goes.
    stands: u64,
}

impl Announced {
    fn refuse_difference(&self, id: &ImageId, wanted: &Self) -> Result<()> {
        let said = |value: &Option<String>| value.clone().unwrap_or("nothing".to_owned());
        let difference = if self.len != wanted.len {
            format!("was begun with {} bytes, not {}", self.len, wanted.len)
        } else if self.checksum != wanted.checksum {
            format!("was begun with the checksum {}", said(&self.checksum))
        } else if self.format != wanted.format {
            format!("was begun with the format {}", said(&self.format))
        } else {
            return Ok(());
        };
        Err(Error::image(id, ImageProblem::Exists { difference }))
    }
}

impl Entry {
    fn read(path: &Path) -> Result<Option<Self>> {
        let text = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|source| failed(path, source))?,
        };
        let unusable = |problem: String| Error::Journal { path: path.to_owned(), problem };
        let entry: Self =
            serde_json::from_slice(&text).map_err(|error| unusable(error.to_string()))?;
        match entry.version {
            VERSION => Ok(Some(entry)),
            other => Err(unusable(format!("its version {other} is unknown"))),
        }
    }

    fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|error| Error::Journal {
            path: path.to_owned(),
            problem: error.to_string(),
        })?;
        write_anew(path, &text)
    }

    /// Returns the hasher of what is durable.
    fn hasher(&self, path: &Path) -> Result<Hasher> {
        let digits: Option<Vec<u8>> =
            self.hash.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect();
        let bytes: Vec<u8> = digits
            .unwrap_or_default()
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |sum, digit| sum << 4 | digit))
            .collect();
        Hasher::restore(Hash::Sha512, &bytes)
            .map_err(|error| Error::Journal { path: path.to_owned(), problem: error.to_string() })
    }
}

impl<'a> Growing<'a> {
    /// Goes on where the upload is durable: what may be there beyond is given up.
    fn new(
        id: &'a ImageId,
        file: File,
        path: PathBuf,
        journal: PathBuf,
        entry: Entry,
    ) -> Result<Self> {
        let stands = entry.durable;
        file.set_len(stands).map_err(|source| failed(&path, source))?;
        let hasher = entry.hasher(&journal)?;
        Ok(Self { id, file, path, journal, entry, hasher, stands })
    }

    fn take(mut self, from: &mut dyn Read) -> Result<u64> {
        let taken = self.pour(from);
        // Also what came before an error.
        let durable = if self.stands > self.entry.durable { self.checkpoint() } else { Ok(()) };
        taken.and(durable).map(|()| self.entry.durable)
    }

    fn pour(&mut self, from: &mut dyn Read) -> Result<()> {
        let mut buffer = vec![0; PIECE];
        loop {
            let room = self.entry.announced.len - self.stands;
            // One byte more than there may be tells whether there is one.
            let wanted = buffer.len().min(usize::try_from(room).unwrap_or(usize::MAX)).max(1);
            let (filled, ended) = fill(from, &mut buffer[..wanted]);
            if filled > 0 && room == 0 {
                let len = self.entry.announced.len;
                return Err(Error::image(self.id, ImageProblem::TooLong { len }));
            }
            self.write(&buffer[..filled])?;
            if self.stands - self.entry.durable >= CHECKPOINT {
                self.checkpoint()?;
            }
            match ended {
                None => {}
                Some(Ok(())) => return Ok(()),
                Some(Err(source)) => {
                    let offset = self.stands;
                    return Err(Error::Clone(strongroom_clone::Error::Stream { offset, source }));
                }
            }
        }
    }

    /// Adds bytes; runs of zeros become holes. The checksum is always that of what is there, also when there is
    /// no room for all of them.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for block in bytes.chunks(SHORTEST_HOLE) {
            if block.iter().any(|&byte| byte != 0) {
                let written = self.file.write_all_at(block, self.stands);
                written.map_err(|source| failed(&self.path, source))?;
            }
            self.hasher.update(block);
            self.stands += block.len() as u64;
        }
        Ok(())
    }

    /// Makes durable what has come, and records that it is.
    fn checkpoint(&mut self) -> Result<()> {
        let synced = self.file.set_len(self.stands).and_then(|()| self.file.sync_all());
        synced.map_err(|source| failed(&self.path, source))?;
        let next = Entry { durable: self.stands, hash: state(&self.hasher), ..self.entry.clone() };
        next.write(&self.journal)?;
        self.entry = next;
        Ok(())
    }
}

/// Fills a buffer as far as a reader goes. Returns how far that is, and how the reader has ended if it has.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> (usize, Option<io::Result<()>>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => return (filled, Some(Ok(()))),
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Some(Err(error))),
        }
    }
    (filled, None)
}

fn create(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.sync_all()
}

/// Returns where a hasher is, in hexadecimal digits.
fn state(hasher: &Hasher) -> String {
    hexadecimal(&hasher.save().expect("the state of SHA-512 can be saved"))
}

/// How an image comes that is uploaded.
const ORIGIN: &str = "upload";

/// The version of the journal that this program writes and reads.
const VERSION: u32 = 1;

/// After how many bytes they are made durable.
const CHECKPOINT: u64 = 64 << 20;

/// How much is read at once.
const PIECE: usize = 1 << 20;

/// The shortest run of zeros that becomes a hole.
const SHORTEST_HOLE: usize = 32 << 10;
