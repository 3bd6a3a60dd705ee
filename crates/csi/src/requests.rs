//! The fields that many requests have.

use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use strongroom::hexadecimal;
use strongroom_model::{SnapshotId, VolumeId};
use tonic::Status;

use crate::messages::Map;

/// Returns the identifier for a new volume of this name: the name itself where a volume can bear it.
///
/// # Errors
///
/// `INVALID_ARGUMENT` when there is no name, or it is longer than CSI allows.
pub(crate) fn new_volume_id(name: &str) -> Result<VolumeId, Status> {
    check_text("name", name)?;
    Ok(name.parse().unwrap_or_else(|_| {
        format!("v-{}", digest(name)).parse().expect("letters and digits make an identifier")
    }))
}

/// Returns the identifier for a new snapshot of this name, as [`new_volume_id`] does.
///
/// # Errors
///
/// Those of [`new_volume_id`].
pub(crate) fn new_snapshot_id(name: &str) -> Result<SnapshotId, Status> {
    check_text("name", name)?;
    Ok(name.parse().unwrap_or_else(|_| {
        format!("s-{}", digest(name)).parse().expect("letters and digits make an identifier")
    }))
}

/// Reads the identifier of a volume; `None` for one that no volume can have.
///
/// # Errors
///
/// `INVALID_ARGUMENT` when it is missing, or longer than CSI allows.
pub(crate) fn volume_id(text: &str) -> Result<Option<VolumeId>, Status> {
    check_text("volume_id", text)?;
    Ok(text.parse().ok())
}

/// Reads the identifier of a volume that must be there.
///
/// # Errors
///
/// `NOT_FOUND` for one that no volume can have; otherwise those of [`volume_id`].
pub(crate) fn known_volume_id(text: &str) -> Result<VolumeId, Status> {
    volume_id(text)?.ok_or_else(|| Status::not_found(format!("there is no volume {text:?}")))
}

/// Reads the identifier of a snapshot; `None` for one that no snapshot can have.
///
/// # Errors
///
/// `INVALID_ARGUMENT` when it is missing, or longer than CSI allows.
pub(crate) fn snapshot_id(text: &str) -> Result<Option<SnapshotId>, Status> {
    check_text("snapshot_id", text)?;
    Ok(text.parse().ok())
}

/// Reads a path of this machine: whole, and leading nowhere but down.
///
/// # Errors
///
/// `INVALID_ARGUMENT` when it is missing or no such path.
pub(crate) fn path(field: &str, text: &str) -> Result<PathBuf, Status> {
    if text.is_empty() {
        return Err(Status::invalid_argument(format!("{field} is missing")));
    }
    let path = Path::new(text);
    let down =
        path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !down || text.len() > LONGEST_PATH || text.contains('\0') {
        return Err(Status::invalid_argument(format!("{field} is no whole path without ..")));
    }
    Ok(path.to_owned())
}

/// Reads a path that is only compared with those where a volume appears: any other is one where it does not.
///
/// # Errors
///
/// `INVALID_ARGUMENT` when it is missing.
pub(crate) fn place(field: &str, text: &str) -> Result<PathBuf, Status> {
    match text {
        "" => Err(Status::invalid_argument(format!("{field} is missing"))),
        text => Ok(PathBuf::from(text)),
    }
}

/// Refuses a map that is larger than CSI allows.
///
/// # Errors
///
/// `INVALID_ARGUMENT`.
pub(crate) fn check_map(field: &str, map: &Map) -> Result<(), Status> {
    let len: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    if len > LARGEST_MAP {
        let problem = format!("{field} has {len} bytes, the limit is {LARGEST_MAP}");
        return Err(Status::invalid_argument(problem));
    }
    Ok(())
}

fn check_text(field: &str, text: &str) -> Result<(), Status> {
    if text.is_empty() {
        return Err(Status::invalid_argument(format!("{field} is missing")));
    }
    if text.len() > LONGEST {
        let problem = format!("{field} has {} bytes, the limit is {LONGEST}", text.len());
        return Err(Status::invalid_argument(problem));
    }
    Ok(())
}

/// Returns as much of the SHA-256 of a name as tells all names apart.
fn digest(name: &str) -> String {
    hexadecimal(&Sha256::digest(name)[..20])
}

/// What CSI allows for a text, in bytes.
const LONGEST: usize = 128;

/// What CSI allows for a map, in bytes.
const LARGEST_MAP: usize = 4096;

/// What Linux allows for a path, with the byte at its end.
const LONGEST_PATH: usize = 4095;

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_name_is_the_identifier_where_it_can_be() {
        assert_eq!(new_volume_id("pvc-8d1a").unwrap().as_str(), "pvc-8d1a");
        let longest = "x".repeat(128);
        assert_eq!(new_volume_id(&longest).unwrap().as_str(), longest);
        let id = new_volume_id("../../etc/ü").unwrap();
        assert!(id.as_str().starts_with("v-") && id.as_str().len() == 42, "{id}");
        assert_eq!(new_volume_id("../../etc/ü").unwrap(), id);
        assert_ne!(new_volume_id("../../etc/u").unwrap(), id);
        assert!(new_snapshot_id("a b").unwrap().as_str().starts_with("s-"));
    }

    #[test]
    fn identifiers_that_nobody_has_are_told_from_those_that_cannot_be() {
        assert_eq!(volume_id("").unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(volume_id(&"x".repeat(129)).unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(volume_id("a/../b").unwrap(), None);
        assert_eq!(known_volume_id("a\0").unwrap_err().code(), Code::NotFound);
    }

    #[test]
    fn paths_lead_down() {
        assert!(path("target_path", "/var/lib/kubelet/pods/a").is_ok());
        for bad in ["", "var", "/a/../b", "/a\0b", &format!("/{}", "x".repeat(5000))] {
            assert_eq!(
                path("target_path", bad).unwrap_err().code(),
                Code::InvalidArgument,
                "{bad}"
            );
        }
    }

    #[test]
    fn a_map_has_an_end() {
        let map = Map::from([("a".to_owned(), "x".repeat(5000))]);
        assert!(check_map("parameters", &map).is_err());
    }
}
