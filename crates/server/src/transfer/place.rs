//! From the name of an image to its document and its place in the library.

use std::sync::Arc;

use strongroom_model::ImageId;
use strongroom_model::dialect::longhorn::BackingImage;
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::refusal::Refusal;
use crate::Context;
use crate::controllers::image_of_virtual_machine_image;

/// An image that somebody reads or brings.
#[derive(Debug)]
pub(super) struct Place {
    /// The document of the BackingImage.
    pub(super) object: Arc<Object>,
    /// What it says.
    pub(super) document: BackingImage,
    /// Under which identifier it is in the library.
    pub(super) id: ImageId,
}

impl Place {
    /// Finds the image that a name in a namespace stands for: a BackingImage, or that of a
    /// VirtualMachineImage.
    pub(super) fn find(context: &Context, namespace: &str, name: &str) -> Result<Self, Refusal> {
        let store = &context.store;
        let own = store.read(Resource::BackingImage, Some(namespace), name);
        let object = own.or_else(|| {
            let image = store.read(Resource::VirtualMachineImage, Some(namespace), name)?;
            let (namespace, name) = image_of_virtual_machine_image(image.uid());
            store.read(Resource::BackingImage, Some(namespace), &name)
        });
        let object = object.ok_or_else(|| {
            Refusal::not_found(format!("there is no image {name} in the namespace {namespace}"))
        })?;
        let document = BackingImage::try_from(&*object)
            .map_err(|refused| Refusal::conflict(format!("image {name} is refused: {refused}")))?;
        let id = document.uid.parse().map_err(|_| Refusal::internal())?;
        Ok(Self { object, document, id })
    }

    /// Returns how people call it.
    pub(super) fn label(&self) -> String {
        format!("{}/{}", self.document.namespace, self.document.name)
    }
}
