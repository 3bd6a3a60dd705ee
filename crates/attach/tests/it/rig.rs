//! A volume to attach, which leaves nothing behind.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;
use strongroom_attach::{EncryptedContents, Launcher, OpenedVolume, Support, fuse, loop_device};
use strongroom_crypto::{CipherSpec, SectorSize, VolumeKey};
use strongroom_disk::{Access, Disk, Encrypted, Raw};
use strongroom_luks::{Payload, Version};
use strongroom_testkit::skip;
use tempfile::TempDir;

/// A backing file, and where it is attached.
pub(crate) struct Rig {
    folder: TempDir,
    sector_size: Option<SectorSize>,
    key: u8,
}

impl Rig {
    /// Returns a volume of `len` bytes that are zeros, encrypted in sectors of this size, or not at
    /// all.
    pub(crate) fn new(len: u64, sector_size: Option<SectorSize>) -> Self {
        // Each has a key of its own, so that what one leaves is noise to the others.
        static KEYS: AtomicU8 = AtomicU8::new(1);
        let folder = tempfile::tempdir().unwrap();
        let rig = Self { folder, sector_size, key: KEYS.fetch_add(1, Ordering::Relaxed) };
        let backing = File::create(rig.backing()).unwrap();
        backing.set_len(rig.start() + len).unwrap();
        fs::create_dir(rig.mount_point()).unwrap();
        rig
    }

    /// Returns `None` where FUSE or loop devices are missing, which it says.
    pub(crate) fn with_device(test: &str, len: u64, size: SectorSize) -> Option<Self> {
        is_root(test).then_some(())?;
        has(test, &fuse::support()).then_some(())?;
        has(test, &loop_device::support()).then_some(())?;
        Some(Self::new(len, Some(size)))
    }

    pub(crate) fn backing(&self) -> PathBuf {
        self.folder.path().join("backing")
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("plaintext")
    }

    pub(crate) fn mount_point(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn volume(&self) -> OpenedVolume {
        let encrypted = self.sector_size.map(|sector_size| {
            let key = VolumeKey::new((0..64).map(|byte| byte ^ self.key).collect());
            let spec: CipherSpec = "aes-xts-plain64".parse().unwrap();
            let len = fs::metadata(self.backing()).unwrap().len();
            EncryptedContents {
                version: Version::Luks2,
                uuid: "00000000-0000-4000-8000-000000000001".to_owned(),
                payload: Payload {
                    offset: self.start(),
                    length: len - self.start(),
                    encryption: spec.with_key_bits(512).unwrap(),
                    sector_size,
                    iv_tweak: 0,
                },
                key,
            }
        });
        OpenedVolume { name: "test".to_owned(), backing: self.backing(), encrypted }
    }

    pub(crate) fn start_server(&self) {
        fuse::start(&launcher(), &self.volume(), &self.file(), loop_device::Access::ReadWrite)
            .unwrap();
    }

    /// Starts the server and attaches its file to a loop device.
    pub(crate) fn attach(&self) -> PathBuf {
        self.start_server();
        let size = self.sector_size.unwrap_or(SectorSize::B512);
        loop_device::attach(&self.file(), size, loop_device::Access::ReadWrite).unwrap()
    }

    pub(crate) fn detach(&self) {
        loop_device::detach(&self.file()).unwrap();
        fuse::stop(&self.file()).unwrap();
    }

    pub(crate) fn mount(&self, device: &Path, kind: &str) {
        let flags = rustix::mount::MountFlags::empty();
        let options: Option<&std::ffi::CStr> = None;
        rustix::mount::mount(device, self.mount_point(), kind, flags, options).unwrap();
    }

    /// Unmounts with some patience: a program that another test starts just now may have for a moment
    /// what this process has open.
    pub(crate) fn unmount(&self) {
        strongroom_attach::mount::unmount(&self.mount_point()).unwrap();
    }

    /// Returns the plaintext, as it is decrypted from the backing file without any server.
    pub(crate) fn plaintext(&self) -> Vec<u8> {
        let raw = Raw::open(self.backing(), Access::ReadOnly).unwrap();
        let volume = self.volume();
        let disk: Box<dyn Disk> = match volume.encrypted {
            None => Box::new(raw),
            Some(contents) => {
                let cipher = contents.payload.cipher(&contents.key).unwrap();
                let range = self.start()..raw.len();
                Box::new(Encrypted::new(raw, range, cipher, 0).unwrap())
            }
        };
        let mut bytes = vec![0; disk.len() as usize];
        disk.read_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// Writes encrypted zeros over the whole volume, which is noise otherwise.
    pub(crate) fn zero(&self) {
        let volume = self.volume();
        let Some(contents) = volume.encrypted else { return };
        let raw = Raw::open(self.backing(), Access::ReadWrite).unwrap();
        let cipher = contents.payload.cipher(&contents.key).unwrap();
        let range = self.start()..raw.len();
        let disk = Encrypted::new(raw, range, cipher, 0).unwrap();
        disk.write_zeroes(0..disk.len()).unwrap();
    }

    /// Makes the file before the server does, and returns by which to find the server.
    pub(crate) fn make_file(&self) -> u64 {
        let file = OpenOptions::new().write(true).create_new(true).open(self.file()).unwrap();
        file.metadata().unwrap().ino()
    }

    fn start(&self) -> u64 {
        if self.sector_size.is_some() { HEADER } else { 0 }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // After a test that failed; else there is nothing left to do.
        let _ = rustix::mount::unmount(self.mount_point(), UnmountFlags::DETACH);
        let _ = loop_device::detach(&self.file());
        let _ = fuse::stop(&self.file());
    }
}

/// A buffer at an address and of a length that go past the cache of pages.
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    pub(crate) fn new(len: usize) -> Self {
        let bytes = vec![0; len + 4096];
        let start = bytes.as_ptr().align_offset(4096);
        Self { bytes, start, len }
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }
}

/// Numbers that follow from a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// Opens a file past the cache of pages.
pub(crate) fn open_directly(path: &Path) -> File {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).unwrap()
}

pub(crate) fn launcher() -> Launcher {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/attachment_service");
    assert!(program.is_file(), "{}: cargo build --examples makes it", program.display());
    Launcher { program, arguments: Vec::new() }
}

/// Returns whether the machine has something; says so when it has not.
pub(crate) fn has(test: &str, support: &Support) -> bool {
    if let Support::Missing { what, .. } = support {
        skip(test, what);
    }
    support.is_usable()
}

pub(crate) fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip(test, "it needs root");
    }
    root
}

/// Returns the supervisor of the file that had this inode, and its server.
pub(crate) fn processes(inode: u64) -> (i32, i32) {
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let holder = locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let found = fields.get(5)?.rsplit(':').next()?.parse::<u64>().ok()?;
        (fields[1] == "FLOCK" && found == inode).then(|| fields[4].parse().unwrap())
    });
    let supervisor: i32 = holder.expect("there is a supervisor");
    // It says that it is ready a moment before it starts the server.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(server) = child_of(supervisor) {
            return (supervisor, server);
        }
        assert!(Instant::now() < deadline, "there is a server");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn child_of(parent: i32) -> Option<i32> {
    fs::read_dir("/proc").unwrap().find_map(|entry| {
        let pid: i32 = entry.unwrap().file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_ascii_whitespace().collect();
        (fields[0] != "Z" && fields[1].parse() == Ok(parent)).then_some(pid)
    })
}

pub(crate) fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("there is such a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The bytes before the data.
const HEADER: u64 = 16 << 20;
