//! Harvester's images of virtual machines.

use std::collections::BTreeMap;

use super::admission::{Reason, Refused};
use super::fields::Fields;
use super::kubernetes::sha512;
use super::longhorn::check_url;
use super::object::Object;
use super::resource::Resource;
use crate::Checksum;

/// A `harvesterhci.io/v1beta1 VirtualMachineImage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualMachineImage {
    /// Its name.
    pub name: String,
    /// Its namespace, empty when it has none yet.
    pub namespace: String,
    /// Its UID, empty when it has none yet.
    pub uid: String,
    /// What people call it.
    pub display_name: String,
    /// What its author wrote about it.
    pub description: Option<String>,
    /// Where its bytes come from.
    pub origin: VirtualMachineImageOrigin,
    /// The class that it is made with: annotation `harvesterhci.io/storageClassName`, or else
    /// `spec.targetStorageClassName`.
    pub storage_class: Option<String>,
    /// The parameters that the class of its volumes gets.
    pub class_parameters: BTreeMap<String, String>,
    /// How many times it is tried again: 0 to 10.
    pub retries: u32,
}

/// Where the bytes of a virtual machine's image come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VirtualMachineImageOrigin {
    /// From a URL.
    Download {
        /// The URL.
        url: String,
        /// The SHA-512 that they must have.
        checksum: Option<Checksum>,
    },
    /// From whoever uploads them.
    Upload {
        /// The SHA-512 that they must have.
        checksum: Option<Checksum>,
    },
    /// From the volume of a claim: `export-from-volume`.
    Claim {
        /// The namespace of the claim.
        namespace: String,
        /// The name of the claim.
        name: String,
    },
    /// From a backup.
    Restore {
        /// Where the backup is.
        url: String,
    },
    /// From another image, encrypted or decrypted on the way.
    Clone {
        /// Which of the two.
        operation: CryptoOperation,
        /// The namespace of the other image.
        namespace: String,
        /// Its name: that of its metadata, not the one that people call it.
        name: String,
    },
}

/// What is done to the contents of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CryptoOperation {
    /// They are encrypted, with the Secret of the class.
    Encrypt,
    /// They are decrypted, with the Secret that the source was encrypted with.
    Decrypt,
}

impl VirtualMachineImage {
    /// The annotation that names the class of an image.
    pub const STORAGE_CLASS: &'static str = "harvesterhci.io/storageClassName";

    /// Returns whether it is encrypted once it is there.
    pub fn is_encrypted(&self) -> bool {
        matches!(
            self.origin,
            VirtualMachineImageOrigin::Clone { operation: CryptoOperation::Encrypt, .. }
        )
    }
}

impl TryFrom<&Object> for VirtualMachineImage {
    type Error = Refused;

    fn try_from(object: &Object) -> Result<Self, Refused> {
        let mut fields = Fields::of(object, Resource::VirtualMachineImage);
        if fields.text(&["spec", "backend"]).is_some_and(|backend| backend != "backingimage") {
            let message = "images are kept by the backend backingimage: leave it out, or say so";
            fields.note(&["spec", "backend"], Reason::NotSupported, message);
        }
        let retries = fields.number(&["spec", "retry"]).unwrap_or(DEFAULT_RETRIES);
        if retries > MOST_RETRIES {
            fields.note(&["spec", "retry"], Reason::Invalid, "use a number from 0 to 10");
        }
        let annotated = fields.text(&["metadata", "annotations", Self::STORAGE_CLASS]);
        let in_spec = fields.text(&["spec", "targetStorageClassName"]);
        let image = Self {
            name: fields.required(&["metadata", "name"], "an image needs a name").to_owned(),
            namespace: object.namespace().unwrap_or_default().to_owned(),
            uid: object.uid().to_owned(),
            display_name: fields
                .required(&["spec", "displayName"], "give it a name that people call it by")
                .to_owned(),
            description: fields.text(&["spec", "description"]).map(str::to_owned),
            origin: origin(&mut fields),
            storage_class: annotated.or(in_spec).map(str::to_owned),
            class_parameters: fields.texts(&["spec", "storageClassParameters"]),
            retries: u32::try_from(retries).unwrap_or_default(),
        };
        fields.finish(image)
    }
}

