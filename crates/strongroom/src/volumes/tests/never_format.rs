//! Seeded schedules of everything that can go wrong around a volume: whatever comes, no byte that
//! somebody has written is ever formatted over, and once the trouble is gone the data is there.
//!
//! `STRONGROOM_SCHEDULES` says how many (1,000 unless it says otherwise), `STRONGROOM_SEED` replays one.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use strongroom_crypto::Passphrase;
use strongroom_disk::{Access, Disk, Extents, Raw};
use strongroom_pool::{CopyProgress, Directory, Entry, FormatMark, Item, ItemGuard, Pool, Space};

use super::stage::{Key, Place, SIZE, cheap, stage};
use crate::catalog::{Catalog, Document, Kind, SqliteCatalog};
use crate::volumes::VolumeOpener;
use crate::{Error, ErrorKind};

#[test]
fn a_thousand_schedules_of_faults_never_format_over_data() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("STRONGROOM_SEED") {
        return Schedule::new(seed).run();
    }
    let schedules = number("STRONGROOM_SCHEDULES").unwrap_or(1000);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= schedules {
                        return;
                    }
                    Schedule::new(seed).run();
                }
            });
        }
    });
}

/// The process that is killed: it stages the volume of a folder, and is none of the tests.
#[test]
fn stages_in_a_process_of_its_own() {
    let Some(folder) = std::env::var_os("STRONGROOM_STAGE_FOLDER") else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let place = Place::new(Path::new(&folder));
    let key = Key::of(&place.folder, number("STRONGROOM_STAGE_KMS") == 1);
    let crash = Arc::new(Crash { left: AtomicU64::new(number("STRONGROOM_STAGE_CALLS")) });
    let pool = Directory::open(&place.folder.join("pool")).unwrap();
    let catalog = SqliteCatalog::open(&place.catalog()).unwrap();
    let volumes = place.volumes_with(
        Arc::new(CrashingPool { inner: pool, crash: crash.clone() }),
        Arc::new(CrashingCatalog { inner: catalog, crash }),
    );
    // Whether it succeeds is for the one who looks at it afterwards.
    let _ = stage(&volumes, &place.id, key.opener(&cheap()), |_| {});
}

