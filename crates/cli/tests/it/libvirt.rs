//! libvirt: its documents as commands, and volumes exchanged with a real daemon.

mod commands;
mod connected;
mod copies;
mod daemon;
mod exchange;
mod hazards;
mod secrets;
mod served;
mod store;
mod volumes;

use std::fmt;
use std::path::PathBuf;

use strongroom_testkit::{Libvirt, Tool, skip};

use crate::workplace::{Workplace, has};

/// A daemon with a pool, and a place to work in whose file `pw` has the value of every secret.
pub(crate) struct Rig {
    pub(crate) daemon: Libvirt,
    pub(crate) place: Workplace,
    pub(crate) pool: PathBuf,
}

/// How a volume is encrypted, in libvirt's words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    /// `raw` or `qcow2`.
    pub(crate) format: &'static str,
    /// Cipher, size of its key in bits, mode; the daemon chooses where there is none.
    pub(crate) cipher: Option<(&'static str, u32, &'static str)>,
    /// The IV generator, with `:` and its hash if it has one.
    pub(crate) ivgen: &'static str,
    /// The hash of key derivation.
    pub(crate) hash: &'static str,
}

impl Rig {
    /// Returns one, or says that the test is skipped.
    pub(crate) fn new(test: &str) -> Option<Self> {
        if !has(test, &[Tool::QEMU_IMG, Tool::QEMU_IO, Tool::VIRSH]) {
            return None;
        }
        let Some(daemon) = Libvirt::start() else {
            skip(test, "it takes libvirtd, and root to make namespaces");
            return None;
        };
        let pool = daemon.define_pool("pool");
        let place = Workplace::new();
        // Its last line break is a part of it; QEMU takes nothing but text.
        place.write("pw", "a passphrase of the pool\n");
        Some(Self { daemon, place, pool })
    }

    /// Defines a secret for a volume and returns its UUID.
    pub(crate) fn secret(&self, volume: &str, number: usize) -> String {
        let uuid = format!("7d3f0a52-6f0e-4c1b-9a53-{number:012x}");
        self.daemon.define_secret(&uuid, &self.pool.join(volume), &self.place.read("pw"));
        uuid
    }

    /// Returns where a volume lies.
    pub(crate) fn volume(&self, name: &str) -> String {
        self.pool.join(name).display().to_string()
    }

    /// Returns a document for a volume that the daemon shall make.
    pub(crate) fn document(name: &str, len: u64, choice: Choice, secret: &str) -> String {
        format!(
            "<volume><name>{name}</name><capacity unit='bytes'>{len}</capacity><target>\
             <format type='{}'/>{}</target></volume>",
            choice.format,
            choice.encryption(secret)
        )
    }

    /// Fills a volume with an image, through QEMU.
    pub(crate) fn fill_with_qemu(&self, choice: Choice, name: &str) -> Result<(), String> {
        let words = format!(
            "convert -n {SECRET} -f raw plain --target-image-opts {}",
            choice.qemu_options(&self.volume(name))
        );
        self.place.qemu_img(&words).success().map(drop)
    }

    /// Reads a volume with our own program into a file.
    pub(crate) fn read_with_ours(
        &self,
        choice: Choice,
        name: &str,
        to: &str,
    ) -> Result<(), String> {
        let (volume, format) = (self.volume(name), choice.our_format());
        let words = format!(
            "image decrypt {volume} {to} --force --source-format {format} --passphrase-file pw"
        );
        self.place.strongroom(&words).success().map(drop)
    }

    /// Reads a volume through QEMU into a file.
    pub(crate) fn read_with_qemu(
        &self,
        choice: Choice,
        name: &str,
        to: &str,
    ) -> Result<(), String> {
        let options = choice.qemu_options(&self.volume(name));
        let words = format!("convert {SECRET} --image-opts {options} -O raw {to}");
        self.place.qemu_img(&words).success().map(drop)
    }
}

impl Choice {
    pub(crate) const fn usual(format: &'static str) -> Self {
        Self { format, cipher: None, ivgen: "plain64", hash: "sha256" }
    }

    /// Returns how our own program calls the cipher.
    pub(crate) fn spec(&self) -> String {
        let (name, _, mode) = self.cipher.unwrap_or(("aes", 256, "xts"));
        if mode == "ecb" { format!("{name}-ecb") } else { format!("{name}-{mode}-{}", self.ivgen) }
    }

    /// Returns the bits of the volume key: XTS has two keys.
    pub(crate) fn key_bits(&self) -> u32 {
        let (_, bits, mode) = self.cipher.unwrap_or(("aes", 256, "xts"));
        if mode == "xts" { 2 * bits } else { bits }
    }

    /// Returns the options of our own program to make such a volume.
    pub(crate) fn our_options(&self) -> String {
        format!(
            "--format {} --cipher {} --key-size {} --hash {}",
            self.our_format(),
            self.spec(),
            self.key_bits(),
            self.hash
        )
    }

    /// Returns what our own program calls the format.
    pub(crate) fn our_format(&self) -> &'static str {
        if self.format == "raw" { "luks1" } else { "qcow2-luks" }
    }

    fn encryption(&self, secret: &str) -> String {
        let secret = format!("<secret type='passphrase' uuid='{secret}'/>");
        let Some((name, bits, mode)) = self.cipher else {
            return format!("<encryption format='luks'>{secret}</encryption>");
        };
        let ivgen = match self.ivgen.split_once(':') {
            Some((ivgen, hash)) => format!("<ivgen name='{ivgen}' hash='{hash}'/>"),
            None => format!("<ivgen name='{}'/>", self.ivgen),
        };
        format!(
            "<encryption format='luks'>{secret}\
             <cipher name='{name}' size='{bits}' mode='{mode}' hash='{}'/>{ivgen}</encryption>",
            self.hash
        )
    }

    fn qemu_options(&self, path: &str) -> String {
        match self.format {
            "raw" => format!("driver=luks,file.filename={path},key-secret=key"),
            _ => format!("driver=qcow2,file.filename={path},encrypt.key-secret=key"),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {} bits, {}", self.format, self.spec(), self.key_bits(), self.hash)
    }
}

/// What QEMU's programs call the passphrase.
pub(crate) const SECRET: &str = "--object secret,id=key,file=pw";

/// What a guest sees of each volume, in bytes: a whole number of KiB, to which the daemon rounds.
pub(crate) const LEN: u64 = (3 << 20) + 5 * 1024;
