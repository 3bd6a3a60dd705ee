//! Every cipher, mode, IV, key size, hash, sector size and key derivation that two tools share.
//!
//! `qemu-img` writes and reads LUKS1 data of all its ciphers in its own code. `cryptsetup`
//! reencrypts LUKS2 data without the kernel, in ciphers that OpenSSL has. What no tool here has
//! besides us (Twofish in LUKS2, CAST5 with `plain64be`, DES3 …) is left to published vectors.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use strongroom_testkit::Tool;

use crate::workplace::{CHEAP, CRYPTSETUP_CHEAP, Workplace, has};

#[test]
fn every_combination_that_two_tools_share_is_read_back() {
    let name = "interop::matrix";
    if !has(name, &[Tool::CRYPTSETUP, Tool::QEMU_IMG]) {
        return;
    }
    let cells = cells();
    let next = AtomicUsize::new(0);
    let problems = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(problem) = cell.prove() {
                        problems.lock().unwrap().push(format!("{cell}\n{problem}"));
                    }
                }
            });
        }
    });
    let mut counts = BTreeMap::new();
    for cell in &cells {
        *counts.entry(cell.route.to_string()).or_insert(0) += 1;
    }
    println!("{} combinations: {counts:?}", cells.len());
    let problems = problems.into_inner().unwrap();
    assert!(problems.is_empty(), "{} failed\n{}", problems.len(), problems.join("\n\n"));
    assert!(cells.len() >= 150, "{} combinations are too few", cells.len());
}

/// One combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    route: Route,
    format: Format,
    cipher: &'static str,
    key_bits: u32,
    hash: &'static str,
    sector_size: u32,
    kdf: Kdf,
}

/// Who writes and who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    /// We make the volume, `qemu-img` reads it.
    OursToQemu,
    /// `qemu-img` fills a volume whose header we made, and we read it.
    OursFilledByQemu,
    /// `qemu-img` makes the volume, we read it.
    QemuToOurs,
    /// `qemu-img` fills a volume whose header `cryptsetup` made, and we read it.
    CryptsetupFilledByQemu,
    /// We make the volume, `cryptsetup` reads it.
    OursToCryptsetup,
    /// `cryptsetup` makes the volume, we read it.
    CryptsetupToOurs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Luks1,
    Luks2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kdf {
    Pbkdf2,
    Argon2i,
    Argon2id,
}

impl Cell {
    /// The combination of a route in its plainest form.
    const fn new(route: Route, format: Format, cipher: &'static str, key_bits: u32) -> Self {
        Self { route, format, cipher, key_bits, hash: "sha256", sector_size: 512, kdf: Kdf::Pbkdf2 }
    }

    fn prove(&self) -> Result<(), String> {
        let place = Workplace::new();
        place.image("plain", LEN);
        match self.route {
            Route::OursToQemu => {
                self.encrypt(&place)?;
                self.read_with_qemu(&place)
            }
            Route::OursFilledByQemu => {
                self.encrypt_zeros(&place)?;
                self.fill_with_qemu(&place)?;
                self.read_with_ours(&place, "")
            }
            Route::QemuToOurs => {
                self.make_with_qemu(&place)?;
                self.read_with_ours(&place, "")
            }
            Route::CryptsetupFilledByQemu => {
                self.format_with_cryptsetup(&place)?;
                self.fill_with_qemu(&place)?;
                self.read_with_ours(&place, "")
            }
            Route::OursToCryptsetup => {
                self.encrypt(&place)?;
                self.read_with_cryptsetup(&place)
            }
            Route::CryptsetupToOurs => self.make_with_cryptsetup(&place),
        }
    }

    fn encrypt(&self, place: &Workplace) -> Result<(), String> {
        self.encrypt_file(place, "plain")
    }

    fn encrypt_zeros(&self, place: &Workplace) -> Result<(), String> {
        place.sized("zeros", LEN);
        self.encrypt_file(place, "zeros")
    }

    fn encrypt_file(&self, place: &Workplace, source: &str) -> Result<(), String> {
        let Self { format, cipher, key_bits, hash, sector_size, kdf, .. } = self;
        place
            .strongroom(&format!(
                "image encrypt {source} volume --passphrase-file pw --format {format} \
                 --cipher {cipher} --key-size {key_bits} --hash {hash} \
                 --sector-size {sector_size} {}",
                kdf.ours(),
            ))
            .success()
            .map(drop)
    }

    fn read_with_ours(&self, place: &Workplace, options: &str) -> Result<(), String> {
        place
            .strongroom(&format!("image decrypt volume again --passphrase-file pw {options}"))
            .success()?;
        place.same("again", "plain")
    }

