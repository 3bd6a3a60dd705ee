//! What must hold for a volume that is to be made.

use super::super::xml::quoted;
use super::super::{Encryption, EncryptionFormat};
use super::{Volume, VolumeFormat};
use crate::Error;

/// What a new volume is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// Of nothing: `vol-create`.
    New,
    /// Of another volume, whose capacity it has where it says none: `vol-create-from`.
    From,
}

impl Volume {
    /// Checks that this describes a volume that can be made in a pool of files, and returns what should be told
    /// about it: where libvirt's storage driver would not make it.
    ///
    /// # Errors
    ///
    /// [`Error::Xml`], naming what is in the way and what there is.
    pub fn check_creation(&self, creation: Creation) -> Result<Vec<String>, Error> {
        self.check_name()?;
        let backing = self.backing.as_ref().is_some_and(|backing| backing.path.is_some());
        if self.capacity.is_none() && !backing && creation == Creation::New {
            return Err(self.line.error("<volume> has no <capacity>, or an empty one"));
        }
        let lines = self.target.lines;
        let format = self.target.format.as_ref().unwrap_or(&VolumeFormat::Raw);
        match format {
            VolumeFormat::Raw if backing => {
                return Err(self.line.error(
                    "<volume> is raw and cannot have a <backingStore>: its <target> needs <format \
                     type='qcow2'/>",
                ));
            }
            VolumeFormat::Raw => self.check_nothing_of_qcow2()?,
            VolumeFormat::Qcow2 => self.check_qcow2()?,
            VolumeFormat::Other(name) if name.starts_with("luks") => {
                return Err(lines.format.error(
                    "<format> in <target> is not one of raw, qcow2: a LUKS volume is raw, with \
                     <encryption format='luks'>",
                ));
            }
            VolumeFormat::Other(name) => {
                let name = quoted(name);
                let problem = format!("<format> {name} in <target> is not one of raw, qcow2");
                return Err(lines.format.error(problem));
            }
        }
        match &self.target.encryption {
            Some(encryption) => encryption.check_creation(format),
            None => Ok(Vec::new()),
        }
    }

    fn check_name(&self) -> Result<(), Error> {
        if ["", ".", ".."].contains(&self.name.as_str()) || self.name.contains('/') {
            let name = quoted(&self.name);
            let problem =
                format!("<name> {name} cannot name a volume: it holds no / and is not . or ..");
            return Err(self.line.error(problem));
        }
        Ok(())
    }

    fn check_nothing_of_qcow2(&self) -> Result<(), Error> {
        let target = &self.target;
        for (said, name, line) in [
            (target.compat.is_some(), "compat", target.lines.compat),
            (target.cluster_size.is_some(), "clusterSize", target.lines.cluster_size),
            (
                target.features.as_ref().is_some_and(|features| !features.is_empty()),
                "features",
                target.lines.features,
            ),
        ] {
            if said {
                let problem =
                    format!("<{name}> in <target> is for qcow2 alone, and <format> is raw");
                return Err(line.error(problem));
            }
        }
        Ok(())
    }

    fn check_qcow2(&self) -> Result<(), Error> {
        let compat = self.target.compat.as_deref().unwrap_or("1.1");
        if !["0.10", "1.1"].contains(&compat) {
            let problem =
                format!("<compat> {} in <target> is not one of 0.10, 1.1", quoted(compat));
            return Err(self.target.lines.compat.error(problem));
        }
        if let (Some(feature), "0.10") = (self.target.features.iter().flatten().next(), compat) {
            let problem = format!("<{feature}/> in <features> needs <compat>1.1</compat>");
            return Err(self.target.lines.features.error(problem));
        }
        match self.target.cluster_size {
            Some(bytes) if !(bytes.is_power_of_two() && (512..=2 << 20).contains(&bytes)) => {
                Err(self
                    .target
                    .lines
                    .cluster_size
                    .error("<clusterSize> is not a power of two from 512 bytes to 2 MiB"))
            }
            _ => Ok(()),
        }
    }
}

impl Encryption {
    fn check_creation(&self, format: &VolumeFormat) -> Result<Vec<String>, Error> {
        if self.secrets.len() != 1 {
            return Err(self.line.error(format!(
                "<encryption> has {} <secret> elements: a volume is made with one",
                self.secrets.len()
            )));
        }
        self.request()?;
        let mut notes = Vec::new();
        match (format, self.format) {
            (VolumeFormat::Qcow2, EncryptionFormat::Luks2) => {
                return Err(self.line.error(
                    "qcow2 holds a LUKS1 header alone: write format='luks' in <encryption>, or <format \
                     type='raw'/> in <target>",
                ));
            }
            (_, EncryptionFormat::Luks2) => notes.push(
                "libvirt's storage driver cannot create luks2, and its engine qemu cannot open it; this \
                 can"
                .to_owned(),
            ),
            _ => {}
        }
        if self.cipher.as_ref().and_then(|cipher| cipher.mode.as_deref()) == Some("ctr") {
            notes.push(CTR_NOTE.to_owned());
        }
        Ok(notes)
    }
}

/// What should be told of counter mode, which libvirt's storage driver takes: each write into a sector uses the
/// same key stream.
const CTR_NOTE: &str = "mode='ctr' of <cipher> is weak for volumes: whoever sees a sector before and after a \
                        write sees what changed in it, and can change bits of it at will; write mode='xts'";
