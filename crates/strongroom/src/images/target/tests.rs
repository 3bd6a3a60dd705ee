//! A crash after every write of the real steps: what is left is taken for nothing, or is whole.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use strongroom_crypto::{CostPolicy, Hash, Kdf, Passphrase, SectorSize};
use strongroom_disk::qcow2::Closed;
use strongroom_disk::{FormatPermit, Memory, NewFile, Overwrite};
use strongroom_luks::{RepairScope, Version};
use strongroom_model::{EncryptionRequest, ImageOperation, ImageSource, ImageTarget};
use strongroom_testkit::{Change, Pattern, RecordingDisk, Tearing};

use super::*;
use crate::images::Earlier;
use crate::images::bytes::{DiskBytes, Identity};
use crate::images::guard::Checking;
use crate::images::journal::{Entry, Facts, Journal};
use crate::images::source::{Source, SourceKind, unlock_qcow2};
use crate::{Opener, OwnedNewKey};
use crate::{device, system_rng};

/// What is made, and of what.
#[derive(Clone, Copy)]
struct Job {
    source: ImageFormat,
    target: ImageFormat,
    compression: Option<ClusterCompression>,
}

impl Job {
    const ALL: [Self; 6] = [
        Self::new(ImageFormat::Qcow2, ImageFormat::Qcow2Luks),
        Self::new(ImageFormat::Raw, ImageFormat::Luks2),
        Self::new(ImageFormat::Raw, ImageFormat::Luks1),
        Self::new(ImageFormat::Raw, ImageFormat::Qcow2),
        Self {
            compression: Some(ClusterCompression::Zlib),
            ..Self::new(ImageFormat::Raw, ImageFormat::Qcow2)
        },
        Self::new(ImageFormat::Qcow2, ImageFormat::Raw),
    ];

    const fn new(source: ImageFormat, target: ImageFormat) -> Self {
        Self { source, target, compression: None }
    }

    fn request(self) -> CloneRequest {
        let operation = match self.target.luks() {
            Some(format) => ImageOperation::Encrypt(EncryptionRequest {
                format,
                ..EncryptionRequest::default()
            }),
            None => ImageOperation::Copy,
        };
        let target = ImageTarget::File("target".into());
        CloneRequest {
            compression: self.compression,
            threads: Some(NonZeroUsize::MIN),
            ..CloneRequest::new(ImageSource::StandardInput, target, operation)
        }
    }

    fn options(self) -> Option<FormatOptions> {
        let version = match self.target {
            ImageFormat::Luks2 => Version::Luks2,
            ImageFormat::Luks1 | ImageFormat::Qcow2Luks => Version::Luks1,
            ImageFormat::Raw | ImageFormat::Qcow2 => return None,
        };
        Some(FormatOptions {
            kdf: Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 1000 },
            sector_size: SectorSize::B512,
            ..FormatOptions::new(version)
        })
    }

    /// Makes the target on a disk, from the stage on that it has reached.
    fn make(self, disk: &dyn Resizable, stage: Stage, journal: &Path) -> Result<Cloned> {
        self.make_with_header(disk, None, stage, journal)
    }

    fn make_with_header(
        self,
        disk: &dyn Resizable,
        header: Option<&dyn Resizable>,
        stage: Stage,
        journal: &Path,
    ) -> Result<Cloned> {
        let bytes: Arc<dyn Resizable> = Arc::new(self.source());
        let plain: Arc<dyn Disk> = match self.source {
            ImageFormat::Qcow2 => {
                Arc::new(Qcow2::open(Arc::clone(&bytes), Access::ReadOnly, &Closed)?)
            }
            _ => Arc::new(Arc::clone(&bytes)),
        };
        let kind = SourceKind::Plain {
            bytes: DiskBytes {
                disk: bytes,
                file: None,
                checked: None,
                identity: Identity(Vec::new()),
                unknowable: None,
            },
            disk: Arc::clone(&plain),
        };
        let source = Source { kind, header: None, chain: Vec::new() };
        let (request, cancelled) = (self.request(), Arc::new(AtomicBool::new(false)));
        let work = Work { policy: CostPolicy::default(), observer: &(), cancelled: &cancelled };
        let mut options = self.options();
        let key = OwnedNewKey::Passphrase(passphrase());
        let key = options
            .as_mut()
            .map(|options| TargetKey::prepare(key, options, Earlier::Nothing, "target").unwrap());
        let making = Making {
            layout: None,
            request: &request,
            format: TargetFormat::Image(self.target),
            options,
            key: Cell::new(key),
            guard: Guard::new(&request, None, &source, Checking::Expected, &work),
            work: &work,
            finish: &|_| Ok(()),
        };
        let journal =
            Journal::new(journal.to_owned(), Entry::new(Facts::new(), (0, 0), None), None);
        let parts = Parts {
            data: disk,
            header,
            permit: stage.start().is_none().then(permit),
            journal: &journal,
            stage,
            partial: ".target.partial".into(),
        };
        making.parts(Contents::Disk(plain), parts)
    }

    fn source(self) -> Memory {
        let memory = Memory::new(if self.source == ImageFormat::Qcow2 { 0 } else { LEN });
        if self.source == ImageFormat::Qcow2 {
            qcow2::create(&memory, &CreateOptions::new(LEN)).unwrap();
            let image = Qcow2::open(&memory, Access::ReadWrite, &Closed).unwrap();
            pattern().write_to(&image).unwrap();
            image.close().unwrap();
        } else {
            pattern().write_to(&memory).unwrap();
        }
        memory
    }

    /// Returns the contents of what a crash has left, where any reader takes it for an image.
    fn opened<'a>(self, left: &'a Memory) -> Option<Box<dyn Disk + 'a>> {
        match self.target {
            ImageFormat::Raw => None,
            ImageFormat::Qcow2 | ImageFormat::Qcow2Luks => {
                let mut image = Qcow2::open(left, Access::ReadOnly, &Closed).ok()?;
                if self.target == ImageFormat::Qcow2Luks {
                    unlock_qcow2(
                        &mut image,
                        Opener::Passphrase(&passphrase()),
                        &CostPolicy::default(),
                    )
                    .unwrap();
                }
                Some(Box::new(image))
            }
            ImageFormat::Luks1 | ImageFormat::Luks2 => {
                let header = taken_for(left)?;
                let policy = CostPolicy::default();
                let key = device::unlock(left, &header, &passphrase(), None, &policy).unwrap().key;
                let offset = placed(header.clone(), "left").unwrap().1;
                Some(Box::new(encrypted(left, &header, &key, offset).unwrap()))
            }
        }
    }
}

