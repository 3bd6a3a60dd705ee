//! Pure. What the reasons mean that servers give for a failure (KMIP 2.1, section 11.49; earlier
//! versions have fewer of them).

use super::messages::Failure;
use crate::ErrorKind;
use crate::error::Outage;

/// What was asked for when it failed: some reasons mean different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To encrypt.
    Encrypt,
    /// To decrypt what an envelope holds.
    Decrypt,
    /// Anything else.
    Other,
}

impl Failure {
    /// Returns what a caller can act on.
    pub(crate) fn kind(&self, asked: Asked) -> ErrorKind {
        let Some(reason) = self.reason else { return ErrorKind::Unavailable };
        match reason {
            ITEM_NOT_FOUND | OBJECT_NOT_FOUND | OBJECT_DESTROYED => ErrorKind::NotFound,
            AUTHENTICATION_NOT_SUCCESSFUL
            | ILLEGAL_OPERATION
            | PERMISSION_DENIED
            | OBJECT_ARCHIVED
            | ATTESTATION_REQUIRED
            | ATTESTATION_FAILED
            | USAGE_LIMIT_EXCEEDED
            | ILLEGAL_OBJECT_TYPE
            | INCOMPATIBLE_USAGE_MASK
            | NOT_AUTHORISED
            | WRONG_LIFECYCLE_STATE => ErrorKind::Denied,
            RESPONSE_TOO_LARGE
            | CANCELED
            | INTERNAL_SERVER_ERROR
            | SERVER_LIMIT_EXCEEDED
            | STORAGE_UNAVAILABLE => ErrorKind::Unavailable,
            // Servers have no word for ciphertext that does not authenticate.
            GENERAL_FAILURE | CRYPTOGRAPHIC_FAILURE | INVALID_FIELD | MISSING_IV | CODEC_ERROR
                if asked == Asked::Decrypt =>
            {
                ErrorKind::Corrupt
            }
            GENERAL_FAILURE => ErrorKind::Unavailable,
            _ => ErrorKind::Misconfigured,
        }
    }

    /// Returns whether it may mean that the server does not encrypt in the way it was asked to, so
    /// that another way may do.
    pub(crate) fn refuses_the_cipher(&self) -> bool {
        matches!(
            self.reason,
            Some(
                INVALID_MESSAGE
                    | OPERATION_NOT_SUPPORTED
                    | MISSING_DATA
                    | INVALID_FIELD
                    | FEATURE_NOT_SUPPORTED
                    | CRYPTOGRAPHIC_FAILURE
                    | BAD_CRYPTOGRAPHIC_PARAMETERS
                    | MISSING_IV
                    | UNKNOWN_ENUMERATION
                    | UNKNOWN_TAG
                    | UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS
                    | GENERAL_FAILURE
            )
        )
    }

    /// Returns whether it may mean anything.
    pub(crate) fn says_nothing(&self) -> bool {
        self.reason == Some(GENERAL_FAILURE)
    }

    /// Returns whether it may mean that the server does not speak this version of the protocol.
    pub(crate) fn refuses_the_version(&self) -> bool {
        matches!(self.reason, Some(INVALID_MESSAGE | UNSUPPORTED_PROTOCOL_VERSION))
    }

    /// Returns what it says of the server as a whole.
    pub(crate) fn outage(&self) -> Outage {
        if self.may_pass() { Outage::Server } else { Outage::None }
    }

    /// Returns whether it is trouble of the server that may pass.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self.reason,
            Some(INTERNAL_SERVER_ERROR | SERVER_LIMIT_EXCEEDED | STORAGE_UNAVAILABLE)
        )
    }

    /// Returns whether the server does not know the operation.
    pub(crate) fn refuses_the_operation(&self) -> bool {
        self.reason == Some(OPERATION_NOT_SUPPORTED)
    }

    /// Returns whether the server did not accept the client's certificate.
    pub(crate) fn refuses_the_client(&self) -> bool {
        matches!(self.reason, Some(AUTHENTICATION_NOT_SUCCESSFUL | NOT_AUTHORISED))
    }
}

/// Returns what the specification calls a reason, in one word.
pub(crate) fn name(reason: u32) -> Option<&'static str> {
    NAMES.iter().find(|(number, _)| *number == reason).map(|(_, name)| *name)
}