    fn read_with_qemu(&self, place: &Workplace) -> Result<(), String> {
        place
            .qemu_img(&format!(
                "convert {SECRET} --image-opts {} -O raw again",
                qemu_options("volume")
            ))
            .success()?;
        place.same("again", "plain")
    }

    fn fill_with_qemu(&self, place: &Workplace) -> Result<(), String> {
        place
            .qemu_img(&format!(
                "convert -n {SECRET} -f raw plain --target-image-opts {}",
                qemu_options("volume")
            ))
            .success()
            .map(drop)
    }

    fn make_with_qemu(&self, place: &Workplace) -> Result<(), String> {
        let (cipher, rest) = self.cipher.split_once('-').ok_or("no mode")?;
        let (mode, iv) = rest.split_once('-').unwrap_or((rest, "plain64"));
        let bits = if mode == "xts" { self.key_bits / 2 } else { self.key_bits };
        let iv = match iv.split_once(':') {
            Some((iv, hash)) => format!("ivgen-alg={iv},ivgen-hash-alg={hash}"),
            None => format!("ivgen-alg={iv}"),
        };
        let hash = self.hash;
        let words = format!(
            "convert {SECRET} -f raw plain -O luks -o key-secret=key,iter-time=10,\
             cipher-alg={cipher}-{bits},cipher-mode={mode},{iv},hash-alg={hash} volume"
        );
        place.qemu_img(&words).success().map(drop)
    }

    fn format_with_cryptsetup(&self, place: &Workplace) -> Result<(), String> {
        let Self { format, cipher, key_bits, hash, .. } = self;
        place.sized("volume", (2 << 20) + LEN);
        place
            .cryptsetup(&format!(
                "luksFormat --type {format} --key-file pw --cipher {cipher} \
                 --key-size {key_bits} --hash {hash} {CRYPTSETUP_CHEAP} --offset 4096 volume"
            ))
            .success()
            .map(drop)
    }

    /// Lets `cryptsetup` open a keyslot, then turn the data into its plaintext, or into a volume of
    /// the cipher that other combinations prove.
    fn read_with_cryptsetup(&self, place: &Workplace) -> Result<(), String> {
        place.cryptsetup("open --test-passphrase --key-file pw volume").success()?;
        place
            .cryptsetup("open --test-passphrase --key-file wrong volume")
            .success()
            .map_or(Ok(()), |_| Err("cryptsetup opens it with any passphrase".to_owned()))?;
        if self.format == Format::Luks1 {
            place.cryptsetup("convert -q --type luks2 volume").success()?;
        }
        if self.cipher == PROVEN && self.hash == "sha256" {
            place
                .cryptsetup(&format!(
                    "reencrypt --decrypt --header header --key-file pw {CRYPTSETUP_CHEAP} \
                     --force-offline-reencrypt volume"
                ))
                .success()?;
            // The data has moved to the beginning; what was behind it stays.
            let (found, plain) = (place.read("volume"), place.read("plain"));
            let equal = found.starts_with(&plain);
            return if equal { Ok(()) } else { Err("the plaintext differs".to_owned()) };
        }
        place
            .cryptsetup(&format!(
                "reencrypt --cipher {PROVEN} --key-size 512 --key-file pw {CRYPTSETUP_CHEAP} \
                 --force-offline-reencrypt volume"
            ))
            .success()?;
        self.read_with_ours(place, "")
    }

    /// Lets `cryptsetup` encrypt an image in place under a detached header. A LUKS1 volume is one
    /// that it has converted afterwards.
    fn make_with_cryptsetup(&self, place: &Workplace) -> Result<(), String> {
        let Self { cipher, key_bits, hash, sector_size, kdf, .. } = self;
        place.copy("plain", "volume");
        place
            .cryptsetup(&format!(
                "reencrypt --encrypt --type luks2 --header header --key-file pw -q \
                 --cipher {cipher} --key-size {key_bits} --hash {hash} \
                 --sector-size {sector_size} {} volume",
                kdf.cryptsetup(),
            ))
            .success()?;
        if self.format == Format::Luks1 {
            place.cryptsetup("convert -q --type luks1 header").success()?;
        }
        self.read_with_ours(place, "--header header")
    }
}

impl Kdf {
    fn ours(self) -> &'static str {
        match self {
            Self::Pbkdf2 => CHEAP,
            Self::Argon2i => {
                "--pbkdf argon2i --pbkdf-memory 64 --pbkdf-iterations 4 --pbkdf-parallel 2"
            }
            Self::Argon2id => {
                "--pbkdf argon2id --pbkdf-memory 32 --pbkdf-iterations 5 --pbkdf-parallel 1"
            }
        }
    }

    fn cryptsetup(self) -> &'static str {
        match self {
            Self::Pbkdf2 => "--pbkdf pbkdf2 --pbkdf-force-iterations 1000",
            Self::Argon2i => {
                "--pbkdf argon2i --pbkdf-force-iterations 5 --pbkdf-memory 32 --pbkdf-parallel 1"
            }
            Self::Argon2id => {
                "--pbkdf argon2id --pbkdf-force-iterations 4 --pbkdf-memory 64 --pbkdf-parallel 2"
            }
        }
    }
}

