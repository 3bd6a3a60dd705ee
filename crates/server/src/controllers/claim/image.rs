//! The image that a class describes: made when there is none, as Longhorn's driver does.

use serde_json::{Map, Value};
use strongroom::hexadecimal;
use strongroom_model::dialect::admission::{self, Change, backing_image_named};
use strongroom_model::dialect::kubernetes::{BackingImageUse, Claim, StorageClass};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::super::events::Tone;
use super::super::provision::LONGHORN;
use super::super::turn::{Trouble, Turn};

/// Makes the image that a class describes, if there is none of that name.
///
/// # Errors
///
/// [`Trouble::Waiting`] when what the class says is refused, and when the image that is there comes from
/// somewhere else.
pub(super) fn make(turn: &Turn<'_>, claim: &Claim, class: &StorageClass) -> Result<(), Trouble> {
    // What a claim is a copy of wins.
    let Some(wanted) = class.backing_image()?.filter(|_| claim.source.is_none()) else {
        return Ok(());
    };
    let Some(source_type) = wanted.source_type.as_deref() else { return Ok(()) };
    if let Some(found) = backing_image_named(&wanted.name, Some(&claim.namespace), turn) {
        return check(&wanted, source_type, &found);
    }
    if !matches!(source_type, "download" | "export-from-volume") {
        // Somebody has to make it, or to send it.
        return Ok(());
    }
    let document = document(&wanted, source_type);
    let admitted = admission::admit(document, Change::Create, turn)?;
    match turn.context().store.create(admitted.object) {
        // Another claim of the class may just have had it made.
        Ok(_) | Err(crate::Error::Exists { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let message = format!("image {LONGHORN}/{} is made as class {} says", wanted.name, class.name);
    turn.tell(Tone::Normal, "ImageCreated", &message);
    Ok(())
}

fn document(wanted: &BackingImageUse, source_type: &str) -> Object {
    let mut document = Object::new(Resource::BackingImage, Some(LONGHORN), &wanted.name);
    let parameters: Map<String, Value> = wanted
        .parameters
        .iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect();
    document.set(&["spec", "sourceType"], source_type);
    document.set(&["spec", "sourceParameters"], parameters);
    if let Some(checksum) = &wanted.checksum {
        let digits = hexadecimal(checksum.digest());
        document.set(&["spec", "checksum"], digits);
    }
    document
}

/// Refuses an image that is not the one that the class describes.
fn check(wanted: &BackingImageUse, source_type: &str, found: &Object) -> Result<(), Trouble> {
    let differs = |key: &str, value: &String| {
        found.text(&["spec", "sourceParameters", key]) != Some(value.as_str())
    };
    let other = if found.text(&["spec", "sourceType"]) != Some(source_type) {
        "backingImageDataSourceType".to_owned()
    } else if let Some((key, _)) = wanted.parameters.iter().find(|(key, value)| differs(key, value))
    {
        format!("backingImageDataSourceParameters: {key}")
    } else {
        return Ok(());
    };
    let message = format!(
        "existing backing image {} data source is different from the parameters of the class ({other}): use \
         another name, or leave the parameters out",
        wanted.name
    );
    Err(Trouble::waiting("ImageDiffers", message))
}
