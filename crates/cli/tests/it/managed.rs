//! What tests of images that a KMS opens need: a key in a file, and the data keys below it.

use std::fs;

use strongroom::envelopes;
use strongroom::{Device, qcow2_image};
use strongroom_crypto::DataKey;
use strongroom_disk::Access;
use strongroom_kms::{Binding, Credentials, KeyProvider, LocalKek};
use strongroom_luks::Header;
use strongroom_model::{KmsKind, KmsRequest};

use crate::workplace::Workplace;

/// Names the key in the file `kek`.
pub(crate) const KMS: &str = "--kms local --kms-kek-file kek";

/// Names the key in the file `other-kek`.
pub(crate) const OTHER_KMS: &str = "--kms local --kms-kek-file other-kek";

/// The file of a data key.
pub(crate) const DEK_FILE: &str = "data-key";

/// A workplace with a KMS.
pub(crate) trait Managed {
    /// Creates the file of a key.
    fn create_kek(&self, name: &str);

    /// Returns the data key of an image with an envelope in its header.
    fn data_key(&self, image: &str, kek: &str) -> DataKey;

    /// Returns the data key of an image with an envelope in its header, as a KMS unwraps it.
    fn data_key_by(&self, provider: &dyn KeyProvider, image: &str) -> DataKey;

    /// Returns the data key of an image with an envelope in a file of its own.
    fn data_key_of(&self, image: &str, envelope: &str, kek: &str) -> DataKey;

    /// Writes the data key of an image to [`DEK_FILE`].
    fn write_data_key(&self, image: &str, kek: &str);

    /// Writes the data key of an image with an envelope in a file of its own to [`DEK_FILE`].
    fn write_data_key_of(&self, image: &str, envelope: &str, kek: &str);
}

impl Managed for Workplace {
    fn create_kek(&self, name: &str) {
        LocalKek::create(&self.path(name)).unwrap();
    }

    fn data_key(&self, image: &str, kek: &str) -> DataKey {
        self.data_key_by(&*provider(self, kek), image)
    }

    fn data_key_by(&self, provider: &dyn KeyProvider, image: &str) -> DataKey {
        let device = Device::open(&self.path(image), None, Access::ReadOnly).unwrap();
        let header = device.read_header().unwrap().header;
        let Header::Luks2(luks2) = &header else { panic!("{image} has no tokens") };
        let held = envelopes::held(luks2, image).unwrap();
        provider.unwrap(&held[0].envelope, &Binding::image(header.uuid())).unwrap()
    }

    fn data_key_of(&self, image: &str, envelope: &str, kek: &str) -> DataKey {
        let path = self.path(image);
        let uuid = match qcow2_image::describe(&path) {
            Ok(image) => image.luks.unwrap().uuid().to_owned(),
            Err(_) => {
                let device = Device::open(&path, None, Access::ReadOnly).unwrap();
                device.read_header().unwrap().header.uuid().to_owned()
            }
        };
        let envelope = envelopes::read_file(&self.path(envelope)).unwrap();
        provider(self, kek).unwrap(&envelope, &Binding::image(&uuid)).unwrap()
    }

    fn write_data_key(&self, image: &str, kek: &str) {
        fs::write(self.path(DEK_FILE), self.data_key(image, kek).expose_bytes()).unwrap();
    }

    fn write_data_key_of(&self, image: &str, envelope: &str, kek: &str) {
        let key = self.data_key_of(image, envelope, kek);
        fs::write(self.path(DEK_FILE), key.expose_bytes()).unwrap();
    }
}

fn provider(place: &Workplace, kek: &str) -> Box<dyn KeyProvider> {
    let request = KmsRequest { kek_file: Some(place.path(kek)), ..KmsRequest::new(KmsKind::Local) };
    strongroom_kms::open(&request, Credentials::default()).unwrap()
}
