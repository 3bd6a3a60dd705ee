//! The format ledger: a volume is formatted at most once.
//!
//! Three witnesses tell whether a volume was formatted: the state in the catalog, the mark that the pool
//! keeps beside the bytes, and the bytes themselves. Formatting goes through them in this order: the
//! catalog says `Formatting`, the mark says *begun*, the device bears our marker of unfinished files;
//! then the header is finished, the mark says *finished*, the catalog says `Formatted`. Nobody uses the
//! volume before that.
//!
//! So a permit is made only while no witness speaks against it: a catalog that was rolled back meets a
//! finished mark, a device that reads as zeros for a moment meets a pool that knows of written bytes, and
//! a header under its final magic is never written over, whatever the other two say.

use strongroom_attach::file_system::{self, Found};
use strongroom_disk::{Disk, FormatPermit, is_marked};
use strongroom_luks::Header;
use strongroom_pool::{FormatMark, FormatStage, Item, Pool};

use super::{FormatState, Volume, VolumeProblem, device_len};
use crate::catalog::{Catalog, Records, Stored};
use crate::{Error, Result, device, hexadecimal};

/// The format states of the volumes of a pool.
pub(crate) struct Ledger<'a> {
    pub(crate) pool: &'a dyn Pool,
    pub(crate) catalog: &'a dyn Catalog,
}

/// What may be done with a volume.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It was never used: it may be formatted.
    Format(Grant),
    /// It was formatted; an encrypted one has this header.
    Open {
        /// The header of an encrypted one.
        header: Option<Box<Header>>,
        /// What the ledger will know of it once it has opened: nothing where it knows already.
        unrecorded: Option<FormatState>,
    },
}

/// The right to format one volume once.
#[derive(Debug)]
pub(crate) struct Grant {
    /// The UUID that the header, or the file system where there is no header, must get.
    pub(crate) uuid: String,
    /// The right to write the header.
    pub(crate) header: FormatPermit,
    /// The right to fill what the header describes.
    pub(crate) contents: FormatPermit,
}

/// What the bytes of an encrypted volume's device say.
enum Seen {
    Header(Box<Header>),
    /// Our marker of unfinished files.
    Marker,
    /// Something else that is known, or nothing.
    Other(Option<&'static str>),
}

impl Ledger<'_> {
    /// Says what may be done with an encrypted volume on `device`, and records that it is about to be
    /// formatted when that is it. `new_uuid` is for a volume that has none yet.
    ///
    /// # Assumptions
    ///
    /// The caller holds the lock of the volume until it has called [`finished`](Self::finished).
    ///
    /// # Errors
    ///
    /// Each problem of a volume that says that formatting would destroy something, or that something is
    /// not there any more.
    pub(crate) fn encrypted(
        &self,
        stored: Stored<Volume>,
        device: &dyn Disk,
        new_uuid: &str,
    ) -> Result<(Stored<Volume>, Verdict)> {
        let problem = |problem| Err(Error::volume(&stored.record.id, problem));
        let item = item(&stored.record);
        let seen = look(device)?;
        let mark = self.pool.format_mark(&item)?;
        match (stored.record.format.clone(), mark) {
            (FormatState::Formatted { uuid, digest }, _) => {
                check_len(&stored.record, device.len())?;
                let header = match seen {
                    Seen::Header(header) => header,
                    Seen::Marker => {
                        return problem(VolumeProblem::HeaderGone { uuid, found: None });
                    }
                    Seen::Other(found) => {
                        return problem(VolumeProblem::HeaderGone { uuid, found });
                    }
                };
                if header.uuid() != uuid || digest_of(&header) != digest {
                    let found = header.uuid().to_owned();
                    return problem(VolumeProblem::OtherHeader { uuid, found });
                }
                let header = Some(header);
                Ok((stored, Verdict::Open { header, unrecorded: None }))
            }
            (FormatState::Blank, None) => match seen {
                Seen::Header(_) => {
                    problem(VolumeProblem::ForeignSignature { found: "a LUKS header".to_owned() })
                }
                Seen::Other(Some(found)) => {
                    problem(VolumeProblem::ForeignSignature { found: found.to_owned() })
                }
                Seen::Marker => problem(VolumeProblem::Written),
                Seen::Other(None) => self.grant_untouched(stored, new_uuid),
            },
            (FormatState::Formatting { uuid }, None) => match seen {
                Seen::Other(None) => self.grant_untouched(stored, &uuid),
                _ => problem(VolumeProblem::Written),
            },
            // Whichever attempt the catalog knows of, nobody has used it: the mark is the newer witness.
            (_, Some(mark)) => self.marked(stored, seen, mark, device.len()),
        }
    }

