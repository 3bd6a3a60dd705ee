//! What the return values of a module mean (PKCS #11 3.1, section 5.1).

use cryptoki::error::{Error as CryptokiError, RvError};

use crate::error::Outage;
use crate::{Error, ErrorKind};

/// Returns what happened.
pub(super) fn error(error: CryptokiError, label: &str) -> Error {
    let CryptokiError::Pkcs11(value, function) = error else {
        return Error::new(
            ErrorKind::Misconfigured,
            label,
            "the module does not do what it should",
        )
        .with_source(error);
    };
    let (kind, problem, hint) = meaning(value);
    let outage = match value {
        RvError::TokenNotPresent | RvError::DeviceRemoved => Outage::Absence,
        _ => Outage::None,
    };
    let error = Error::new(kind, label, problem)
        .of_outage(outage)
        // The library's own words are whole paragraphs of the specification.
        .with_source(format!("C_{function} returned {value:?}"));
    match hint {
        Some(hint) => error.hinted(hint),
        None => error,
    }
}

/// Returns whether the sessions are gone, and new ones may work.
pub(super) fn lost_session(error: &CryptokiError) -> bool {
    use RvError as Value;

    matches!(
        error,
        CryptokiError::Pkcs11(
            Value::SessionHandleInvalid
                | Value::SessionClosed
                | Value::UserNotLoggedIn
                | Value::DeviceRemoved
                | Value::TokenNotPresent
                | Value::CryptokiNotInitialized,
            _
        )
    )
}

/// Returns whether a module has merely said that it did not work. When it decrypts, that may mean
/// that the ciphertext was altered.
pub(super) fn is_vague(error: &CryptokiError) -> bool {
    use RvError as Value;

    matches!(
        error,
        CryptokiError::Pkcs11(
            Value::GeneralError
                | Value::FunctionFailed
                | Value::ArgumentsBad
                | Value::MechanismParamInvalid
                | Value::DeviceError,
            _
        )
    )
}

/// Returns whether a module has found fault with the bytes that it was to decrypt.
pub(super) fn is_about_data(error: &CryptokiError) -> bool {
    matches!(error, CryptokiError::Pkcs11(value, _) if meaning(*value).0 == ErrorKind::Corrupt)
}

/// Returns whether another mechanism may work.
pub(super) fn is_about_mechanism(error: &CryptokiError) -> bool {
    use RvError as Value;

    matches!(
        error,
        CryptokiError::Pkcs11(Value::MechanismInvalid | Value::MechanismParamInvalid, _)
    )
}

fn meaning(value: RvError) -> (ErrorKind, &'static str, Option<&'static str>) {
    use ErrorKind::{Corrupt, Denied, Misconfigured, NotFound, Unavailable};
    use RvError as Value;

    match value {
        Value::PinIncorrect | Value::PinInvalid | Value::PinLenRange => (
            Denied,
            "the token does not take the PIN",
            Some("correct the file of --kms-token-file first: a few wrong tries lock the token"),
        ),
        Value::PinExpired => (
            Denied,
            "the PIN has expired",
            Some("set a new one with the token's own tool, and put it into the --kms-token-file"),
        ),
        Value::PinLocked => (
            Denied,
            "the PIN is locked after too many wrong tries",
            Some("have the token's security officer set a new one"),
        ),
        Value::UserPinNotInitialized => (
            Denied,
            "the token has no PIN for its user yet",
            Some("have the token's security officer set one"),
        ),
        Value::UserNotLoggedIn => (
            Denied,
            "the token wants a PIN",
            Some("put it into a file and name that with --kms-token-file"),
        ),
        Value::UserAnotherAlreadyLoggedIn | Value::UserTooManyTypes => {
            (Denied, "somebody else is logged in to the token", None)
        }
        Value::KeyFunctionNotPermitted | Value::ActionProhibited | Value::FunctionRejected => (
            Denied,
            "the key may not be used for that",
            Some("it needs CKA_ENCRYPT to wrap and CKA_DECRYPT to unwrap"),
        ),
        Value::KeyHandleInvalid | Value::ObjectHandleInvalid => {
            (NotFound, "the key is not there any more", None)
        }
        Value::EncryptedDataInvalid
        | Value::EncryptedDataLenRange
        | Value::DataInvalid
        | Value::DataLenRange => (Corrupt, ALTERED, None),
        Value::SlotIdInvalid
        | Value::ArgumentsBad
        | Value::AttributeTypeInvalid
        | Value::AttributeValueInvalid
        | Value::CantLock
        | Value::FunctionNotSupported
        | Value::KeySizeRange
        | Value::KeyTypeInconsistent
        | Value::LibraryLoadFailed
        | Value::MechanismInvalid
        | Value::MechanismParamInvalid
        | Value::NeedToCreateThreads
        | Value::TemplateIncomplete
        | Value::TemplateInconsistent => {
            (Misconfigured, "the token cannot do that with this key", None)
        }
        Value::TokenNotPresent | Value::DeviceRemoved | Value::TokenNotRecognized => {
            (Unavailable, "the token is not there", Some("plug it in"))
        }
        Value::SessionCount => (Unavailable, "the token has no session left", None),
        _ => (Unavailable, "the token does not work just now", None),
    }
}

/// What is said of a ciphertext that does not decrypt.
pub(super) const ALTERED: &str = "the envelope was altered: the token does not decrypt it";
