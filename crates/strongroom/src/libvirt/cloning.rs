//! Volumes made from others: copied, encrypted, decrypted, encrypted anew, converted, all in one pass.

use strongroom_crypto::Passphrase;
use strongroom_disk::Raw;
use strongroom_model::dialect::libvirt::Creation;
use strongroom_model::{CloneRequest, EncryptionRequest, ImageOperation, ImageSource, ImageTarget};

use super::backing::backing_from;
use super::describing::{Known, measure};
use super::plan::{Plan, rounded};
use super::resizing::grow;
use super::{Libvirt, Made, NewVolume, VolumeName};
use crate::images::{self, Below, Between, Keys, Work};
use crate::new_image::Finish;
use crate::{Error, OwnedNewKey, OwnedOpener, Result};

impl Libvirt {
    /// Makes the volume of a document with the contents of another one. It is at least as large.
    ///
    /// # Guarantees
    ///
    /// Those of [`create`](Self::create), and no plain copy is written on the way.
    ///
    /// # Errors
    ///
    /// When no such volume can be made, or the source cannot be opened.
    pub fn create_from(
        &self,
        new: &NewVolume<'_>,
        source: &VolumeName,
        work: &Work<'_>,
    ) -> Result<Made> {
        let mut plan = Plan::of(new.document, new.pool, Creation::From)?;
        if let Some(made) = self.made_before(new, &plan)? {
            return Ok(made);
        }
        let source = self.known(source)?;
        source.refuse_wiped()?;
        refuse_other(new, &plan, &source)?;
        let capacity = measure(source.path.as_path(), source.format)?.capacity;
        let wanted = rounded(new.document.capacity.unwrap_or(0), plan.format);
        // Made so large, since a cluster that is cut could only be made longer with the key.
        plan.layout.size = wanted;
        let _source_lock = self.lock(&source.path)?;
        let below = self.below(&source, work)?;
        let opener = self.opener(&source)?;
        self.make(new, &plan, |key, finish| {
            let finish = |file: &Raw| {
                if wanted > capacity && !plan.format.is_qcow2() {
                    grow(file, plan.path.as_path(), plan.format, wanted)?;
                }
                finish(file)
            };
            copy((&plan, &source, below.as_ref()), opener, key, work, &finish)
        })
    }

    /// Returns what opens a volume, `None` when it is not encrypted.
    pub(super) fn opener(&self, known: &Known) -> Result<Option<Passphrase>> {
        if known.format.luks().is_none() {
            return Ok(None);
        }
        let path = known.path.as_str();
        let secrets = known.record.secrets()?;
        let name = secrets.into_iter().next().ok_or_else(|| {
            known.impossible("be opened", "its document names no secret for its encryption")
        })?;
        self.session(|session| session.open(&name, path)).map(|opened| Some(opened.value))
    }
}

fn copy(
    (plan, source, below): (&Plan, &Known, Option<&Below>),
    opener: Option<Passphrase>,
    key: Option<(Passphrase, EncryptionRequest)>,
    work: &Work<'_>,
    finish: Finish<'_>,
) -> Result<()> {
    let is_encrypted = source.format.luks().is_some();
    let (key, operation) = match (is_encrypted, key) {
        (false, None) => (None, ImageOperation::Copy),
        (true, None) => (None, ImageOperation::Decrypt),
        (false, Some((key, encryption))) => (Some(key), ImageOperation::Encrypt(encryption)),
        (true, Some((key, encryption))) => (Some(key), ImageOperation::Reencrypt(encryption)),
    };
    let request = CloneRequest {
        source_format: Some(source.format),
        backing_from: backing_from(source)?,
        target_format: Some(plan.format),
        ..CloneRequest::new(
            ImageSource::File(source.path.as_path().to_owned()),
            ImageTarget::File(plan.path.as_path().to_owned()),
            operation,
        )
    };
    let keys = Keys {
        source: opener.map(OwnedOpener::Passphrase),
        target: key.map(OwnedNewKey::Passphrase),
    };
    let layout = plan.format.is_qcow2().then_some(&plan.layout);
    let between = Between { below, layout, ..Between::of(&request)? };
    images::clone_finishing(&request, between, keys, work, finish).map(|_| ())
}

/// Refuses what a copy cannot be.
fn refuse_other(new: &NewVolume<'_>, plan: &Plan, source: &Known) -> Result<()> {
    let impossible = |reason: &str| {
        Err(Error::libvirt(super::LibvirtProblem::Impossible {
            name: new.document.name.clone(),
            what: "be made from another volume",
            reason: reason.to_owned(),
        }))
    };
    if plan.path == source.path {
        return impossible("it is the same volume");
    }
    if plan.backing.is_some() {
        return impossible("its contents are a copy, so it has no backing store: leave it out");
    }
    Ok(())
}
