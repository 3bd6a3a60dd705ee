//! Volumes that are made of images.

use strongroom_clone::{Pass, Plan, Zeroes};
use strongroom_disk::{Access, Disk, Raw};
use strongroom_luks::Header;
use strongroom_model::{EncryptionSettings, ImageFormat, ImageId};

use super::{Image, ImageProblem, Library, format_of, label};
use crate::images::{self, Keys, Side, Work};
use crate::volumes::{
    CopyInto, Filling, HEADER_LEN, NewVolume, Rekeying, Volume, VolumeEncryption, VolumeOpener,
    VolumeProblem, Volumes,
};
use crate::{Error, Opener, OwnedNewKey, OwnedOpener, Result, device, envelopes};

impl Library {
    /// Makes a volume of an image. One from an encrypted image is opened by what opens the image, or by
    /// `keys.target` alone where that is given; from a plain one, an encrypted volume is encrypted on the
    /// way, which needs the key of `keys.target`. The same again returns the volume that is there.
    ///
    /// An encrypted image that is a LUKS2 volume with 16 MiB in front of its data is copied with header and
    /// keyslots, which needs no key unless there is a new one. Any other is encrypted anew, for which
    /// `keys.source` is needed.
    ///
    /// # Errors
    ///
    /// When the volume has no room for the image, when an encrypted image shall become a plain volume, and what
    /// the pool says.
    pub fn make_volume(
        &self,
        from: &ImageId,
        volumes: &Volumes,
        new: &NewVolume,
        keys: Keys,
        work: &Work<'_>,
    ) -> Result<Volume> {
        if let Some(source) = &new.source {
            let problem = format!("volume {} cannot be made of {source} and of an image", new.id);
            return Err(Error::Request { problem });
        }
        let image = self.ready_image(from)?;
        if new.size < image.virtual_len {
            let reason = format!("image {from}, of which it is made, has {}", image.virtual_len);
            let problem = VolumeProblem::Size { size: new.size, reason };
            return Err(Error::volume(&new.id, problem));
        }
        let how = Filler { library: self, image: &image, volumes, new, work };
        let made = match (&image.encryption, &new.encryption) {
            (Some(_), VolumeEncryption::None) => Err(how.refuse(
                "the image is encrypted and the volume is not: decrypt the image first, or let the \
                 volume be encrypted",
            )),
            (None, VolumeEncryption::None) => how.contents(None, None),
            (None, _) => match &keys.target {
                Some(key) => how.contents(None, Some(self.new_key(key))),
                None => {
                    let missing = missing(&new.encryption);
                    Err(Error::volume(&new.id, VolumeProblem::NoKey { missing }))
                }
            },
            (Some(_), _) => how.encrypted(&keys),
        };
        // Nothing needs them any more.
        drop(keys);
        made
    }

    /// Returns the same images; the volumes that are made of them by what is returned are encrypted as
    /// `settings` say, where a passphrase opens them and they are encrypted on the way.
    #[must_use]
    pub fn with_settings(mut self, settings: Option<EncryptionSettings>) -> Self {
        self.settings = settings;
        self
    }

    fn new_key<'a>(&'a self, key: &'a OwnedNewKey) -> VolumeOpener<'a> {
        match key {
            OwnedNewKey::Passphrase(passphrase) => {
                VolumeOpener::Passphrase { passphrase, settings: self.settings.as_ref() }
            }
            OwnedNewKey::Kms { provider, .. } => VolumeOpener::Kms(&**provider),
        }
    }

    fn same_key<'a>(&'a self, key: &'a OwnedOpener) -> VolumeOpener<'a> {
        match key {
            OwnedOpener::Passphrase(passphrase) => {
                VolumeOpener::Passphrase { passphrase, settings: self.settings.as_ref() }
            }
            OwnedOpener::Kms { provider, .. } => VolumeOpener::Kms(&**provider),
        }
    }
}

/// One volume that is made of one image.
struct Filler<'a> {
    library: &'a Library,
    image: &'a Image,
    volumes: &'a Volumes,
    new: &'a NewVolume,
    work: &'a Work<'a>,
}

