//! The messages of CSI 1.12 (package `csi.v1`), as far as they are used here: what stands in the other
//! fields of a request is skipped when it is read.
//!
//! Names and numbers of the fields are the specification's, which says what they mean.
#![allow(missing_docs)] // Of the fields; see above.

use std::collections::BTreeMap;

/// A map of texts.
pub type Map = BTreeMap<String, String>;

/// Defines messages.
macro_rules! messages {
    ($(#[doc = $doc:literal] $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            #[doc = $doc]
            #[derive(Clone, PartialEq, prost::Message)]
            pub struct $name {
                $($(#[$attribute])* pub $field: $type,)*
            }
        )*
    };
}

/// Defines messages that carry secrets, in a field of that name. Nothing of them is ever printed.
macro_rules! secret_messages {
    ($(#[doc = $doc:literal] $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            #[doc = $doc]
            #[derive(Clone, PartialEq, prost::Message)]
            #[prost(skip_debug)]
            pub struct $name {
                $($(#[$attribute])* pub $field: $type,)*
            }

            impl std::fmt::Debug for $name {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.debug_struct(stringify!($name)).finish_non_exhaustive()
                }
            }

            impl $name {
                /// Takes the secrets out: they are wiped when what is returned is dropped.
                pub(crate) fn take_secrets(&mut self) -> crate::secrets::Secrets {
                    crate::secrets::Secrets::new(std::mem::take(&mut self.secrets))
                }
            }
        )*
    };
}

mod controller;
mod identity;
mod node;
mod volume;

pub use controller::*;
pub use identity::*;
pub use node::*;
pub use volume::*;

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn no_request_shows_a_secret_or_anything_else_that_came_with_it() {
        let secrets = Map::from([("CRYPTO_KEY_VALUE".to_owned(), "canary-5a1e".to_owned())]);
        let shown = [
            format!("{:?}", CreateVolumeRequest { secrets: secrets.clone(), ..Default::default() }),
            format!("{:?}", DeleteVolumeRequest { secrets: secrets.clone(), ..Default::default() }),
            format!(
                "{:?}",
                ValidateVolumeCapabilitiesRequest {
                    secrets: secrets.clone(),
                    ..Default::default()
                }
            ),
            format!(
                "{:?}",
                CreateSnapshotRequest { secrets: secrets.clone(), ..Default::default() }
            ),
            format!(
                "{:?}",
                DeleteSnapshotRequest { secrets: secrets.clone(), ..Default::default() }
            ),
            format!(
                "{:?}",
                ListSnapshotsRequest { secrets: secrets.clone(), ..Default::default() }
            ),
            format!("{:?}", GetSnapshotRequest { secrets: secrets.clone(), ..Default::default() }),
            format!(
                "{:?}",
                ControllerExpandVolumeRequest { secrets: secrets.clone(), ..Default::default() }
            ),
            format!(
                "{:?}",
                ControllerModifyVolumeRequest { secrets: secrets.clone(), ..Default::default() }
            ),
            format!(
                "{:?}",
                NodeStageVolumeRequest { secrets: secrets.clone(), ..Default::default() }
            ),
            format!(
                "{:?}",
                NodePublishVolumeRequest { secrets: secrets.clone(), ..Default::default() }
            ),
            format!("{:#?}", NodeExpandVolumeRequest { secrets, ..Default::default() }),
        ];
        for shown in shown {
            assert!(!shown.contains("canary") && !shown.contains("CRYPTO"), "{shown}");
            assert!(shown.contains("Request"), "{shown}");
        }
    }

    #[test]
    fn a_request_reads_as_the_specification_numbers_it() {
        // volume_id (1) = "a", staging_target_path (3) = "/s", secrets (5) = {"k": "v"}, and a field that
        // nobody knows (99).
        let bytes = b"\x0a\x01a\x1a\x02/s\x2a\x06\x0a\x01k\x12\x01v\x9a\x06\x01?";
        let request = NodeStageVolumeRequest::decode(&bytes[..]).unwrap();
        assert_eq!((request.volume_id.as_str(), request.staging_target_path.as_str()), ("a", "/s"));
        assert_eq!(request.secrets.get("k").map(String::as_str), Some("v"));
    }

    #[test]
    fn a_value_that_is_not_text_is_refused_without_being_shown() {
        let bytes = b"\x0a\x01a\x2a\x0c\x0a\x01k\x12\x07\xffcanary";
        let error = NodeStageVolumeRequest::decode(&bytes[..]).unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}