    /// Says what may be done with an encrypted volume that the catalog does not know to be formatted, but
    /// that bears a mark.
    fn marked(
        &self,
        stored: Stored<Volume>,
        seen: Seen,
        mark: FormatMark,
        len: u64,
    ) -> Result<(Stored<Volume>, Verdict)> {
        let FormatMark { uuid, stage } = mark;
        match (seen, stage) {
            // Whoever was killed had only the catalog left to change, or the catalog is an older one.
            (Seen::Header(header), _) if header.uuid() == uuid => {
                check_len(&stored.record, len)?;
                let digest = digest_of(&header);
                let unrecorded = Some(FormatState::Formatted { uuid, digest });
                Ok((stored, Verdict::Open { header: Some(header), unrecorded }))
            }
            (Seen::Marker, FormatStage::Begun) => {
                let stored = self.begin(stored, &uuid)?;
                Ok((stored, Verdict::Format(Grant::new(uuid))))
            }
            (Seen::Other(None), FormatStage::Begun) => self.grant_untouched(stored, &uuid),
            (_, FormatStage::Begun) => {
                Err(Error::volume(&stored.record.id, VolumeProblem::Written))
            }
            (_, FormatStage::Finished) => {
                Err(Error::volume(&stored.record.id, VolumeProblem::CatalogBehind { uuid }))
            }
        }
    }

    /// Says what may be done with the file system of a volume that is not encrypted, on the block device
    /// at `path`, which shows it.
    ///
    /// # Errors
    ///
    /// As [`encrypted`](Self::encrypted).
    pub(crate) fn plain(
        &self,
        stored: Stored<Volume>,
        path: &std::path::Path,
        new_uuid: &str,
    ) -> Result<(Stored<Volume>, Verdict)> {
        let open = |unrecorded| Verdict::Open { header: None, unrecorded };
        let item = item(&stored.record);
        check_len(&stored.record, self.pool.entry(&item)?.map_or(0, |entry| entry.len))?;
        let found = file_system::probe(path)?;
        let mark = self.pool.format_mark(&item)?;
        match (stored.record.format.clone(), mark) {
            (FormatState::Formatted { .. }, _) => Ok((stored, open(None))),
            (_, Some(FormatMark { uuid, stage: FormatStage::Finished })) => {
                Ok((stored, open(Some(FormatState::Formatted { uuid, digest: None }))))
            }
            // Nobody has used it yet, so what is there is ours and half made.
            (_, Some(FormatMark { uuid, stage: FormatStage::Begun })) => {
                let stored = self.begin(stored, &uuid)?;
                Ok((stored, Verdict::Format(Grant::new(uuid))))
            }
            (state, None) => match found {
                Found::Nothing => {
                    let uuid = match state {
                        FormatState::Formatting { uuid } => uuid,
                        _ => new_uuid.to_owned(),
                    };
                    self.grant_untouched(stored, &uuid)
                }
                // Somebody was handed the device, and has made it himself.
                Found::FileSystem(_) => Ok((stored, open(None))),
                Found::Other(found) => Err(Error::volume(
                    &stored.record.id,
                    VolumeProblem::ForeignSignature { found: found.to_owned() },
                )),
            },
        }
    }