fn qemu_options(file: &str) -> String {
    format!("driver=luks,file.filename={file},key-secret=key")
}

fn cells() -> Vec<Cell> {
    let mut cells = qemu_cells();
    cells.extend(cryptsetup_cells());
    cells
}

/// LUKS1 is what `qemu-img` has. With a 192-bit key in CBC, CTR or ECB it dies of a failed assertion
/// (Debian's 7.2 and 10.0 both), so those are left out.
fn qemu_cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut both = |cipher, key_bits| {
        for route in [Route::OursToQemu, Route::OursFilledByQemu] {
            cells.push(Cell::new(route, Format::Luks1, cipher, key_bits));
        }
    };
    for cipher in XTS {
        // A kernel has no AES-192 in XTS, so we have none either.
        let sizes: &[u32] = if cipher.starts_with("aes") { &[256, 512] } else { &[256, 384, 512] };
        sizes.iter().for_each(|&bits| both(cipher, bits));
    }
    for cipher in CBC_AND_CTR {
        [128, 256].into_iter().for_each(|bits| both(cipher, bits));
    }
    CAST5.into_iter().for_each(|cipher| both(cipher, 128));
    for hash in ["sha1", "sha224", "sha384", "sha512", "ripemd160"] {
        for route in [Route::OursToQemu, Route::OursFilledByQemu, Route::CryptsetupFilledByQemu] {
            cells.push(Cell { hash, ..Cell::new(route, Format::Luks1, PROVEN, 512) });
        }
    }
    for (cipher, bits) in CRYPTSETUP_AND_QEMU {
        cells.push(Cell::new(Route::CryptsetupFilledByQemu, Format::Luks1, cipher, bits));
    }
    for (cipher, key_bits, hash) in QEMU_MADE {
        let cell = Cell::new(Route::QemuToOurs, Format::Luks1, cipher, key_bits);
        cells.push(Cell { hash, ..cell });
    }
    cells
}

fn cryptsetup_cells() -> Vec<Cell> {
    const BOTH_WAYS: [Route; 2] = [Route::OursToCryptsetup, Route::CryptsetupToOurs];
    let mut cells = Vec::new();
    for route in BOTH_WAYS {
        for format in [Format::Luks1, Format::Luks2] {
            for (cipher, bits) in OPENSSL {
                cells.push(Cell::new(route, format, cipher, bits));
            }
            for hash in HASHES {
                // New LUKS2 headers are refused with it.
                if (route, format, hash) == (Route::OursToCryptsetup, Format::Luks2, "sha1") {
                    continue;
                }
                cells.push(Cell { hash, ..Cell::new(route, format, "aes-xts-plain64", 256) });
            }
        }
        let usual = Cell::new(route, Format::Luks2, PROVEN, 512);
        for sector_size in [1024, 2048, 4096] {
            for (cipher, key_bits) in SECTORS {
                cells.push(Cell { cipher, key_bits, sector_size, ..usual });
            }
        }
        for kdf in [Kdf::Argon2i, Kdf::Argon2id] {
            for sector_size in [512, 4096] {
                cells.push(Cell { kdf, sector_size, ..usual });
            }
        }
    }
    // Modes that leak are not for us to make, but for us to open.
    for (cipher, bits) in [("aes-ecb", 256), ("aes-cbc-null", 192), ("camellia-ctr-null", 256)] {
        for format in [Format::Luks1, Format::Luks2] {
            cells.push(Cell::new(Route::CryptsetupToOurs, format, cipher, bits));
        }
    }
    cells
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { route, format, cipher, key_bits, hash, sector_size, kdf } = self;
        write!(f, "{route}: {format}, {cipher}, {key_bits} bits, {hash}, {sector_size}, {kdf:?}")
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OursToQemu => "strongroom to qemu-img",
            Self::OursFilledByQemu => "qemu-img into strongroom's header to strongroom",
            Self::QemuToOurs => "qemu-img to strongroom",
            Self::CryptsetupFilledByQemu => "qemu-img into cryptsetup's header to strongroom",
            Self::OursToCryptsetup => "strongroom to cryptsetup",
            Self::CryptsetupToOurs => "cryptsetup to strongroom",
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Luks1 => "luks1",
            Self::Luks2 => "luks2",
        })
    }
}