fn origin(fields: &mut Fields<'_>) -> VirtualMachineImageOrigin {
    let checksum = fields.parsed(&["spec", "checksum"], sha512);
    let words = [
        ("download", Source::Download),
        ("upload", Source::Upload),
        ("export-from-volume", Source::Claim),
        ("restore", Source::Restore),
        ("clone", Source::Clone),
    ];
    if fields.value(&["spec", "sourceType"]).is_none() {
        let message = "use download, upload, export-from-volume, restore or clone";
        fields.note(&["spec", "sourceType"], Reason::Required, message);
    }
    match fields.choice(&["spec", "sourceType"], &words, Source::Upload) {
        Source::Download => VirtualMachineImageOrigin::Download { url: url(fields), checksum },
        Source::Upload => VirtualMachineImageOrigin::Upload { checksum },
        Source::Claim => {
            let message = "name the claim of the volume";
            let name = fields.required(&["spec", "pvcName"], message).to_owned();
            let message = "say in which namespace the claim is";
            let namespace = fields.required(&["spec", "pvcNamespace"], message).to_owned();
            VirtualMachineImageOrigin::Claim { namespace, name }
        }
        Source::Restore => {
            let url = fields.text(&["spec", "url"]).unwrap_or_default().to_owned();
            VirtualMachineImageOrigin::Restore { url }
        }
        Source::Clone => cloned(fields),
    }
}

fn cloned(fields: &mut Fields<'_>) -> VirtualMachineImageOrigin {
    if fields.text(&["spec", "url"]).is_some() {
        fields.note(&["spec", "url"], Reason::Invalid, "url must be empty for a clone");
    }
    let parameters = "securityParameters";
    if fields.value(&["spec", parameters]).is_none() {
        let message = "securityParameters is required when image source type is \"clone\"";
        fields.note(&["spec", parameters], Reason::Required, message);
        return VirtualMachineImageOrigin::Upload { checksum: None };
    }
    let path = ["spec", parameters, "cryptoOperation"];
    let message = "encryption is required: use encrypt or decrypt";
    fields.required(&path, message);
    let words = [("encrypt", CryptoOperation::Encrypt), ("decrypt", CryptoOperation::Decrypt)];
    let operation = fields.choice(&path, &words, CryptoOperation::Encrypt);
    let name = fields.required(
        &["spec", parameters, "sourceImageName"],
        "SourceImageName is required: the name in the source's metadata",
    );
    let namespace = fields.required(
        &["spec", parameters, "sourceImageNamespace"],
        "SourceImageNamespace is required",
    );
    VirtualMachineImageOrigin::Clone {
        operation,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn url(fields: &mut Fields<'_>) -> String {
    let url = fields.required(&["spec", "url"], "say where the image is: https://…").trim();
    if !url.is_empty()
        && let Err(problem) = check_url(url)
    {
        fields.note(&["spec", "url"], Reason::Invalid, problem);
    }
    url.to_owned()
}

#[derive(Clone, Copy)]
enum Source {
    Download,
    Upload,
    Claim,
    Restore,
    Clone,
}

const DEFAULT_RETRIES: u64 = 3;
const MOST_RETRIES: u64 = 10;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn image(spec: Value) -> Result<VirtualMachineImage, Refused> {
        let mut object = Object::new(Resource::VirtualMachineImage, Some("lab"), "image-x");
        object.set(&["metadata", "annotations", VirtualMachineImage::STORAGE_CLASS], "vault");
        object.set(&["spec"], spec);
        VirtualMachineImage::try_from(&object)
    }

    #[test]
    fn an_image_to_be_encrypted_is_read_whole() {
        let read = image(json!({
            "displayName": "jammy", "sourceType": "clone", "targetStorageClassName": "other",
            "securityParameters": { "cryptoOperation": "encrypt", "sourceImageName": "image-a",
                                    "sourceImageNamespace": "lab" },
        }))
        .unwrap();
        assert!(read.is_encrypted());
        assert_eq!((read.storage_class.as_deref(), read.retries), (Some("vault"), 3));
    }

    #[test]
    fn a_clone_says_from_what_and_how() {
        let told = image(json!({ "displayName": "a", "sourceType": "clone", "retry": 11,
                                 "backend": "cdi", "securityParameters": {} }))
        .unwrap_err()
        .to_string();
        for field in
            ["cryptoOperation", "sourceImageName:", "sourceImageNamespace", "retry", "backend"]
        {
            assert!(told.contains(field), "{field}: {told}");
        }
        let told = image(json!({ "displayName": "a", "sourceType": "clone" })).unwrap_err();
        assert!(told.to_string().contains("securityParameters is required"), "{told}");
    }

    #[test]
    fn exports_and_downloads_name_their_source() {
        assert!(image(json!({ "displayName": "a", "sourceType": "export-from-volume" })).is_err());
        assert!(image(json!({ "displayName": "a", "sourceType": "download" })).is_err());
        let read = image(json!({ "displayName": "a", "sourceType": "download", "retry": 0,
                                 "url": "https://images.example/a.img" }));
        assert_eq!(read.unwrap().retries, 0);
        assert!(image(json!({})).is_err());
    }
}