/// One schedule: a volume, and what happens to it.
struct Schedule {
    seed: u64,
    state: u64,
    place: Place,
    kms: bool,
    key: Key,
    /// What was written, and where.
    written: Vec<(u64, Vec<u8>)>,
    /// The catalog as it was at some time, with what was known then.
    old_catalogs: Vec<Vec<(PathBuf, Vec<u8>)>>,
    _folder: tempfile::TempDir,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path());
        let kms = seed % 3 == 1;
        let key = Key::of(folder.path(), kms);
        place.create(kms).unwrap();
        Self {
            seed,
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            place,
            kms,
            key,
            written: Vec::new(),
            old_catalogs: Vec::new(),
            _folder: folder,
        }
    }

    fn run(mut self) {
        for _ in 0..3 + self.below(6) {
            let step = self.below(12);
            match step {
                0 | 1 => self.use_it(),
                2 => self.killed_after_calls(),
                3 => self.killed_after_a_while(),
                4 => self.two_at_once(),
                5 => self.with_another_device(|bytes| bytes.fill(0)),
                6 => self.zeroed_in_place(),
                7 => self.shortened(),
                8 => self.gone_for_a_moment(),
                9 => self.with_another_device(|bytes| {
                    bytes[..1 << 16].fill(0);
                    bytes[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
                }),
                10 => self.header_corrupted(),
                _ => self.catalog_rolled_back(),
            }
            if self.below(3) == 0 {
                self.remember_catalog();
            }
        }
        // The trouble is over: everything is there.
        self.use_it();
        self.check_data();
    }

    /// Stages the volume as anybody would, and writes something.
    fn use_it(&mut self) {
        let (offset, byte) = (4096 + self.below(SIZE / 4096 - 2) * 4096, self.below(255) as u8 + 1);
        let bytes = vec![byte; 512 * (1 + self.below(8) as usize)];
        let settings = cheap();
        let staged =
            stage(&self.place.volumes(), &self.place.id, self.key.opener(&settings), |plain| {
                plain.write_at(&bytes, offset).unwrap();
            });
        self.expect(staged.is_ok(), &format!("a stage without any trouble: {staged:?}"));
        self.written.retain(|(start, old)| {
            *start >= offset + bytes.len() as u64 || *start + old.len() as u64 <= offset
        });
        self.written.push((offset, bytes));
    }

    fn check_data(&self) {
        let settings = cheap();
        let staged =
            stage(&self.place.volumes(), &self.place.id, self.key.opener(&settings), |plain| {
                for (offset, bytes) in &self.written {
                    let mut found = vec![0; bytes.len()];
                    plain.read_at(&mut found, *offset).unwrap();
                    self.expect(found == *bytes, &format!("the data at {offset}"));
                }
            });
        self.expect(staged.is_ok(), &format!("the last stage: {staged:?}"));
    }

    /// A process is killed at some call of pool or catalog, before or after it.
    fn killed_after_calls(&mut self) {
        let calls = 1 + self.below(24);
        let mut child = self.child(calls);
        child.wait().unwrap();
    }

    /// A process is killed at some moment.
    fn killed_after_a_while(&mut self) {
        let mut child = self.child(u64::MAX);
        std::thread::sleep(Duration::from_micros(self.below(30_000)));
        let _ = child.kill();
        child.wait().unwrap();
    }

    /// Two processes stage at once; one of them may be killed.
    fn two_at_once(&mut self) {
        let calls = if self.below(2) == 0 { u64::MAX } else { 1 + self.below(24) };
        let mut children = [self.child(u64::MAX), self.child(calls)];
        for child in &mut children {
            child.wait().unwrap();
        }
    }

    /// The device is another for a moment: `change` says what its bytes are instead.
    fn with_another_device(&mut self, change: impl FnOnce(&mut [u8])) {
        if self.written.is_empty() {
            return;
        }
        let device = self.place.device();
        let aside = device.with_extension("aside");
        let mut bytes = vec![0; 1 << 20];
        let file = fs::File::open(&device).unwrap();
        file.read_exact_at(&mut bytes, 0).unwrap();
        change(&mut bytes);
        fs::rename(&device, &aside).unwrap();
        let other = OpenOptions::new().write(true).create_new(true).open(&device).unwrap();
        other.set_len(file.metadata().unwrap().len()).unwrap();
        if bytes.iter().any(|&byte| byte != 0) {
            other.write_all_at(&bytes, 0).unwrap();
        }
        let before = contents(&device);
        self.must_fail("a device that is another one");
        self.expect(contents(&device) == before, "another device in its place was written to");
        fs::rename(&aside, &device).unwrap();
    }

    /// The beginning of the device is zeros, and the pool knows of written bytes.
    fn zeroed_in_place(&mut self) {
        if self.written.is_empty() {
            return;
        }
        self.damaged(|file| file.write_all_at(&vec![0; 1 << 20], 0).unwrap());
    }

    fn header_corrupted(&mut self) {
        if self.written.is_empty() {
            return;
        }
        let at = self.below(2) * 100;
        self.damaged(|file| {
            for offset in [at, 16384 + at] {
                file.write_all_at(&[0x5a; 300], offset).unwrap();
            }
        });
    }

    fn shortened(&mut self) {
        if self.written.is_empty() {
            return;
        }
        let device = self.place.device();
        let aside = device.with_extension("aside");
        fs::copy(&device, &aside).unwrap();
        let len = self.below(17) << 20;
        OpenOptions::new().write(true).open(&device).unwrap().set_len(len).unwrap();
        let before = contents(&device);
        self.must_fail("a device that is shorter");
        self.expect(contents(&device) == before, "a shorter device was written to");
        fs::rename(&aside, &device).unwrap();
    }

    fn gone_for_a_moment(&mut self) {
        let device = self.place.device();
        let aside = device.with_extension("aside");
        fs::rename(&device, &aside).unwrap();
        self.must_fail("a device that is gone");
        self.expect(!device.exists(), "a device was made anew");
        fs::rename(&aside, &device).unwrap();
    }

    /// The catalog is what it was once; then the newest is back.
    fn catalog_rolled_back(&mut self) {
        let Some(old) = self.old_catalogs.last().cloned() else { return };
        let newest = self.catalog_files();
        let device = self.place.device();
        let before = contents(&device);
        self.put_catalog(&old);
        let settings = cheap();
        let staged =
            stage(&self.place.volumes(), &self.place.id, self.key.opener(&settings), |_| {});
        if !self.written.is_empty() {
            self.expect(contents(&device) == before, "an old catalog let data be written over");
            let wrong = self.stage_wrongly();
            self.expect(wrong, "a wrong key opened it");
        }
        if staged.is_err() || self.below(2) == 0 {
            self.put_catalog(&newest);
        }
    }

    /// Changes the device for a moment, and looks whether anybody else does.
    fn damaged(&mut self, damage: impl FnOnce(&fs::File)) {
        let device = self.place.device();
        let aside = device.with_extension("aside");
        fs::copy(&device, &aside).unwrap();
        damage(&OpenOptions::new().write(true).open(&device).unwrap());
        let before = contents(&device);
        self.must_fail("a device whose header is damaged");
        self.expect(contents(&device) == before, "a damaged device was written to");
        let bytes = fs::read(&aside).unwrap();
        OpenOptions::new().write(true).open(&device).unwrap().write_all_at(&bytes, 0).unwrap();
        fs::remove_file(&aside).unwrap();
    }

    fn must_fail(&self, what: &str) {
        let settings = cheap();
        let staged =
            stage(&self.place.volumes(), &self.place.id, self.key.opener(&settings), |_| {});
        self.expect(staged.is_err(), &format!("{what} was staged"));
    }

    /// Returns whether a wrong passphrase is refused.
    fn stage_wrongly(&self) -> bool {
        if self.kms {
            return true;
        }
        let wrong = Passphrase::new(b"wrong".to_vec());
        let settings = cheap();
        let opener = VolumeOpener::Passphrase { passphrase: &wrong, settings: Some(&settings) };
        let staged = stage(&self.place.volumes(), &self.place.id, opener, |_| {});
        staged.is_err_and(|error: Error| error.kind() != ErrorKind::Interrupted)
    }

    fn child(&self, calls: u64) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "volumes::tests::never_format::stages_in_a_process_of_its_own"])
            .env("STRONGROOM_STAGE_FOLDER", &self.place.folder)
            .env("STRONGROOM_STAGE_KMS", u8::from(self.kms).to_string())
            .env("STRONGROOM_STAGE_CALLS", calls.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap()
    }

    fn remember_catalog(&mut self) {
        let files = self.catalog_files();
        self.old_catalogs.push(files);
    }

    fn catalog_files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = fs::read_dir(&self.place.folder).unwrap().map(|entry| entry.unwrap().path());
        let catalog = files.filter(|path| path.to_string_lossy().contains("catalog.sqlite"));
        catalog.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
    }

    fn put_catalog(&self, files: &[(PathBuf, Vec<u8>)]) {
        for (path, _) in self.catalog_files() {
            fs::remove_file(path).unwrap();
        }
        for (path, bytes) in files {
            fs::write(path, bytes).unwrap();
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        // Xorshift (Marsaglia, 2003).
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % limit
    }

    fn expect(&self, holds: bool, what: &str) {
        assert!(holds, "schedule {} (STRONGROOM_SEED={0} replays it): {what}", self.seed);
    }
}