const XTS: [&str; 9] = [
    "aes-xts-plain",
    "aes-xts-plain64",
    "aes-xts-essiv:sha256",
    "serpent-xts-plain",
    "serpent-xts-plain64",
    "serpent-xts-essiv:sha256",
    "twofish-xts-plain",
    "twofish-xts-plain64",
    "twofish-xts-essiv:sha256",
];

const CBC_AND_CTR: [&str; 18] = [
    "aes-cbc-plain",
    "aes-cbc-plain64",
    "aes-cbc-essiv:sha256",
    "aes-ctr-plain",
    "aes-ctr-plain64",
    "aes-ctr-essiv:sha256",
    "serpent-cbc-plain",
    "serpent-cbc-plain64",
    "serpent-cbc-essiv:sha256",
    "serpent-ctr-plain",
    "serpent-ctr-plain64",
    "serpent-ctr-essiv:sha256",
    "twofish-cbc-plain",
    "twofish-cbc-plain64",
    "twofish-cbc-essiv:sha256",
    "twofish-ctr-plain",
    "twofish-ctr-plain64",
    "twofish-ctr-essiv:sha256",
];

const CAST5: [&str; 4] =
    ["cast5-cbc-plain", "cast5-cbc-plain64", "cast5-ctr-plain", "cast5-ctr-plain64"];

/// Headers of `cryptsetup` with data of `qemu-img`.
const CRYPTSETUP_AND_QEMU: [(&str, u32); 8] = [
    ("aes-xts-plain64", 512),
    ("aes-xts-plain64", 256),
    ("aes-xts-plain", 512),
    ("aes-cbc-essiv:sha256", 256),
    ("aes-cbc-plain64", 128),
    ("aes-ctr-plain64", 256),
    ("aes-ctr-plain", 128),
    ("aes-cbc-plain", 256),
];

/// Volumes that are all of `qemu-img`'s making. It measures for seconds for each, so they are few.
const QEMU_MADE: [(&str, u32, &str); 12] = [
    ("aes-xts-plain64", 512, "sha256"),
    ("aes-xts-plain64", 256, "sha1"),
    ("aes-cbc-essiv:sha256", 256, "sha512"),
    ("aes-ctr-plain", 128, "sha224"),
    ("aes-ecb", 256, "sha384"),
    ("serpent-xts-plain64", 384, "ripemd160"),
    ("serpent-cbc-plain", 256, "sha256"),
    ("serpent-ecb", 128, "sha256"),
    ("twofish-xts-essiv:sha256", 512, "sha256"),
    ("twofish-cbc-plain64", 256, "sha256"),
    ("twofish-ctr-essiv:sha256", 128, "sha256"),
    ("cast5-cbc-plain64", 128, "sha256"),
];

/// Ciphers that OpenSSL has and a keyslot may use.
const OPENSSL: [(&str, u32); 18] = [
    ("aes-xts-plain64", 512),
    ("aes-xts-plain64", 256),
    ("aes-xts-plain", 512),
    ("aes-xts-plain64be", 512),
    ("aes-xts-essiv:sha256", 512),
    ("aes-cbc-plain", 128),
    ("aes-cbc-plain64", 192),
    ("aes-cbc-plain64", 256),
    ("aes-cbc-plain64be", 256),
    ("aes-cbc-essiv:sha256", 128),
    ("aes-cbc-essiv:sha256", 256),
    ("aes-ctr-plain64", 192),
    ("aes-ctr-plain64be", 256),
    ("camellia-cbc-plain", 128),
    ("camellia-cbc-plain64", 256),
    ("camellia-cbc-plain64be", 192),
    ("camellia-cbc-essiv:sha256", 256),
    ("camellia-ctr-plain64", 256),
];

const HASHES: [&str; 12] = [
    "sha1",
    "sha224",
    "sha384",
    "sha512",
    "sha3-224",
    "sha3-256",
    "sha3-384",
    "sha3-512",
    "ripemd160",
    "whirlpool",
    "blake2b-512",
    "blake2s-256",
];

/// Ciphers for sectors of more than 512 bytes, whose IVs count units of 512 all the same.
const SECTORS: [(&str, u32); 4] = [
    ("aes-xts-plain64", 512),
    ("aes-xts-plain64be", 256),
    ("aes-cbc-essiv:sha256", 256),
    ("camellia-cbc-plain", 192),
];

/// The cipher whose plaintext `cryptsetup` is made to show.
const PROVEN: &str = "aes-xts-plain64";

const SECRET: &str = "--object secret,id=key,file=pw";

const LEN: u64 = 128 << 10;

const WORKERS: usize = 4;