/// Returns the header that is found on a disk by whoever takes the most for one: a repair that was
/// told to overwrite what stands in the place of the primary copy.
fn taken_for(left: &Memory) -> Option<Header> {
    let head = device::read_head(left).unwrap();
    let scope = RepairScope::OverwritePrimary;
    match Header::repair(&head, left.len(), scope, &mut system_rng()) {
        Ok(Some((header, ..))) => Some(header),
        _ => Header::parse(&head, left.len()).ok().map(|found| found.header),
    }
}

/// Tells whether any tool would see a magic: at the beginning, or where LUKS2 has its second copy.
fn bears_magic(left: &Memory) -> bool {
    let at = |offset: u64, magic: &[u8]| {
        let mut found = vec![0; magic.len()];
        left.len() >= offset + magic.len() as u64
            && left.read_at(&mut found, offset).is_ok()
            && found == magic
    };
    at(0, b"QFI\xfb")
        || at(0, b"LUKS\xba\xbe")
        || at(0, b"SKUL\xba\xbe")
        || (14..=22).any(|shift| at(1 << shift, b"SKUL\xba\xbe"))
}

fn pattern() -> Pattern {
    Pattern::sparse(11, 4096)
}

fn passphrase() -> Passphrase {
    Passphrase::new(b"passphrase".to_vec())
}

/// Returns the permit that a file created a moment ago comes with.
fn permit() -> FormatPermit {
    let directory = tempfile::tempdir().unwrap();
    NewFile::create(directory.path().join("new"), Overwrite::Refuse, &[]).unwrap().1
}

fn assert_whole(plain: &dyn Disk, context: &str) {
    assert_eq!(plain.len(), LEN, "{context}");
    assert_eq!(pattern().first_difference(plain).unwrap(), None, "{context}");
}

#[test]
fn after_a_crash_at_any_write_no_tool_sees_an_image_or_it_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    for job in Job::ALL {
        let disk = RecordingDisk::new(Memory::new(0));
        job.make(&disk, Stage::New, &directory.path().join("journal")).unwrap();
        let total = disk.changes().len();
        for tearing in [Tearing::None, Tearing::Sectors] {
            let (mut closed, mut whole) = (0, 0);
            for (count, left) in disk.crashes(tearing) {
                let context = format!("{}: {count} of {total} changes", job.target);
                match job.opened(&left) {
                    Some(plain) => {
                        assert_whole(&*plain, &context);
                        whole += 1;
                    }
                    None if job.target != ImageFormat::Raw => {
                        assert!(!bears_magic(&left), "{context}");
                        assert_eq!(whole, 0, "{context}: it opened before");
                        closed += 1;
                    }
                    None => closed += 1,
                }
            }
            let expected = if job.target == ImageFormat::Raw { 0 } else { 1 };
            assert!(closed > 3 && whole >= expected, "{closed} closed, {whole} whole");
        }
    }
}

