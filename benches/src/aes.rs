//! AES over runs of sectors: every kernel against OpenSSL and `memcpy`, on one core.

use std::cell::RefCell;
use std::hint::black_box;
use std::ops::Range;
use std::time::Duration;

use strongroom_crypto::{CipherSpec, IvUnit, Kernel, SectorCipher, SectorSize, VolumeKey};

use crate::error::Error;
use crate::openssl_sectors::{Direction, OpenSslSectors};
use crate::report::{Bound, Report, Target, heading};
use crate::stopwatch::{ROUNDS, medians};

/// Measures all of it, after checking that everyone gives the same bytes.
pub(crate) fn run(report: &mut Report) -> Result<(), Error> {
    heading("AES on one core");
    println!("peers: OpenSSL {}, EVP, one context, a new IV per sector;", openssl_version());
    println!("       memcpy of a buffer of the same size to another one");
    println!("GB/s of processor time, median of {ROUNDS} rounds in which all take turns");
    for case in CASES {
        for sector_size in [SectorSize::B512, SectorSize::B4096] {
            measure(case, sector_size, report)?;
        }
    }
    Ok(())
}

/// Returns a cipher for measuring, with its random key.
pub(crate) fn sector_cipher(
    spec: &str,
    key: &VolumeKey,
    sector_size: SectorSize,
    kernel: Kernel,
) -> Result<SectorCipher, Error> {
    let encryption = spec.parse::<CipherSpec>()?.with_key_bits(8 * key.len())?;
    Ok(SectorCipher::with_kernel(encryption, key, sector_size, IvUnit::Bytes512, kernel)?)
}

/// Returns the system's random numbers.
pub(crate) fn system_rng() -> impl rand_core::CryptoRng {
    rand_core::UnwrapErr(getrandom::SysRng)
}

struct Case {
    name: &'static str,
    spec: &'static str,
    key_bytes: usize,
    /// Whether DESIGN has targets for it.
    targets: bool,
}

/// What one contender does with a buffer.
enum Contender {
    Ours(SectorCipher),
    OpenSsl(RefCell<OpenSslSectors>),
    Memcpy,
}

impl Contender {
    fn name(&self) -> String {
        match self {
            Self::Ours(cipher) => format!("strongroom {}", cipher.kernel()),
            Self::OpenSsl(_) => "OpenSSL".to_owned(),
            Self::Memcpy => "memcpy".to_owned(),
        }
    }

    /// Works on all of `buffer` but its slack.
    fn work(&self, direction: Direction, buffers: &mut Buffers, size: usize) -> Result<(), Error> {
        let data = buffers.data.bytes();
        match self {
            Self::Ours(cipher) => {
                let whole = data.len() - OpenSslSectors::SLACK;
                match direction {
                    Direction::Encrypt => cipher.encrypt(&mut data[..whole], FIRST_IV),
                    Direction::Decrypt => cipher.decrypt(&mut data[..whole], FIRST_IV),
                }
            }
            Self::OpenSsl(peer) => peer.borrow_mut().run(direction, data, size, FIRST_IV)?,
            Self::Memcpy => buffers.copy.bytes().copy_from_slice(data),
        }
        black_box(buffers.copy.bytes());
        Ok(())
    }
}

struct Buffers {
    data: Pages,
    copy: Pages,
}

impl Buffers {
    /// Returns buffers for so many bytes and the slack, filled so that every page is there.
    fn new(len: usize) -> Self {
        let len = len + OpenSslSectors::SLACK;
        let (mut data, mut copy) = (Pages::new(len), Pages::new(len));
        data.bytes().iter_mut().zip(0..).for_each(|(byte, at)| *byte = (at % 251) as u8);
        copy.bytes().fill(1);
        Self { data, copy }
    }
}

/// Bytes that begin at a page, as those of the image pipeline do.
struct Pages {
    bytes: Vec<u8>,
    range: Range<usize>,
}

impl Pages {
    fn new(len: usize) -> Self {
        let bytes = vec![0; len + PAGE];
        let start = bytes.as_ptr().align_offset(PAGE);
        Self { bytes, range: start..start + len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.range.clone()]
    }
}

