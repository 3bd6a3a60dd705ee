//! Targets: a file of any format, or standard output.

use std::cell::Cell;
use std::io;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::atomic::Ordering;

use strongroom_clone::{Pass, Plan, Report, Zeroes};
use strongroom_disk::qcow2::{
    self, Clusters, Compression, CreateOptions, Filling, Qcow2, Repair, Version,
};
use strongroom_disk::{Access, Disk, Encrypted, NewEnds, Outlet, Padded, Resizable, Unfinished};
use strongroom_luks::{FormatOptions, Header};
use strongroom_model::{CloneRequest, ClusterCompression, ImageFormat, ImageTarget, TargetFormat};

use super::files::{Files, Parts, Stage};
use super::guard::Guard;
use super::journal::Unwritten;
use super::source::Contents;
use super::target_key::TargetKey;
use super::{Cloned, Work};
use crate::envelope_file::EnvelopeFile;
use crate::new_image::{self, Finish};
use crate::staged::Staged;
use crate::{Error, Result};

/// What is to be made of a source.
pub(super) struct Making<'a> {
    pub(super) request: &'a CloneRequest,
    pub(super) format: TargetFormat,
    /// How a target in qcow2 is laid out, where that is not left to us. It has at least that length.
    pub(super) layout: Option<&'a CreateOptions>,
    /// How the target is encrypted, if it is.
    pub(super) options: Option<FormatOptions>,
    /// What will open it; taken when it is formatted or opened, so that no copying sees it.
    pub(super) key: Cell<Option<TargetKey>>,
    pub(super) guard: Guard<'a>,
    pub(super) work: &'a Work<'a>,
    /// What is done to a file that is whole, before it gets its name.
    pub(super) finish: Finish<'a>,
}

