//! A qcow2 image that may be anything, and what people do with one.

use std::ops::Range;
use std::sync::Arc;

use strongroom_crypto::{CipherSpec, IvUnit, SectorCipher, SectorSize, VolumeKey};
use strongroom_disk::qcow2::{
    Gate, NamedFile, Qcow2, Repair, Report, Shrinking, check, read_header,
};
use strongroom_disk::{Access, Disk, ErrorKind, Extents, Memory, Resizable, Result};

use crate::metered::Metered;
use crate::shadow::{Content, Shadow};

/// The bytes of a file, and what shall be done with it.
pub struct Input {
    steps: Vec<Step>,
    file: Vec<u8>,
}

impl Input {
    /// Reads what a fuzzer has made up: whether the file is packed, the number of steps, each step
    /// in 6 bytes, and the file. `None` when it is too short.
    pub fn parse(input: &[u8]) -> Option<Self> {
        let [packed, number, rest @ ..] = input else { return None };
        let steps = usize::from(*number) % (MOST_STEPS + 1);
        let (steps, file) = rest.split_at_checked(steps * STEP)?;
        let steps = steps.chunks_exact(STEP).map(Step::parse).collect();
        let file = if packed & 1 == 1 { unpack(file) } else { file.to_vec() };
        (file.len() <= LONGEST_FILE).then_some(Self { steps, file })
    }

    /// Returns what [`Self::parse`] reads as these steps with this file.
    pub fn bytes(steps: &[[u8; STEP]], file: &[u8]) -> Vec<u8> {
        let mut bytes = vec![1, steps.len() as u8];
        bytes.extend(steps.iter().flatten());
        let mut rest = file;
        while let [byte, behind @ ..] = rest {
            if *byte != 0 {
                bytes.push(*byte);
                rest = behind;
                continue;
            }
            let zeros = rest.iter().take_while(|&&byte| byte == 0).count();
            let (code, taken) = match zeros {
                512.. => (128 + (zeros / 512).min(128) - 1, zeros / 512 * 512),
                _ => (zeros.min(128) - 1, zeros.min(128)),
            };
            bytes.extend([0, code as u8]);
            rest = &rest[taken.min(128 * 512)..];
        }
        bytes
    }
}

/// Does with an image what the input says, and checks what is promised about it: no panic and no
/// more work than what was asked for costs, whatever the file is. When nothing is wrong with it,
/// the disk also holds what was written to it, and the image stays right.
pub fn use_image(input: &Input) {
    let file = Arc::new(Metered::new(Memory::from(&input.file[..])));
    let mut session = Session {
        data: Arc::new(Memory::from(&[0xDD; 20_000][..])),
        file,
        disk: None,
        shadow: None,
        leaks: 0,
        failed: false,
        may_hold: 0,
    };
    session.may_hold = session.file.memory().allocated() + (1 << 20);
    session.judge();
    session.open(Access::ReadWrite);
    for (number, step) in input.steps.iter().enumerate() {
        session.step(step, number as u8);
        let holds = session.file.memory().allocated();
        assert!(holds <= session.may_hold, "{holds} bytes in the file after {step:?}");
    }
    session.close();
    session.look_at_the_end();
}

struct Session {
    file: Arc<Metered>,
    data: Arc<Memory>,
    disk: Option<Qcow2<Arc<Metered>>>,
    /// What the disk must hold; `None` while the image breaks rules.
    shadow: Option<Shadow>,
    /// The leaks that there were.
    leaks: u64,
    /// Whether a change has failed, which may leave leaks.
    failed: bool,
    /// The bytes that the file may hold.
    may_hold: u64,
}

impl Session {
    /// Looks whether the image keeps every rule, and begins a shadow if so.
    fn judge(&mut self) {
        (self.shadow, self.failed) = (None, false);
        let Some(report) = self.check(Repair::Nothing) else { return };
        let Ok(header) = read_header(&*self.file) else { return };
        // Snapshots do not protect what lies in a data file, and whether every cluster lies there at
        // its own offset is seen only when it is read.
        if report.corruptions > 0 || header.has_data_file() {
            return;
        }
        let gate = Beside(Arc::new((*self.data).clone()));
        let file = Arc::new(self.file.memory().clone());
        if let Some(initial) = open(file, Access::ReadOnly, &gate) {
            self.leaks = report.leaks;
            self.shadow = Some(Shadow::new(Box::new(initial), header.cluster_size()));
        }
    }