impl Filler<'_> {
    /// Makes a volume of an encrypted image.
    fn encrypted(&self, keys: &Keys) -> Result<Volume> {
        let id = &self.image.id;
        let path = self.library.folder(id).data();
        let disk = Raw::open(&path, Access::ReadOnly)?.with_label(label(id));
        let header = match format_of(self.image)? {
            ImageFormat::Luks2 => Some(device::read_header(&disk)?.header),
            _ => None,
        };
        let target = keys.target.as_ref().map(|key| self.library.new_key(key));
        let source = keys.source.as_ref();
        match (header, source, target) {
            (Some(header), source, target) if is_usual(&header, &disk)? => {
                let rekeying = match (source, target) {
                    (Some(source), Some(to)) => {
                        Some(Rekeying { from: self.library.same_key(source), to })
                    }
                    (None, Some(_)) => return Err(Error::NoPassphrase { label: label(id) }),
                    (source, None) => {
                        self.check_same_key(&disk, &header, source)?;
                        None
                    }
                };
                self.create(Filling::Container { disk: &disk, rekeying }, disk.len())
            }
            (_, Some(source), target) => {
                let to = target.unwrap_or_else(|| self.library.same_key(source));
                self.contents(Some(source.opener()), Some(to))
            }
            (_, None, _) => Err(self.refuse(
                "its bytes cannot be taken as they are, since volumes are LUKS2 with 16 MiB in front of \
                 their data: give what opens it, so that it is encrypted anew",
            )),
        }
    }

    /// Fills the volume with the contents of the image.
    fn contents(&self, opener: Option<Opener<'_>>, to: Option<VolumeOpener<'_>>) -> Result<Volume> {
        let path = self.library.folder(&self.image.id).data();
        let format = Some(format_of(self.image)?);
        let side = Side { path: &path, format, header: None, opener };
        let disk = images::open(side, &[], self.work)?.into_disk();
        let len = disk.len();
        self.create(Filling::Contents { disk: &disk, to }, len)
    }

    fn create(&self, filling: Filling<'_>, len: u64) -> Result<Volume> {
        let work = self.work;
        work.observer.begin(Some(len));
        let rate_limit = self.library.rate_limit;
        let copy: CopyInto<'_> = &|source, target, zeroes: Zeroes| {
            let plan = Plan::for_this_machine(zeroes).with_rate_limit(rate_limit);
            let pass = Pass::new(plan, work.observer.as_progress(), work.cancelled);
            strongroom_clone::run(source, target, &pass)?;
            Ok(())
        };
        self.volumes.create_filled(self.new, label(&self.image.id), filling, copy)
    }

    /// Refuses to make a volume of which it is known that its key would not open it.
    fn check_same_key(
        &self,
        disk: &Raw,
        header: &Header,
        source: Option<&OwnedOpener>,
    ) -> Result<()> {
        let has_envelope = match header {
            Header::Luks1(_) => false,
            Header::Luks2(luks2) => envelopes::each(luks2, disk.label()).any(|held| held.is_ok()),
        };
        match (&self.new.encryption, source) {
            (VolumeEncryption::Passphrase, Some(OwnedOpener::Kms { .. })) => {
                return Err(self.refuse(
                    "a key management system opens the image, and a passphrase shall open the volume: \
                     give the new passphrase, too",
                ));
            }
            (VolumeEncryption::Kms(_), Some(OwnedOpener::Passphrase(_))) => {
                return Err(self.refuse(
                    "a passphrase opens the image, and a key management system shall open the volume: \
                     give the new key, too",
                ));
            }
            (VolumeEncryption::Kms(_), None) if !has_envelope => {
                return Err(self.refuse(
                    "no key management system opens the image: give what opens it, and the new key",
                ));
            }
            _ => {}
        }
        if let Some(source) = source {
            device::unlock(disk, header, source.opener(), None, &self.work.policy)?;
        }
        Ok(())
    }

    fn refuse(&self, reason: &str) -> Error {
        let (volume, reason) = (self.new.id.to_string(), reason.to_owned());
        Error::image(&self.image.id, ImageProblem::Volume { volume, reason })
    }
}

/// Tells whether the data of a container begins where that of volumes does.
fn is_usual(header: &Header, disk: &Raw) -> Result<bool> {
    Ok(device::payload(header, disk, None)?.offset == HEADER_LEN)
}

fn missing(encryption: &VolumeEncryption) -> &'static str {
    match encryption {
        VolumeEncryption::Kms(_) => "key management system",
        VolumeEncryption::None | VolumeEncryption::Passphrase => "passphrase",
    }
}
