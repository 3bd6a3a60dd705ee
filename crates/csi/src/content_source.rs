//! What a new volume is a copy of.

use strongroom::volumes::Source;
use tonic::Status;

use crate::messages::{SnapshotSource, VolumeContentSource, VolumeSource};

/// Reads the source that a request names, if it names one.
///
/// # Errors
///
/// `NOT_FOUND` when no volume or snapshot can have the name.
pub(crate) fn read(source: Option<&VolumeContentSource>) -> Result<Option<Source>, Status> {
    let Some(source) = source else { return Ok(None) };
    let unknown = |name: &str| Status::not_found(format!("there is no source {name:?}"));
    match (&source.snapshot, &source.volume) {
        (Some(snapshot), None) => {
            let id = snapshot.snapshot_id.parse().map_err(|_| unknown(&snapshot.snapshot_id))?;
            Ok(Some(Source::Snapshot(id)))
        }
        (None, Some(volume)) => {
            let id = volume.volume_id.parse().map_err(|_| unknown(&volume.volume_id))?;
            Ok(Some(Source::Volume(id)))
        }
        _ => {
            Err(Status::invalid_argument("volume_content_source names not one snapshot or volume"))
        }
    }
}

/// Returns a source as CSI writes it.
pub(crate) fn write(source: &Source) -> VolumeContentSource {
    match source {
        Source::Volume(id) => VolumeContentSource {
            volume: Some(VolumeSource { volume_id: id.to_string() }),
            snapshot: None,
        },
        Source::Snapshot(id) => VolumeContentSource {
            snapshot: Some(SnapshotSource { snapshot_id: id.to_string() }),
            volume: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_read_back() {
        let sources =
            [Source::Volume("a".parse().unwrap()), Source::Snapshot("b".parse().unwrap())];
        for source in sources {
            assert_eq!(read(Some(&write(&source))).unwrap(), Some(source));
        }
        assert_eq!(read(None).unwrap(), None);
    }

    #[test]
    fn a_source_that_cannot_be_is_refused() {
        let code = |source| read(Some(&source)).unwrap_err().code();
        assert_eq!(code(VolumeContentSource::default()), tonic::Code::InvalidArgument);
        let snapshot = Some(SnapshotSource { snapshot_id: "../a".to_owned() });
        let source = VolumeContentSource { snapshot, volume: None };
        assert_eq!(code(source), tonic::Code::NotFound);
    }
}