    fn check(&self, repair: Repair) -> Option<Report> {
        let clusters = self.file.memory().allocated() / 4096 * 8 + 16;
        self.file.allow(1000 + 60 * clusters);
        check(&*self.file, repair).ok()
    }

    fn open(&mut self, access: Access) {
        self.file.allow(4000);
        let gate = Beside(self.data.clone());
        self.disk = open(self.file.clone(), access, &gate);
    }

    fn close(&mut self) {
        self.file.allow(4000);
        let Some(disk) = self.disk.take() else { return };
        let closed = disk.close();
        assert!(self.shadow.is_none() || closed.is_ok(), "{:?}", closed.err());
    }

    fn step(&mut self, step: &Step, number: u8) {
        let Some(disk) = self.disk.take() else {
            return self.step_closed(step);
        };
        let range = step.range(&disk);
        let cluster = disk.header().cluster_size();
        let clusters = (range.end - range.start).min(LONGEST_DATA).div_ceil(cluster) + 2;
        self.file.allow(1000 + clusters * (30 + 4 * cluster / 4096));
        match step.code % 16 {
            0 | 15 => self.read(&disk, &range),
            1 | 2 | 14 => self.write(&disk, &range, step, number),
            3 => self.discard(&disk, &range),
            4 => self.write_zeroes(&disk, &range),
            5 => self.write_compressed(&disk, &range, number),
            6 => {
                let flushed = disk.flush();
                assert!(self.shadow.is_none() || flushed.is_ok(), "{flushed:?}");
            }
            7 => self.read_snapshots(&disk, &range),
            8 => self.extents(&disk, &range),
            9 => {
                self.disk = Some(disk);
                self.close();
                return self.open(Access::ReadWrite);
            }
            10 => {
                self.disk = Some(disk);
                self.close();
                return self.open(Access::ReadOnly);
            }
            11..=12 => {
                self.disk = Some(disk);
                return self.close();
            }
            _ => return self.resize(disk, range.start),
        }
        self.disk = Some(disk);
    }

    /// Does what needs a closed image.
    fn step_closed(&mut self, step: &Step) {
        let repair = match step.code % 4 {
            0 => Repair::Leaks,
            1 => Repair::Everything,
            _ => Repair::Nothing,
        };
        let was_right = self.shadow.is_some();
        let report = self.check(repair);
        if was_right {
            let report = report.expect("an image that is right can be checked");
            assert_eq!(report.corruptions, 0, "{report:#?}");
            assert!(self.failed || report.leaks <= self.leaks, "{report:#?}");
        } else {
            // A repaired image is as good as any.
            self.may_hold += self.file.memory().allocated();
            self.judge();
        }
        self.open(Access::ReadWrite);
    }

    fn read(&self, disk: &dyn Disk, range: &Range<u64>) {
        let range = range.start..range.end.min(range.start + LONGEST_DATA);
        let mut found = vec![0; (range.end - range.start) as usize];
        let read = disk.read_at(&mut found, range.start);
        let Some(shadow) = &self.shadow else { return };
        match read {
            Ok(()) => shadow.check(&range, &found),
            Err(error) => {
                assert!(shadow.expected(&range).is_vague(), "{error}");
            }
        }
    }

    /// Notes how a change ended.
    fn changed(&mut self, range: Range<u64>, result: Result<()>, content: Content) {
        let Some(shadow) = &mut self.shadow else { return };
        let Err(error) = result else { return shadow.change(range, content) };
        match error.kind() {
            ErrorKind::ReadOnly => {}
            ErrorKind::Unsupported | ErrorKind::Unaligned => {}
            kind => {
                // Clusters that are written in part are read.
                let unreadable = shadow.is_unreadable_around(&range);
                assert!(unreadable || kind == ErrorKind::NoSpace, "{error}");
                shadow.change(range, Content::Unknown);
                self.failed = true;
            }
        }
    }

    fn write(&mut self, disk: &dyn Disk, range: &Range<u64>, step: &Step, number: u8) {
        let range = range.start..range.end.min(range.start + LONGEST_DATA);
        self.grows(&range);
        let bytes = pattern(number, range.end - range.start);
        let written = match step.code % 2 {
            0 => disk.write_at(&bytes, range.start),
            _ => disk.write_scratch_at(&mut bytes.clone(), range.start),
        };
        self.changed(range, written, Content::Bytes(bytes));
    }

