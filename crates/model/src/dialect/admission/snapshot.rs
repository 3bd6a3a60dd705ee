//! VolumeSnapshots and their classes.

use super::Reason;
use super::review::Review;
use crate::dialect::kubernetes::{
    SnapshotKind, SnapshotSource, VolumeSnapshot, VolumeSnapshotClass,
};

pub(super) fn review(review: &mut Review<'_>) {
    review.fixed(&["spec", "source"], "what a snapshot is of is immutable");
    review.fixed_once_set(&["spec", "volumeSnapshotClassName"], "the class is immutable");
    let Some(snapshot) = review.view::<VolumeSnapshot>() else { return };
    if let SnapshotSource::Content(_) = snapshot.source {
        let message = "there are no VolumeSnapshotContents here: name a claim in \
                       persistentVolumeClaimName";
        let path = ["spec", "source", "volumeSnapshotContentName"];
        review.note(&path, Reason::NotSupported, message);
    }
}

pub(super) fn review_class(review: &mut Review<'_>) {
    review.fixed(&["driver"], "the driver of a class is immutable");
    let Some(class) = review.view::<VolumeSnapshotClass>() else { return };
    if class.kind != SnapshotKind::Snapshot {
        let message = "snapshots are kept beside their volumes here, as with type: snap";
        review.warn(&["parameters", "type"], message);
    }
}