/// Returns what a file holds, but for its holes.
fn contents(path: &Path) -> Vec<(u64, Vec<u8>)> {
    let disk = Raw::open(path, Access::ReadOnly).unwrap();
    let extents = Extents::new(&disk, 0..disk.len()).map(Result::unwrap);
    let data = extents.filter(|extent| !extent.kind.reads_as_zeros());
    data.map(|extent| {
        let mut bytes = vec![0; (extent.range.end - extent.range.start) as usize];
        disk.read_at(&mut bytes, extent.range.start).unwrap();
        (extent.range.start, bytes)
    })
    .collect()
}

/// Ends the process when it has run out of calls.
#[derive(Debug)]
struct Crash {
    left: AtomicU64,
}

impl Crash {
    fn step(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            // Nothing is cleaned up, as it is not after a kill.
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
        }
    }
}

#[derive(Debug)]
struct CrashingPool {
    inner: Directory,
    crash: Arc<Crash>,
}

#[derive(Debug)]
struct CrashingCatalog {
    inner: SqliteCatalog,
    crash: Arc<Crash>,
}

macro_rules! steps {
    ($self:ident, $call:expr) => {{
        $self.crash.step();
        let result = $call;
        $self.crash.step();
        result
    }};
}

impl Pool for CrashingPool {
    fn label(&self) -> &str {
        self.inner.label()
    }