    fn write_compressed(&mut self, disk: &Qcow2<Arc<Metered>>, range: &Range<u64>, number: u8) {
        let cluster = disk.header().cluster_size();
        let start = range.start / cluster * cluster;
        let range = start..start.saturating_add(cluster).min(disk.len());
        self.grows(&range);
        let bytes = pattern(number, range.end - range.start);
        let written = disk.write_compressed_at(&bytes, start);
        self.changed(range, written, Content::Bytes(bytes));
    }

    fn write_zeroes(&mut self, disk: &dyn Disk, range: &Range<u64>) {
        self.grows(range);
        let written = disk.write_zeroes(range.clone());
        self.changed(range.clone(), written, Content::Zero);
    }

    fn discard(&mut self, disk: &dyn Disk, range: &Range<u64>) {
        self.grows(range);
        let discarded = disk.discard(range.clone());
        // It may be anything; what it is can be told for a part of it only.
        let seen = range.start..range.end.min(range.start + LONGEST_DATA);
        let mut found = vec![0; (seen.end - seen.start) as usize];
        let read = disk.read_at(&mut found, seen.start);
        let Some(shadow) = &mut self.shadow else { return };
        if discarded.as_ref().is_err_and(|error| error.kind() == ErrorKind::ReadOnly) {
            return;
        }
        let old = shadow.expected(&seen);
        shadow.change(range.clone(), Content::Unknown);
        if let (Ok(()), Ok(())) = (discarded, read) {
            for (at, &found) in found.iter().enumerate() {
                let is_old = !old.known[at] || old.bytes[at] == found;
                assert!(found == 0 || is_old, "discarded in {seen:x?}");
            }
            shadow.change(seen, Content::Bytes(found));
        }
    }

    fn read_snapshots(&self, disk: &Qcow2<Arc<Metered>>, range: &Range<u64>) {
        for snapshot in disk.snapshots().iter().take(3) {
            self.file.allow(500);
            let Ok(view) = disk.snapshot(&snapshot.id) else { continue };
            let start = range.start.min(view.len());
            let mut found =
                vec![0; (range.end - range.start).min(4096).min(view.len() - start) as usize];
            let _ = view.read_at(&mut found, start);
            let _ = view.extent_at(start);
        }
    }

    fn extents(&self, disk: &dyn Disk, range: &Range<u64>) {
        let mut start = range.start;
        for extent in Extents::new(disk, range.start..disk.len()).take(50) {
            self.file.allow(100);
            let Ok(extent) = extent else { break };
            assert!(extent.range.start == start && !extent.range.is_empty());
            start = extent.range.end;
            let seen = extent.range.start..start.min(extent.range.start + 2000);
            if extent.kind.reads_as_zeros()
                && let Some(shadow) = &self.shadow
            {
                shadow.check(&seen, &vec![0; (seen.end - seen.start) as usize]);
            }
        }
    }

    fn resize(&mut self, mut disk: Qcow2<Arc<Metered>>, size: u64) {
        let old = disk.len();
        let size = size.saturating_mul(2) & !511;
        self.grows(&(size.min(old)..old));
        self.may_hold += 64 << 20;
        self.file.allow(40_000);
        let resized = disk.resize(size, Shrinking::Allow);
        if let Some(shadow) = &mut self.shadow {
            match resized {
                Ok(()) => shadow.change(size..u64::MAX, Content::Zero),
                // With the size that it has, nothing shows how far it came.
                Err(_) if disk.len() != size || size == old => {
                    // The end may be lost already.
                    shadow.change(size.min(old)..u64::MAX, Content::Unknown);
                    self.failed = true;
                }
                Err(error) => panic!("the size has changed, and yet: {error}"),
            }
        }
        self.disk = Some(disk);
    }

    /// Lets the file become larger by what a change of so many bytes may cost.
    fn grows(&mut self, range: &Range<u64>) {
        let cluster = 2 << 20;
        self.may_hold += (range.end - range.start).min(LONGEST_DATA) * 2 + 4 * cluster;
    }