impl Making<'_> {
    /// Makes the target in its files.
    ///
    /// # Errors
    ///
    /// What went wrong. Then the files are as they were found, or hold what a later job can go on
    /// with.
    pub(super) fn file(&self, contents: Contents, mut files: Files) -> Result<Cloned> {
        let made = self.parts(contents, files.parts());
        let made = made.and_then(|cloned| (self.finish)(files.data()).map(|()| cloned));
        match made {
            Ok(cloned) => files.commit().map(|()| cloned),
            Err(error) => Err(files.stop(error)),
        }
    }

    /// Makes the target, whole and durable.
    fn parts(&self, contents: Contents, parts: Parts<'_>) -> Result<Cloned> {
        match self.format {
            TargetFormat::Bytes | TargetFormat::Image(ImageFormat::Raw) => {
                self.raw(contents, &parts)
            }
            TargetFormat::Image(ImageFormat::Luks1 | ImageFormat::Luks2) => {
                self.luks(contents, parts)
            }
            TargetFormat::Image(ImageFormat::Qcow2 | ImageFormat::Qcow2Luks) => {
                self.qcow2(contents, parts)
            }
        }
    }

    /// Writes the target to standard output, from beginning to end.
    ///
    /// # Errors
    ///
    /// What went wrong; what was written before cannot be taken back.
    pub(super) fn standard_output(
        &self,
        mut contents: Contents,
        envelope: Option<EnvelopeFile>,
    ) -> Result<Cloned> {
        let out = |len| Outlet::new(io::stdout(), STDOUT, len);
        // In order, for which one thread is as good as many.
        let plan = Plan::new(NonZeroUsize::MIN, Zeroes::Write);
        let Some(options) = &self.options else {
            let out = out(contents.len().unwrap_or(0));
            let report = self.copy(&mut contents, &out, plan, None)?;
            self.guard.check(&contents)?;
            let target_len = out.len();
            out.finish()?;
            return Ok(Cloned { report, format: self.format, header: None, target_len });
        };
        let formatted = self.key()?.format(options, STDOUT, &self.work.policy)?;
        let (header, offset) = placed(formatted.header.clone(), STDOUT)?;
        let out = out(end(offset, contents.len().unwrap_or(0))?);
        // A pipe has no way back: whoever reads it gets the header first.
        Staged::write_through(&out, &formatted)?;
        let target = encrypted(&out, &header, &formatted.volume_key, offset)?;
        let report = self.copy(&mut contents, &target, plan, None)?;
        self.guard.check(&contents)?;
        drop(target);
        let target_len = out.len();
        // Whoever has all of the image shall find what opens it.
        envelope.map(EnvelopeFile::commit).transpose()?;
        out.finish()?;
        Ok(Cloned { report, format: self.format, header: Some(header), target_len })
    }

    /// Holes and zeros become holes.
    fn raw(&self, mut contents: Contents, parts: &Parts<'_>) -> Result<Cloned> {
        let file = self.unfinished(parts.data, parts.stage, [0; 8])?;
        if let Some(len) = contents.len() {
            parts.check_len(&file, len)?;
            file.set_len(len)?;
        }
        self.renew_first_bytes(&contents, &file, parts.stage)?;
        let report = self.copy(&mut contents, &file, self.plan(Zeroes::Skip), Some(parts))?;
        self.guard.check(&contents)?;
        parts.finishing()?;
        file.finish()?;
        Ok(Cloned { report, format: self.format, header: None, target_len: file.len() })
    }

    fn luks(&self, mut contents: Contents, mut parts: Parts<'_>) -> Result<Cloned> {
        let mut options = self.options.clone().ok_or_else(not_encrypted)?;
        options.detached = parts.header.is_some();
        if options.detached && options.data_offset.is_some() {
            let problem =
                "with a header of its own the data begins at byte 0: leave the data offset out";
            return Err(Error::Request { problem: problem.to_owned() });
        }
        let permit = parts.permit.take();
        let first = first_bytes(options.version.number());
        let (data_first, header_first) =
            if options.detached { ([0; 8], first) } else { (first, first) };
        let data = self.unfinished(parts.data, parts.stage, data_first)?;
        let apart = match &parts.header {
            None => None,
            Some(header) => Some(self.unfinished(*header, parts.stage, header_first)?),
        };
        let keys: &dyn Resizable = apart.as_ref().map_or(&data as &dyn Resizable, |apart| apart);
        let volume = match (parts.stage.start(), permit) {
            (Some(_), _) => {
                parts.check_len(&data, contents.len().unwrap_or(0))?;
                let opened = self.key()?.open(keys, &self.work.policy);
                opened.map_err(|error| parts.unfit(error))?
            }
            (None, Some(permit)) => {
                let label = parts.data.label();
                let formatted = self.key()?.format(&options, label, &self.work.policy)?;
                keys.set_len(formatted.header.backup_len())?;
                Staged::write(keys, formatted, permit)?
            }
            (None, None) => return Err(not_encrypted()),
        };
        let (_, offset) = placed(volume.header.clone(), data.label())?;
        let len = end(offset, contents.len().unwrap_or(0))?;
        parts.check_len(&data, len)?;
        data.set_len(len)?;
        let target = encrypted(&data, &volume.header, &volume.key, offset)?;
        if options.detached {
            self.renew_first_bytes(&contents, &target, parts.stage)?;
        }
        let report = self.copy(&mut contents, &target, self.plan(Zeroes::Write), Some(&parts))?;
        drop(target);
        self.guard.check(&contents)?;
        // Whoever finds the second magic finds a journal that says so.
        parts.finishing()?;
        volume.complete(keys)?;
        data.finish()?;
        if let Some(apart) = &apart {
            apart.finish()?;
        }
        Ok(Cloned {
            report,
            format: self.format,
            header: Some(volume.header),
            target_len: data.len(),
        })
    }

    fn qcow2(&self, mut contents: Contents, mut parts: Parts<'_>) -> Result<Cloned> {
        let permit = parts.permit.take();
        let first = match self.layout.map(|layout| layout.version) {
            Some(Version::V2) => *b"QFI\xfb\x00\x00\x00\x02",
            Some(Version::V3) | None => *b"QFI\xfb\x00\x00\x00\x03",
        };
        let file = self.unfinished(parts.data, parts.stage, first)?;
        // Formatted first, since the image has to keep room for the header.
        let formatted = match (&self.options, parts.stage.start()) {
            (Some(options), None) => {
                let label = parts.data.label();
                Some(self.key()?.format(options, label, &self.work.policy)?)
            }
            _ => None,
        };
        if parts.stage.start().is_some() {
            // What was written after the last checkpoint may be counted, but nobody refers to it.
            let found = qcow2::check(&file, Repair::Leaks);
            let found = found.map_err(|error| parts.unfit(error.into()))?;
            if found.corruptions > 0 {
                let problem = format!("{} of its clusters are damaged", found.corruptions);
                return Err(Error::PartialUnfit { partial: parts.partial.clone(), problem });
            }
        } else {
            let luks_header = match &formatted {
                Some(formatted) => Some(placed(formatted.header.clone(), file.label())?.1),
                None => None,
            };
            let created = qcow2::create(&file, &self.create_options(&contents, luks_header));
            created.map_err(new_image::layout_refused)?;
        }
        let mut image = Qcow2::open(&file, Access::ReadWrite, &qcow2::Closed)?;
        let volume = self.open_luks_area(&mut image, formatted, permit)?;
        let clusters = match self.request.compression {
            Some(_) => Clusters::Compressed,
            None => Clusters::Plain,
        };
        let cluster = NonZeroUsize::new(image.header().cluster_size() as usize);
        let target = Filling::new(image, clusters);
        let plan = self.plan(Zeroes::Skip).with_alignment(cluster.unwrap_or(NonZeroUsize::MIN));
        contents.pad(self.layout.map_or(0, |layout| layout.size))?;
        let report = self.copy(&mut contents, &target, plan, Some(&parts))?;
        self.guard.check(&contents)?;
        target.into_image().close()?;
        parts.finishing()?;
        file.finish()?;
        Ok(Cloned {
            report,
            format: self.format,
            header: volume.map(|volume| volume.header),
            target_len: file.len(),
        })
    }

    /// Gives an encrypted image its key, and its header where that is new.
    fn open_luks_area<D: Resizable>(
        &self,
        image: &mut Qcow2<D>,
        formatted: Option<strongroom_luks::Formatted>,
        permit: Option<strongroom_disk::FormatPermit>,
    ) -> Result<Option<Staged>> {
        if self.options.is_none() {
            return Ok(None);
        }
        let volume = {
            let area = image.luks_area()?.ok_or_else(not_encrypted)?;
            match (formatted, permit) {
                (Some(formatted), Some(permit)) => Staged::write(&area, formatted, permit)?,
                _ => self.key()?.open(&area, &self.work.policy)?,
            }
        };
        image.unlock_with_key(&volume.key)?;
        Ok(Some(volume))
    }

    fn create_options(&self, contents: &Contents, luks_header: Option<u64>) -> CreateOptions {
        let compression = match self.request.compression {
            Some(ClusterCompression::Zstd) => Compression::Zstd,
            Some(ClusterCompression::Zlib) | None => Compression::Zlib,
        };
        let size = contents.len().unwrap_or(0).next_multiple_of(512);
        let layout = self.layout.cloned().unwrap_or_else(|| CreateOptions::new(size));
        CreateOptions { size: size.max(layout.size), compression, luks_header, ..layout }
    }

    /// Returns a file that bears no magic until it is finished. `first` is what it will begin with,
    /// for one that an earlier job has begun.
    fn unfinished<D: Resizable>(
        &self,
        file: D,
        stage: Stage,
        first: [u8; 8],
    ) -> Result<Unfinished<D>> {
        Ok(match stage {
            Stage::New | Stage::Unnamed => Unfinished::new(file)?,
            Stage::GoingOn(_) => Unfinished::resume(file, first)?,
            Stage::Finishing(_) => Unfinished::resume_at_the_end(file, first)?,
        })
    }

    /// Copies the first bytes anew where a job goes on: the file of the earlier one has its marker
    /// there, and they are nobody's magic.
    fn renew_first_bytes(
        &self,
        contents: &Contents,
        target: &dyn Disk,
        stage: Stage,
    ) -> Result<()> {
        if let (Some(_), Contents::Disk(source)) = (stage.start(), contents) {
            let mut first = vec![0; source.len().min(FIRST) as usize];
            source.read_at(&mut first, 0)?;
            target.write_scratch_at(&mut first, 0)?;
        }
        Ok(())
    }

    fn copy(
        &self,
        contents: &mut Contents,
        target: &dyn Resizable,
        plan: Plan,
        parts: Option<&Parts<'_>>,
    ) -> Result<Report> {
        let work = self.work;
        let plan = plan.with_rate_limit(self.request.rate_limit);
        let mut pass = Pass::new(plan, work.observer.as_progress(), work.cancelled);
        let unwritten = parts.map(|parts| Unwritten(parts.journal));
        work.observer.begin(contents.len());
        Ok(match contents {
            Contents::Disk(source) => {
                if let (Some(parts), Some(unwritten)) = (parts, &unwritten) {
                    pass = match parts.stage {
                        Stage::Unnamed => pass.with_last_checkpoint(unwritten),
                        Stage::New => pass.with_resumption(0, parts.journal),
                        Stage::GoingOn(start) | Stage::Finishing(start) => {
                            pass.with_resumption(start, parts.journal)
                        }
                    };
                }
                strongroom_clone::run(source, target, &pass)?
            }
            Contents::Stream(stream) => {
                let sector = self.options.as_ref().map_or(1, |options| options.sector_size.bytes());
                let unit = NonZeroU64::new(sector as u64).unwrap_or(NonZeroU64::MIN);
                let report = strongroom_clone::pour(&mut stream.reader, target, unit, &pass)?;
                // Whatever feeds a pipe may have ended by the same signal.
                if work.cancelled.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                if report.bytes == 0 && self.options.is_some() {
                    return Err(Error::Empty { label: stream.label.clone() });
                }
                report
            }
        })
    }

    fn plan(&self, zeroes: Zeroes) -> Plan {
        match self.request.threads {
            Some(threads) => Plan::new(threads, zeroes),
            None => Plan::for_this_machine(zeroes),
        }
    }

    /// Takes what opens the target.
    fn key(&self) -> Result<TargetKey> {
        let label = || target_label(&self.request.target);
        self.key.take().ok_or_else(|| Error::NoPassphrase { label: label() })
    }
}

