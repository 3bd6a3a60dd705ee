//! The class of the volumes that begin with an image of a virtual machine.

use std::collections::BTreeMap;

use serde_json::json;
use strongroom_model::dialect::harvester::{
    CryptoOperation, VirtualMachineImage, VirtualMachineImageOrigin,
};
use strongroom_model::dialect::kubernetes::SecretUse;
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::super::turn::{Trouble, Turn};
use super::class_of;

/// Returns the name of the class of an image.
pub(super) fn name(uid: &str) -> String {
    format!("lh-{uid}")
}

/// Returns the class of an image: what its own class, and its document, say of places and of encryption, and
/// the image that volumes begin with.
///
/// Volumes of a decrypted image are not encrypted, whatever the class says that it was made with: upstream
/// gives them the parameters of an encrypted one, and nobody can use them.
pub(super) fn document(
    turn: &Turn<'_>,
    image: &VirtualMachineImage,
    backing_image: &str,
    name: &str,
) -> Result<Object, Trouble> {
    let base = class_of(turn, image)?;
    let is_decrypted = matches!(
        image.origin,
        VirtualMachineImageOrigin::Clone { operation: CryptoOperation::Decrypt, .. }
    );
    let said = base.iter().flat_map(|class| &class.parameters).chain(&image.class_parameters);
    let mut parameters: BTreeMap<String, String> = BTreeMap::from([
        ("migratable".to_owned(), "true".to_owned()),
        ("numberOfReplicas".to_owned(), "3".to_owned()),
        ("staleReplicaTimeout".to_owned(), "30".to_owned()),
    ]);
    for (key, value) in said {
        let is_of_encryption = key == "encrypted" || is_of_secret(key);
        if PLACES.contains(&key.as_str()) || (is_of_encryption && !is_decrypted) {
            parameters.insert(key.clone(), value.clone());
        }
    }
    parameters.insert("backingImage".to_owned(), backing_image.to_owned());
    if let VirtualMachineImageOrigin::Clone { .. } = image.origin {
        parameters.insert("backingImageDataSourceType".to_owned(), "clone".to_owned());
    }
    let mut document = Object::new(Resource::StorageClass, None, name);
    let annotation = "harvesterhci.io/imageId";
    let of = format!("{}/{}", image.namespace, image.name);
    document.set(&["metadata", "annotations", annotation], of);
    let provisioner = base.map_or(PROVISIONER.to_owned(), |class| class.provisioner);
    document.set(&["provisioner"], provisioner);
    document.set(&["parameters"], json!(parameters));
    document.set(&["reclaimPolicy"], "Delete");
    document.set(&["volumeBindingMode"], "Immediate");
    document.set(&["allowVolumeExpansion"], true);
    Ok(document)
}

/// Tells whether a parameter names a Secret; that for growing is one of them, which upstream loses.
fn is_of_secret(key: &str) -> bool {
    let uses = [
        SecretUse::Provisioner,
        SecretUse::NodePublish,
        SecretUse::NodeStage,
        SecretUse::NodeExpand,
    ];
    uses.iter().any(|of| of.parameters().iter().any(|parameter| parameter == key))
}

/// What is taken over of where the volumes are kept.
const PLACES: [&str; 5] =
    ["nodeSelector", "diskSelector", "numberOfReplicas", "staleReplicaTimeout", "dataLocality"];

/// Whose volumes they are where the image names no class.
const PROVISIONER: &str = "driver.longhorn.io";