    /// Checks an image that was closed.
    fn look_at_the_end(&mut self) {
        let report = self.check(Repair::Nothing);
        let Some(shadow) = &self.shadow else { return };
        let report = report.expect("an image that was right can be checked");
        assert_eq!(report.corruptions, 0, "{report:#?}");
        assert!(self.failed || report.leaks <= self.leaks, "{report:#?}");
        self.file.allow(4000);
        let gate = Beside(self.data.clone());
        let disk = open(self.file.clone(), Access::ReadOnly, &gate);
        let disk = disk.expect("an image that was right can be opened");
        let touched: Vec<_> = shadow.touched().collect();
        for start in touched {
            let range = start.min(disk.len())..start.saturating_add(LONGEST_DATA).min(disk.len());
            let clusters = LONGEST_DATA / disk.header().cluster_size() + 2;
            self.file.allow(1000 + clusters * 600);
            self.read(&disk, &range);
        }
    }
}

#[derive(Debug)]
struct Step {
    code: u8,
    place: u8,
    offset: u64,
    length: u64,
}

impl Step {
    fn parse(bytes: &[u8]) -> Self {
        let number = |at: usize| u64::from(bytes[at]) | u64::from(bytes[at + 1]) << 8;
        Self { code: bytes[0], place: bytes[1], offset: number(2), length: number(4) }
    }

    /// Returns a range of a disk: near its start, its end, by clusters, or anywhere.
    fn range<D: Resizable>(&self, disk: &Qcow2<D>) -> Range<u64> {
        let (len, shift) = (disk.len(), u32::from(self.place) >> 3);
        let cluster = disk.header().cluster_size();
        let start = match self.place & 3 {
            0 => self.offset,
            1 => self.offset.saturating_mul(cluster),
            2 => len.saturating_sub(self.offset),
            _ => self.offset << shift,
        };
        let length = match self.place & 4 {
            0 => self.length,
            _ => self.length.saturating_mul(cluster).saturating_mul(1 << shift),
        };
        let start = start.min(len);
        start..start.saturating_add(length).min(len)
    }
}

/// The other files of an image.
struct Beside(Arc<Memory>);

impl Gate for Beside {
    fn backing(&self, _named: &NamedFile<'_>) -> Result<Box<dyn Disk>> {
        let backing = Memory::new(1 << 50);
        backing.write_at(&[0xBB; 10_000], 0)?;
        backing.write_at(&[0xBC; 100], 1 << 40)?;
        Ok(Box::new(backing))
    }

    fn data_file(&self, _named: &NamedFile<'_>) -> Result<Box<dyn Resizable>> {
        Ok(Box::new(self.0.clone()))
    }
}

fn open<D: Resizable>(file: D, access: Access, gate: &dyn Gate) -> Option<Qcow2<D>> {
    let mut disk = Qcow2::open(file, access, gate).ok()?;
    let encryption = CipherSpec::AES_XTS_PLAIN64.with_largest_key();
    let key = VolumeKey::new((0..64).collect());
    let cipher = SectorCipher::new(encryption, &key, SectorSize::B512, IvUnit::Bytes512);
    // An image that is not encrypted takes no cipher.
    let _ = disk.set_cipher(cipher.expect("the key fits the cipher"));
    Some(disk)
}

/// Returns bytes that differ from those of other steps, and compress well.
fn pattern(number: u8, length: u64) -> Vec<u8> {
    (0..length).map(|index| number.wrapping_mul(37).wrapping_add((index / 64) as u8)).collect()
}

/// Unpacks a file: a zero stands for as many zeros as the byte behind it says.
fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut bytes = packed.iter();
    while let Some(&byte) = bytes.next() {
        if byte != 0 {
            file.push(byte);
            continue;
        }
        let zeros = match bytes.next().copied().map_or(0, usize::from) {
            code @ 128.. => (code - 127) * 512,
            code => code + 1,
        };
        file.resize(file.len() + zeros, 0);
        if file.len() > LONGEST_FILE {
            break;
        }
    }
    file
}

/// The bytes of a step.
const STEP: usize = 6;

/// The most steps.
const MOST_STEPS: usize = 24;

/// The longest file in bytes.
const LONGEST_FILE: usize = 1 << 20;

/// The most bytes that are read or written at once.
const LONGEST_DATA: u64 = 24 << 10;
