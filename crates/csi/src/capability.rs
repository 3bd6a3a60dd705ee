//! How somebody wants to use a volume.

use strongroom_model::FileSystem;
use tonic::Status;

use crate::messages::VolumeCapability;

/// A use that volumes of this driver can be put to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capability {
    pub(crate) access: AccessType,
    pub(crate) mode: AccessMode,
}

/// Through what a volume is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AccessType {
    /// As a block device.
    Block,
    /// As a mounted file system.
    Mount {
        /// Which; `None` where nobody said.
        file_system: Option<FileSystem>,
        /// Options of the mount.
        flags: Vec<String>,
    },
}

/// Who may use a volume at once, on its one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessMode {
    /// Whoever is on the node may write.
    Writer,
    /// Nobody may write.
    ReaderOnly,
    /// It may be published at one place.
    SingleWriter,
    /// It may be published at many places.
    MultiWriter,
}

impl Capability {
    /// Reads the capability of a request.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` with the reason.
    pub(crate) fn read(capability: Option<&VolumeCapability>) -> Result<Self, Status> {
        let capability =
            capability.ok_or_else(|| Status::invalid_argument("volume_capability is missing"))?;
        Self::of(capability).map_err(Status::invalid_argument)
    }

    /// Reads the capabilities of a request that must have some.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` with the reason.
    pub(crate) fn read_all(capabilities: &[VolumeCapability]) -> Result<Vec<Self>, Status> {
        if capabilities.is_empty() {
            return Err(Status::invalid_argument("volume_capabilities are missing"));
        }
        capabilities.iter().map(|capability| Self::read(Some(capability))).collect()
    }

    /// Reads a capability.
    ///
    /// # Errors
    ///
    /// Why no volume of this driver has it.
    pub(crate) fn of(capability: &VolumeCapability) -> Result<Self, String> {
        let access = match (&capability.block, &capability.mount) {
            (Some(_), None) => AccessType::Block,
            (None, Some(mount)) => {
                if !mount.volume_mount_group.is_empty() {
                    return Err("volume_mount_group is not supported: use fsGroup".to_owned());
                }
                AccessType::Mount {
                    file_system: file_system(&mount.fs_type)?,
                    flags: flags(&mount.mount_flags)?,
                }
            }
            (None, None) => return Err("access type is missing: say block or mount".to_owned()),
            (Some(_), Some(_)) => return Err("access type is both block and mount".to_owned()),
        };
        let mode = capability.access_mode.as_ref().map_or(0, |mode| mode.mode);
        Ok(Self { access, mode: access_mode(mode)? })
    }

    /// Returns the file system that is asked for, and `None` for a block device.
    pub(crate) fn file_system(&self) -> Option<Option<FileSystem>> {
        match &self.access {
            AccessType::Block => None,
            AccessType::Mount { file_system, .. } => Some(*file_system),
        }
    }
}

fn access_mode(mode: i32) -> Result<AccessMode, String> {
    match mode {
        1 => Ok(AccessMode::Writer),
        2 => Ok(AccessMode::ReaderOnly),
        3..=5 => {
            Err("access mode is for several nodes (ReadWriteMany, ReadOnlyMany), and a volume of \
                      this pool is on one node alone: use ReadWriteOnce"
                .to_owned())
        }
        6 => Ok(AccessMode::SingleWriter),
        7 => Ok(AccessMode::MultiWriter),
        _ => Err("access mode is missing or unknown".to_owned()),
    }
}

fn file_system(name: &str) -> Result<Option<FileSystem>, String> {
    match name {
        "" => Ok(None),
        name => name.parse().map(Some).map_err(|error: strongroom_model::Error| error.to_string()),
    }
}

/// Takes the options of a mount, which kernels and logs see.
fn flags(flags: &[String]) -> Result<Vec<String>, String> {
    let fits = |flag: &String| {
        (1..=LONGEST_FLAG).contains(&flag.len()) && flag.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match flags.iter().find(|flag| !fits(flag)) {
        Some(flag) => Err(format!("mount flag {flag:?} is not possible")),
        None => Ok(flags.to_vec()),
    }
}

/// How long an option of a mount may be, in bytes.
const LONGEST_FLAG: usize = 256;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::messages::{AccessMode as Mode, BlockVolume, MountVolume};

    /// Returns a capability to mount.
    pub(crate) fn mount(fs_type: &str, mode: i32) -> VolumeCapability {
        let mount = MountVolume { fs_type: fs_type.to_owned(), ..MountVolume::default() };
        VolumeCapability { mount: Some(mount), access_mode: Some(Mode { mode }), block: None }
    }

    #[test]
    fn what_one_node_can_do_is_taken() {
        for (number, mode) in [
            (1, AccessMode::Writer),
            (2, AccessMode::ReaderOnly),
            (6, AccessMode::SingleWriter),
            (7, AccessMode::MultiWriter),
        ] {
            let capability = Capability::of(&mount("xfs", number)).unwrap();
            assert_eq!(capability.mode, mode);
            assert_eq!(capability.file_system(), Some(Some(FileSystem::Xfs)));
        }
        let block = VolumeCapability { mount: None, block: Some(BlockVolume {}), ..mount("", 1) };
        assert_eq!(Capability::of(&block).unwrap().access, AccessType::Block);
    }

    #[test]
    fn what_it_cannot_do_is_refused_with_the_reason() {
        let refusal = |capability| Capability::of(&capability).unwrap_err();
        for mode in 3..=5 {
            assert!(refusal(mount("", mode)).contains("one node alone"));
        }
        for mode in [0, 8, -1] {
            assert!(refusal(mount("", mode)).contains("missing or unknown"));
        }
        assert!(refusal(mount("ntfs", 1)).contains("ext4"));
        let both = VolumeCapability { block: Some(BlockVolume {}), ..mount("", 1) };
        assert!(refusal(both).contains("both"));
        assert!(refusal(VolumeCapability::default()).contains("access type is missing"));
        let mut flagged = mount("", 1);
        flagged.mount.as_mut().unwrap().mount_flags = vec!["a b".to_owned()];
        assert!(refusal(flagged).contains("mount flag \"a b\""));
        assert_eq!(Capability::read(None).unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