fn measure(case: &Case, sector_size: SectorSize, report: &mut Report) -> Result<(), Error> {
    let size = sector_size.bytes();
    let contenders = contenders(case, sector_size)?;
    check(case, &contenders, size)?;
    println!("\n  {}, sectors of {size} bytes", case.name);
    println!(
        "    {:<28}{:>14}{:>14}{:>14}{:>14}{:>12}",
        "", "enc 256 KiB", "dec 256 KiB", "enc 256 MiB", "dec 256 MiB", "x OpenSSL"
    );
    let mut columns = Vec::new();
    for len in [IN_CACHE, IN_MEMORY] {
        let buffers = RefCell::new(Buffers::new(len));
        for direction in [Direction::Encrypt, Direction::Decrypt] {
            let mut turns: Vec<Box<dyn FnMut() -> Result<(), Error> + '_>> = Vec::new();
            for contender in &contenders {
                let buffers = &buffers;
                turns.push(Box::new(move || {
                    contender.work(direction, &mut buffers.borrow_mut(), size)
                }));
            }
            let rate = |took: Duration| len as f64 / took.as_secs_f64() / 1e9;
            columns.push(medians(&mut turns)?.into_iter().map(rate).collect::<Vec<f64>>());
        }
    }
    let openssl = contenders.len() - 2;
    for (row, contender) in contenders.iter().enumerate() {
        print!("    {:<28}", contender.name());
        for column in &columns {
            print!("{:>14.2}", column[row]);
        }
        let ratio = |column: &Vec<f64>| column[row] / column[openssl];
        println!("{:>6.1}{:>6.1}", ratio(&columns[0]), ratio(&columns[2]));
    }
    if case.targets {
        targets(size, &columns, openssl, report);
    }
    Ok(())
}

/// Adds the targets, of the kernel that runs here and encryption: the first row, columns 0 and 2.
fn targets(size: usize, columns: &[Vec<f64>], openssl: usize, report: &mut Report) {
    let least = if size == 512 { 4.0 } else { 2.0 };
    for (column, place) in [(&columns[0], "in cache"), (&columns[2], "in memory")] {
        report.add(Target {
            what: format!("AES-256-XTS, {size}-byte sectors, {place}, over OpenSSL"),
            value: column[0] / column[openssl],
            bound: Bound::AtLeast(least),
            unit: "x",
        });
    }
    if size == 4096 {
        report.add(Target {
            what: "AES-256-XTS, 4096-byte sectors, in memory, over memcpy".to_owned(),
            value: columns[2][0] / columns[2][openssl + 1],
            bound: Bound::AtLeast(1.0),
            unit: "x",
        });
    }
}

/// Returns our kernels, the fastest first, then OpenSSL, then memcpy.
fn contenders(case: &Case, sector_size: SectorSize) -> Result<Vec<Contender>, Error> {
    let key = VolumeKey::random(case.key_bytes, &mut system_rng());
    let mut contenders = Vec::new();
    for kernel in Kernel::available() {
        let cipher = sector_cipher(case.spec, &key, sector_size, kernel)?;
        contenders.push(Contender::Ours(cipher));
    }
    let openssl = match case.spec {
        "aes-xts-plain64" => OpenSslSectors::aes_xts(key.expose_bytes())?,
        _ => OpenSslSectors::aes_cbc_essiv(key.expose_bytes())?,
    };
    contenders.push(Contender::OpenSsl(RefCell::new(openssl)));
    contenders.push(Contender::Memcpy);
    Ok(contenders)
}

/// Refuses contenders that differ by a byte.
fn check(case: &Case, contenders: &[Contender], size: usize) -> Result<(), Error> {
    let mut plain = Buffers::new(CHECKED);
    let plain = &plain.data.bytes()[..CHECKED];
    let mut expected: Option<Vec<u8>> = None;
    for contender in contenders {
        if matches!(contender, Contender::Memcpy) {
            continue;
        }
        let mut buffers = Buffers::new(CHECKED);
        let wrong =
            |what: &str| Err(Error::Wrong(format!("{} {what} in {}", contender.name(), case.name)));
        contender.work(Direction::Encrypt, &mut buffers, size)?;
        let encrypted = &buffers.data.bytes()[..CHECKED];
        if encrypted == plain {
            return wrong("does not encrypt");
        }
        if expected.get_or_insert_with(|| encrypted.to_vec()) != encrypted {
            return wrong("encrypts to other bytes than those before it");
        }
        contender.work(Direction::Decrypt, &mut buffers, size)?;
        if &buffers.data.bytes()[..CHECKED] != plain {
            return wrong("does not decrypt what it encrypted");
        }
    }
    Ok(())
}

fn openssl_version() -> &'static str {
    openssl::version::version().trim_start_matches("OpenSSL ")
}

const CASES: &[Case] = &[
    Case { name: "AES-256-XTS", spec: "aes-xts-plain64", key_bytes: 64, targets: true },
    Case { name: "AES-128-XTS", spec: "aes-xts-plain64", key_bytes: 32, targets: false },
    Case { name: "AES-256-CBC-ESSIV", spec: "aes-cbc-essiv:sha256", key_bytes: 32, targets: false },
];

const PAGE: usize = 4096;
const IN_CACHE: usize = 256 << 10;
const IN_MEMORY: usize = 256 << 20;

/// How many bytes are compared: more than any kernel takes at once.
const CHECKED: usize = 1 << 20;

/// Not zero, so that IVs with a carry are part of the check.
const FIRST_IV: u64 = 0xffff_fff0;
