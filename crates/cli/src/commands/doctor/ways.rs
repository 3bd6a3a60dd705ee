//! In which ways this machine can make volumes appear.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use strongroom_attach::{Support, dm, file_system, fuse, loop_device};
use strongroom_model::FileSystem;

use crate::command_error::CommandError;
use crate::ui::Ui;

/// One thing that attaching volumes may need.
pub(super) struct Way {
    name: &'static str,
    /// What it is for.
    purpose: &'static str,
    support: Support,
}

/// Returns everything that attaching volumes may need, and whether it is here.
pub(super) fn all() -> Vec<Way> {
    let way = |name, purpose, support| Way { name, purpose, support };
    vec![
        way("dm-crypt", "decrypts in the kernel", dm::support()),
        way("kernel keyring", "keeps the key of dm-crypt out of its table", keyring()),
        way("FUSE", "decrypts without dm-crypt, and without root", fuse::support()),
        way("fusermount3", "lets others than root use FUSE", fusermount()),
        way("loop devices", "make files block devices, to be mounted", loop_device::support()),
        way("NBD", "exports volumes to virtual machines", Support::Usable),
        way("ext4 programs", "make, check and grow ext4", file_system::support(FileSystem::Ext4)),
        way("xfs programs", "make and grow XFS", file_system::support(FileSystem::Xfs)),
        way("ext4 online", "grows an ext4 that is mounted", sys_resource()),
    ]
}

/// Prints the ways.
///
/// # Errors
///
/// When standard output cannot be written.
pub(super) fn print(ui: &mut Ui, ways: &[Way]) -> Result<(), CommandError> {
    ui.data("attaching volumes")?;
    for way in ways {
        let state = match &way.support {
            Support::Usable => way.purpose.to_owned(),
            Support::Missing { what, remedy } => format!("missing: {what}; {remedy}"),
        };
        ui.data(&format!("  {:<16}{state}", way.name))?;
    }
    let has = |name: &str| ways.iter().any(|way| way.name == name && way.support.is_usable());
    let best = match (has("dm-crypt"), has("FUSE"), has("loop devices")) {
        (true, _, true) => "mounts and devices by dm-crypt, exports over NBD",
        (_, true, true) => "mounts and devices by FUSE, exports over NBD",
        (_, true, false) => "files by FUSE, exports over NBD",
        _ => "exports over NBD",
    };
    ui.data(&format!("  {:<16}{best}", "so it has"))
}

impl Way {
    /// Returns what scripts want to know of it.
    pub(super) fn to_json(&self) -> Value {
        let (missing, remedy) = match &self.support {
            Support::Usable => (None, None),
            Support::Missing { what, remedy } => (Some(what), Some(remedy)),
        };
        json!({
            "name": self.name,
            "purpose": self.purpose,
            "usable": self.support.is_usable(),
            "missing": missing,
            "remedy": remedy,
        })
    }
}

fn keyring() -> Support {
    if Path::new("/proc/keys").exists() {
        return Support::Usable;
    }
    missing("the kernel has no keyrings", "dm-crypt gets keys in its table then; nothing to do")
}

fn fusermount() -> Support {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join("fusermount3").is_file()) {
        return Support::Usable;
    }
    missing("there is no fusermount3", "install the package fuse3; root does without it")
}

/// Tells whether this process may do what growing a mounted ext4 takes.
fn sys_resource() -> Support {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    if effective.is_some_and(|effective| effective & CAP_SYS_RESOURCE != 0) {
        return Support::Usable;
    }
    missing(
        "this process has no CAP_SYS_RESOURCE",
        "give it to the process, or grow the file system while it is not mounted",
    )
}

fn missing(what: &str, remedy: &str) -> Support {
    Support::Missing { what: what.to_owned(), remedy: remedy.to_owned() }
}

/// The bit of the capability, as capabilities(7) numbers them.
const CAP_SYS_RESOURCE: u64 = 1 << 24;