#[test]
fn everything_else_is_durable_before_a_magic_is_written() {
    let directory = tempfile::tempdir().unwrap();
    for job in Job::ALL {
        let disk = RecordingDisk::new(Memory::new(0));
        job.make(&disk, Stage::New, &directory.path().join("journal")).unwrap();
        let mut changes = disk.changes();
        assert_eq!(changes.pop(), Some(Change::Flush));
        let Some(Change::Write { offset: 0, bytes }) = changes.pop() else {
            panic!("{}: the first bytes do not come last", job.target);
        };
        assert_eq!(bytes.len(), 8);
        assert_eq!(changes.pop(), Some(Change::Flush));
        if job.target == ImageFormat::Luks2 {
            let second = changes.pop();
            let Some(Change::Write { bytes, .. }) = &second else { panic!("{second:?}") };
            assert_eq!(bytes, b"SKUL\xba\xbe");
            assert_eq!(changes.pop(), Some(Change::Flush));
        }
    }
}

#[test]
fn a_job_that_ended_among_its_last_writes_is_finished_by_another() {
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("journal");
    for job in Job::ALL {
        let disk = RecordingDisk::new(Memory::new(0));
        job.make(&disk, Stage::New, &journal).unwrap();
        let total = disk.changes().len();
        // The first bytes and, before them, the second magic of LUKS2.
        for count in total - 4..=total {
            let left = disk.replay(count);
            job.make(&left, Stage::Finishing(LEN), &journal).unwrap();
            let context = format!("{}: {count} of {total} changes", job.target);
            match job.target {
                ImageFormat::Raw => assert_whole(&left, &context),
                _ => assert_whole(&*job.opened(&left).unwrap(), &context),
            }
        }
    }
}

#[test]
fn a_job_goes_on_where_its_journal_says_from_any_crash_after_that() {
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("journal");
    for job in Job::ALL {
        let disk = RecordingDisk::new(Memory::new(0));
        job.make(&disk, Stage::New, &journal).unwrap();
        let changes = disk.changes();
        // The flush that the checkpoint of the whole copy is.
        let ends = changes.len() - if job.target == ImageFormat::Luks2 { 4 } else { 3 };
        let flush = changes[..ends].iter().rposition(|change| *change == Change::Flush);
        for count in flush.unwrap_or(ends)..changes.len() - 1 {
            let left = disk.replay(count);
            let stage = Stage::GoingOn(LEN);
            job.make(&left, stage, &journal).unwrap();
            let context = format!("{}: {count} of {} changes", job.target, changes.len());
            match job.target {
                ImageFormat::Raw => assert_whole(&left, &context),
                _ => assert_whole(&*job.opened(&left).unwrap(), &context),
            }
        }
    }
}

#[test]
fn a_header_apart_is_durable_before_what_needs_it_and_is_finished_after_its_data() {
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("journal");
    for format in [ImageFormat::Luks1, ImageFormat::Luks2] {
        let job = Job::new(ImageFormat::Raw, format);
        let (data, header) =
            (RecordingDisk::new(Memory::new(0)), RecordingDisk::new(Memory::new(0)));
        job.make_with_header(&data, Some(&header), Stage::New, &journal).unwrap();
        let (data_total, header_total) = (data.changes().len(), header.changes().len());
        // The first flush is that of the key material, before there is any data.
        let flush = header.changes().iter().position(|change| *change == Change::Flush).unwrap();
        assert_eq!(taken_for(&header.replay(flush)), None);
        for data_count in data_total - 3..=data_total {
            for header_count in (flush + 1).max(header_total - 4)..=header_total {
                let (data, header) = (data.replay(data_count), header.replay(header_count));
                let (stage, again) = (Stage::Finishing(LEN), Some(&header as &dyn Resizable));
                job.make_with_header(&data, again, stage, &journal).unwrap();
                let context = format!("{format}: {data_count}, {header_count}");
                let found = taken_for(&header).unwrap();
                let policy = CostPolicy::default();
                let key =
                    device::unlock(&header, &found, &passphrase(), None, &policy).unwrap().key;
                assert_whole(&encrypted(&data, &found, &key, 0).unwrap(), &context);
            }
        }
    }
}

const LEN: u64 = 128 << 10;