impl Contents {
    fn len(&self) -> Option<u64> {
        match self {
            Self::Disk(disk) => Some(disk.len()),
            Self::Stream(stream) => stream.len,
        }
    }

    /// Makes the length a multiple of 512 and at least `least`, with zeros.
    fn pad(&mut self, least: u64) -> Result<()> {
        if let Self::Disk(disk) = self
            && (disk.len() < least || !disk.len().is_multiple_of(512))
        {
            let len = disk.len().max(least).next_multiple_of(512);
            *disk = std::sync::Arc::new(Padded::new(std::sync::Arc::clone(disk), len)?);
        }
        Ok(())
    }
}

/// Returns where the data of a new volume begins.
fn placed(header: Header, label: &str) -> Result<(Header, u64)> {
    // Only the largest device there is tells where the data begins; then its length is known.
    let offset = header.payload(LARGEST).map_err(Error::luks(label))?.offset;
    Ok((header, offset))
}

/// Returns where data of that length ends.
fn end(offset: u64, length: u64) -> Result<u64> {
    let end = offset.checked_add(length).filter(|end| i64::try_from(*end).is_ok());
    end.ok_or_else(|| Error::Request {
        problem: format!("data offset {offset} is beyond the largest file there can be"),
    })
}

/// Returns the plain view of what follows the header.
fn encrypted<D: Resizable>(
    disk: D,
    header: &Header,
    key: &strongroom_crypto::VolumeKey,
    offset: u64,
) -> Result<Encrypted<D>> {
    let failed = Error::luks(disk.label());
    // The header's own view of its length is for those who open it.
    let payload = header.payload(LARGEST).map_err(&failed)?;
    let cipher = payload.cipher(key).map_err(&failed)?;
    drop(failed);
    let range = offset..disk.len();
    Ok(Encrypted::new(disk, range, cipher, payload.iv_tweak)?.with_new_ends(NewEnds::Noise))
}

/// Returns what a LUKS header of that version begins with.
fn first_bytes(version: u16) -> [u8; 8] {
    let mut first = *b"LUKS\xba\xbe\x00\x00";
    first[6..].copy_from_slice(&version.to_be_bytes());
    first
}

/// Returns what errors call a target.
pub(super) fn target_label(target: &ImageTarget) -> String {
    match target {
        ImageTarget::File(path) => path.display().to_string(),
        ImageTarget::StandardOutput => STDOUT.to_owned(),
    }
}

fn not_encrypted() -> Error {
    Error::Request { problem: "nobody said how the target is encrypted".to_owned() }
}

/// The length of the largest device there is, in whole sectors of any size.
const LARGEST: u64 = u64::MAX - u64::MAX % 4096;

/// How much is copied anew at the beginning: a block that no piece of a copy is shorter than.
const FIRST: u64 = 4096;

/// What errors call standard output.
const STDOUT: &str = "standard output";

#[cfg(test)]
mod tests;
