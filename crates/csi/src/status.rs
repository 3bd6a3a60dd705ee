//! The one table from what went wrong to the codes of gRPC, as CSI gives them their meaning.
//!
//! | what | code |
//! |---|---|
//! | a key or secret is missing, or the request makes no sense | `INVALID_ARGUMENT` |
//! | the key that came opens nothing | `UNAUTHENTICATED` |
//! | the KMS does not let us | `PERMISSION_DENIED` |
//! | the KMS is not there | `UNAVAILABLE` |
//! | there is no such volume, snapshot or source | `NOT_FOUND` |
//! | there is another of that name | `ALREADY_EXISTS` |
//! | another call or process is at work on it | `ABORTED` |
//! | it is used, not attached, or its device bears what nobody may overwrite | `FAILED_PRECONDITION` |
//! | its header or file system is gone, or its device is too short | `DATA_LOSS` |
//! | no volume can have that size | `OUT_OF_RANGE` |
//! | the pool is full | `RESOURCE_EXHAUSTED` |
//! | a file or device failed | `INTERNAL` |

use std::error::Error as _;

use strongroom::volumes::VolumeProblem;
use strongroom::{Error, ErrorKind};
use tonic::{Code, Status};

/// Returns what a caller is told of an error: what happened, why, and what to do about it.
pub(crate) fn of(error: &Error) -> Status {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Transparent errors say the same as what they hold.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    if let Some(hint) = hint(error) {
        text.push_str(" (");
        text.push_str(&hint);
        text.push(')');
    }
    Status::new(code(error), text)
}

fn code(error: &Error) -> Code {
    match error {
        Error::Volume { problem, .. } => code_of_problem(problem),
        Error::Pool(error) if error.kind() == strongroom_pool::ErrorKind::NoSpace => {
            Code::ResourceExhausted
        }
        Error::Pool(strongroom_pool::Error::Size { .. }) => Code::OutOfRange,
        // Somebody holds it, whom the next attempt may not find any more.
        Error::Attach(error) if error.kind() == strongroom_attach::ErrorKind::Busy => {
            Code::FailedPrecondition
        }
        Error::Attach(error) if error.kind() == strongroom_attach::ErrorKind::Unsupported => {
            Code::FailedPrecondition
        }
        // A key that the KMS lost is not a volume that is not there.
        Error::Kms(error) if error.kind() == strongroom_kms::ErrorKind::NotFound => {
            Code::FailedPrecondition
        }
        Error::Kms(error) if error.kind() == strongroom_kms::ErrorKind::Corrupt => Code::DataLoss,
        error => code_of_kind(error.kind()),
    }
}

fn code_of_kind(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::Busy | ErrorKind::Interrupted => Code::Aborted,
        ErrorKind::Image => Code::DataLoss,
        ErrorKind::KmsDenied => Code::PermissionDenied,
        ErrorKind::KmsUnavailable => Code::Unavailable,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Request => Code::InvalidArgument,
        ErrorKind::WrongPassphrase => Code::Unauthenticated,
        _ => Code::Internal,
    }
}

fn code_of_problem(problem: &VolumeProblem) -> Code {
    match problem {
        VolumeProblem::InUse { .. }
        | VolumeProblem::NotAttached
        | VolumeProblem::NotFormatted
        | VolumeProblem::NoWay { .. }
        | VolumeProblem::ForeignSignature { .. }
        | VolumeProblem::Written
        | VolumeProblem::CatalogBehind { .. }
        | VolumeProblem::OtherFileSystem { .. } => Code::FailedPrecondition,
        VolumeProblem::Size { .. } => Code::OutOfRange,
        problem => code_of_kind(problem.kind()),
    }
}