    fn create(&self, item: &Item, len: u64) -> strongroom_pool::Result<()> {
        steps!(self, self.inner.create(item, len))
    }

    fn entry(&self, item: &Item) -> strongroom_pool::Result<Option<Entry>> {
        self.inner.entry(item)
    }

    fn list(&self) -> strongroom_pool::Result<Vec<Entry>> {
        self.inner.list()
    }

    fn path(&self, item: &Item) -> strongroom_pool::Result<PathBuf> {
        self.inner.path(item)
    }

    fn open(&self, item: &Item, access: Access) -> strongroom_pool::Result<Raw> {
        steps!(self, self.inner.open(item, access))
    }

    fn grow(&self, item: &Item, len: u64) -> strongroom_pool::Result<()> {
        steps!(self, self.inner.grow(item, len))
    }

    fn copy(
        &self,
        from: &Item,
        to: &Item,
        progress: &dyn CopyProgress,
    ) -> strongroom_pool::Result<()> {
        steps!(self, self.inner.copy(from, to, progress))
    }

    fn copies_at_once(&self) -> strongroom_pool::Result<bool> {
        self.inner.copies_at_once()
    }

    fn delete(&self, item: &Item) -> strongroom_pool::Result<()> {
        steps!(self, self.inner.delete(item))
    }

    fn mark_format(&self, item: &Item, mark: &FormatMark) -> strongroom_pool::Result<()> {
        steps!(self, self.inner.mark_format(item, mark))
    }

    fn format_mark(&self, item: &Item) -> strongroom_pool::Result<Option<FormatMark>> {
        steps!(self, self.inner.format_mark(item))
    }

    fn is_untouched(&self, item: &Item) -> strongroom_pool::Result<bool> {
        steps!(self, self.inner.is_untouched(item))
    }

    fn try_lock(&self, item: &Item) -> strongroom_pool::Result<ItemGuard> {
        self.inner.try_lock(item)
    }

    fn space(&self) -> strongroom_pool::Result<Space> {
        self.inner.space()
    }
}

impl Catalog for CrashingCatalog {
    fn load(&self, kind: Kind, id: &str) -> crate::catalog::Result<Option<Document>> {
        self.inner.load(kind, id)
    }

    fn list(
        &self,
        kind: Kind,
        after: Option<&str>,
        limit: usize,
    ) -> crate::catalog::Result<Vec<Document>> {
        self.inner.list(kind, after, limit)
    }

    fn insert(&self, kind: Kind, id: &str, json: &str) -> crate::catalog::Result<()> {
        steps!(self, self.inner.insert(kind, id, json))
    }

    fn replace(
        &self,
        kind: Kind,
        id: &str,
        version: u64,
        json: &str,
    ) -> crate::catalog::Result<()> {
        steps!(self, self.inner.replace(kind, id, version, json))
    }

    fn remove(&self, kind: Kind, id: &str, version: u64) -> crate::catalog::Result<()> {
        steps!(self, self.inner.remove(kind, id, version))
    }
}