    /// Records that somebody gets the device of a volume that is not encrypted, and may write anything:
    /// what was begun on it is never made again.
    ///
    /// # Errors
    ///
    /// What pool or catalog say.
    pub(crate) fn hand_out_plain(&self, stored: Stored<Volume>) -> Result<Stored<Volume>> {
        let entry = self.pool.entry(&item(&stored.record))?;
        check_len(&stored.record, entry.map_or(0, |entry| entry.len))?;
        let begun = match (self.pool.format_mark(&item(&stored.record))?, &stored.record.format) {
            (Some(FormatMark { uuid, stage: FormatStage::Begun }), _) => Some(uuid),
            (None, FormatState::Formatting { uuid }) => Some(uuid.clone()),
            _ => None,
        };
        match begun {
            Some(uuid) => self.finished(stored, &uuid, None),
            None => Ok(stored),
        }
    }

    /// Records that a volume is formatted: what was granted is done, or was found to be.
    ///
    /// # Errors
    ///
    /// What pool or catalog say.
    pub(crate) fn finished(
        &self,
        mut stored: Stored<Volume>,
        uuid: &str,
        digest: Option<String>,
    ) -> Result<Stored<Volume>> {
        let mark = FormatMark { uuid: uuid.to_owned(), stage: FormatStage::Finished };
        self.pool.mark_format(&item(&stored.record), &mark)?;
        stored.record.format = FormatState::Formatted { uuid: uuid.to_owned(), digest };
        Ok(Records::of(self.catalog).replace(stored)?)
    }

    /// Grants a volume of which the pool knows that no byte was ever written.
    fn grant_untouched(
        &self,
        stored: Stored<Volume>,
        uuid: &str,
    ) -> Result<(Stored<Volume>, Verdict)> {
        if !self.pool.is_untouched(&item(&stored.record))? {
            return Err(Error::volume(&stored.record.id, VolumeProblem::Written));
        }
        let stored = self.begin(stored, uuid)?;
        Ok((stored, Verdict::Format(Grant::new(uuid.to_owned()))))
    }

    /// Records that a volume is about to be formatted, in the catalog and beside its bytes.
    fn begin(&self, mut stored: Stored<Volume>, uuid: &str) -> Result<Stored<Volume>> {
        let begun = FormatState::Formatting { uuid: uuid.to_owned() };
        if stored.record.format != begun {
            stored.record.format = begun;
            stored = Records::of(self.catalog).replace(stored)?;
        }
        let mark = FormatMark { uuid: uuid.to_owned(), stage: FormatStage::Begun };
        self.pool.mark_format(&item(&stored.record), &mark)?;
        Ok(stored)
    }
}

impl Grant {
    fn new(uuid: String) -> Self {
        let permit = FormatPermit::granted_by_the_ledger;
        Self { uuid, header: permit(), contents: permit() }
    }
}

/// Refuses a device that is shorter than what was recorded.
fn check_len(volume: &Volume, found: u64) -> Result<()> {
    let recorded = device_len(volume.size, &volume.encryption);
    if found < recorded {
        return Err(Error::volume(&volume.id, VolumeProblem::Short { recorded, found }));
    }
    Ok(())
}

/// Returns the digest of a header's volume key in hexadecimal.
pub(crate) fn digest_of(header: &Header) -> Option<String> {
    let digest = header.volume_key_digest()?;
    Some(hexadecimal(digest))
}

/// Returns the bytes of a volume.
pub(crate) fn item(volume: &Volume) -> Item {
    Item::Volume(volume.id.clone())
}

fn look(device: &dyn Disk) -> Result<Seen> {
    if is_marked(device)? {
        return Ok(Seen::Marker);
    }
    match device::read_header(device) {
        Ok(found) => Ok(Seen::Header(Box::new(found.header))),
        Err(Error::NotEncrypted { signature: Some(found), .. }) => Ok(Seen::Other(Some(found))),
        Err(Error::NotEncrypted { signature: None, .. }) => {
            let head = device::read_first(device, HEAD)?;
            let blank = head.iter().all(|&byte| byte == 0);
            Ok(Seen::Other((!blank).then_some("data of a kind that nobody knows")))
        }
        Err(error) => Err(error),
    }
}

/// How much of a device must be zeros for it to look blank, in bytes.
const HEAD: usize = 1 << 20;