/// Returns what to do about an error, where there is something.
fn hint(error: &Error) -> Option<String> {
    let hint = match error {
        Error::Kms(error) => return error.hint().map(str::to_owned),
        Error::Attach(error) => return error.hint().map(str::to_owned),
        Error::Volume { problem, .. } => hint_of_problem(problem)?,
        error if error.kind() == ErrorKind::WrongPassphrase => {
            "the Secret that the StorageClass names has another key than the one that the volume was \
             made with; mend it, and the volume is staged by itself"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn hint_of_problem(problem: &VolumeProblem) -> Option<&'static str> {
    Some(match problem {
        VolumeProblem::NoKey { .. } => {
            "the StorageClass names the Secret with csi.storage.k8s.io/node-stage-secret-name and \
             csi.storage.k8s.io/node-stage-secret-namespace"
        }
        VolumeProblem::ForeignSignature { .. } | VolumeProblem::Written => {
            "nothing was overwritten; see where the data comes from before anything else"
        }
        VolumeProblem::HeaderGone { .. } | VolumeProblem::OtherHeader { .. } => {
            "nothing was overwritten; put a copy of its header back with `strongroom luks header-restore`"
        }
        VolumeProblem::Short { .. } => "nothing was overwritten; see what has cut it",
        VolumeProblem::Mixed { .. } => {
            "use a StorageClass with the encryption of the source, or copy the data in a pod"
        }
        VolumeProblem::OtherFileSystem { .. } => {
            "name the file system that it has with csi.storage.k8s.io/fstype"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(problem: VolumeProblem) -> Status {
        of(&Error::Volume { id: "pvc-1".to_owned(), problem: Box::new(problem) })
    }

    #[test]
    fn each_problem_of_a_volume_has_its_code_and_names_the_volume() {
        let found = || "ext4".to_owned();
        let cases = [
            (VolumeProblem::NotFound, Code::NotFound),
            (VolumeProblem::NotAttached, Code::FailedPrecondition),
            (VolumeProblem::InUse { by: found() }, Code::FailedPrecondition),
            (VolumeProblem::Exists { difference: found() }, Code::AlreadyExists),
            (VolumeProblem::NoKey { missing: "passphrase" }, Code::InvalidArgument),
            (VolumeProblem::Size { size: 1, reason: found() }, Code::OutOfRange),
            (VolumeProblem::ForeignSignature { found: found() }, Code::FailedPrecondition),
            (VolumeProblem::Written, Code::FailedPrecondition),
            (VolumeProblem::HeaderGone { uuid: found(), found: None }, Code::DataLoss),
            (VolumeProblem::OtherHeader { uuid: found(), found: found() }, Code::DataLoss),
            (VolumeProblem::Short { recorded: 2, found: 1 }, Code::DataLoss),
            (VolumeProblem::NoFileSystem { found: found() }, Code::DataLoss),
        ];
        for (problem, code) in cases {
            let status = told(problem.clone());
            assert_eq!(status.code(), code, "{problem:?}");
            assert!(status.message().starts_with("volume pvc-1 "), "{status:?}");
        }
        assert!(
            told(VolumeProblem::NoKey { missing: "passphrase" }).message().contains("secret-name")
        );
    }

    #[test]
    fn keys_and_their_managers_have_codes_of_their_own() {
        let luks = |source| Error::Luks { label: "pvc-1".to_owned(), source };
        let wrong = of(&luks(strongroom_luks::Error::WrongPassphrase { skipped: Vec::new() }));
        assert_eq!(wrong.code(), Code::Unauthenticated);
        assert!(wrong.message().contains("mend it"), "{wrong:?}");
        use strongroom_kms::ErrorKind as Kms;
        let cases = [
            (Kms::Unavailable, Code::Unavailable),
            (Kms::Denied, Code::PermissionDenied),
            (Kms::NotFound, Code::FailedPrecondition),
            (Kms::Corrupt, Code::DataLoss),
            (Kms::Misconfigured, Code::InvalidArgument),
        ];
        for (kind, code) in cases {
            let error = strongroom_kms::Error::new(kind, "transit", "no").hinted("do this");
            let status = of(&Error::from(error));
            assert_eq!((status.code(), status.message()), (code, "transit: no (do this)"));
        }
    }
}