const ITEM_NOT_FOUND: u32 = 0x01;
const RESPONSE_TOO_LARGE: u32 = 0x02;
const AUTHENTICATION_NOT_SUCCESSFUL: u32 = 0x03;
const INVALID_MESSAGE: u32 = 0x04;
const OPERATION_NOT_SUPPORTED: u32 = 0x05;
const MISSING_DATA: u32 = 0x06;
const INVALID_FIELD: u32 = 0x07;
const FEATURE_NOT_SUPPORTED: u32 = 0x08;
const CANCELED: u32 = 0x09;
const CRYPTOGRAPHIC_FAILURE: u32 = 0x0A;
const ILLEGAL_OPERATION: u32 = 0x0B;
const PERMISSION_DENIED: u32 = 0x0C;
const OBJECT_ARCHIVED: u32 = 0x0D;
const ATTESTATION_REQUIRED: u32 = 0x14;
const ATTESTATION_FAILED: u32 = 0x15;
const USAGE_LIMIT_EXCEEDED: u32 = 0x1A;
const BAD_CRYPTOGRAPHIC_PARAMETERS: u32 = 0x24;
const CODEC_ERROR: u32 = 0x26;
const ILLEGAL_OBJECT_TYPE: u32 = 0x28;
const INCOMPATIBLE_USAGE_MASK: u32 = 0x29;
const INTERNAL_SERVER_ERROR: u32 = 0x2A;
const MISSING_IV: u32 = 0x34;
const OBJECT_DESTROYED: u32 = 0x36;
const OBJECT_NOT_FOUND: u32 = 0x37;
const NOT_AUTHORISED: u32 = 0x39;
const SERVER_LIMIT_EXCEEDED: u32 = 0x3A;
const UNKNOWN_ENUMERATION: u32 = 0x3B;
const UNKNOWN_TAG: u32 = 0x3D;
const UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS: u32 = 0x3E;
const UNSUPPORTED_PROTOCOL_VERSION: u32 = 0x3F;
const WRONG_LIFECYCLE_STATE: u32 = 0x43;
const STORAGE_UNAVAILABLE: u32 = 0x44;
const GENERAL_FAILURE: u32 = 0x100;

const NAMES: &[(u32, &str)] = &[
    (ITEM_NOT_FOUND, "ItemNotFound"),
    (RESPONSE_TOO_LARGE, "ResponseTooLarge"),
    (AUTHENTICATION_NOT_SUCCESSFUL, "AuthenticationNotSuccessful"),
    (INVALID_MESSAGE, "InvalidMessage"),
    (OPERATION_NOT_SUPPORTED, "OperationNotSupported"),
    (MISSING_DATA, "MissingData"),
    (INVALID_FIELD, "InvalidField"),
    (FEATURE_NOT_SUPPORTED, "FeatureNotSupported"),
    (CANCELED, "OperationCanceledByRequester"),
    (CRYPTOGRAPHIC_FAILURE, "CryptographicFailure"),
    (ILLEGAL_OPERATION, "IllegalOperation"),
    (PERMISSION_DENIED, "PermissionDenied"),
    (OBJECT_ARCHIVED, "ObjectArchived"),
    (ATTESTATION_REQUIRED, "AttestationRequired"),
    (ATTESTATION_FAILED, "AttestationFailed"),
    (USAGE_LIMIT_EXCEEDED, "UsageLimitExceeded"),
    (BAD_CRYPTOGRAPHIC_PARAMETERS, "BadCryptographicParameters"),
    (CODEC_ERROR, "CodecError"),
    (ILLEGAL_OBJECT_TYPE, "IllegalObjectType"),
    (INCOMPATIBLE_USAGE_MASK, "IncompatibleCryptographicUsageMask"),
    (INTERNAL_SERVER_ERROR, "InternalServerError"),
    (MISSING_IV, "MissingInitializationVector"),
    (OBJECT_DESTROYED, "ObjectDestroyed"),
    (OBJECT_NOT_FOUND, "ObjectNotFound"),
    (NOT_AUTHORISED, "NotAuthorised"),
    (SERVER_LIMIT_EXCEEDED, "ServerLimitExceeded"),
    (UNKNOWN_ENUMERATION, "UnknownEnumeration"),
    (UNKNOWN_TAG, "UnknownTag"),
    (UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS, "UnsupportedCryptographicParameters"),
    (UNSUPPORTED_PROTOCOL_VERSION, "UnsupportedProtocolVersion"),
    (WRONG_LIFECYCLE_STATE, "WrongKeyLifecycleState"),
    (STORAGE_UNAVAILABLE, "ProtectionStorageUnavailable"),
    (GENERAL_FAILURE, "GeneralFailure"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(reason: u32) -> Failure {
        Failure { status: 1, reason: Some(reason), message: None }
    }

    #[test]
    fn reasons_of_both_servers_mean_the_same() {
        // PyKMIP, Cosmian KMS.
        for missing in [0x01, 0x37] {
            assert_eq!(failure(missing).kind(Asked::Decrypt), ErrorKind::NotFound);
        }
        for altered in [0x100, 0x0A] {
            assert_eq!(failure(altered).kind(Asked::Decrypt), ErrorKind::Corrupt);
        }
        for locked in [0x0C, 0x43] {
            assert_eq!(failure(locked).kind(Asked::Encrypt), ErrorKind::Denied);
        }
    }

    #[test]
    fn a_server_in_trouble_may_be_asked_again() {
        assert_eq!(failure(0x2A).kind(Asked::Decrypt), ErrorKind::Unavailable);
        assert_eq!(failure(0x100).kind(Asked::Encrypt), ErrorKind::Unavailable);
        let silent = Failure { status: 1, reason: None, message: None };
        assert_eq!(silent.kind(Asked::Other), ErrorKind::Unavailable);
    }

    #[test]
    fn no_reason_stands_twice_in_the_table() {
        assert!(NAMES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
