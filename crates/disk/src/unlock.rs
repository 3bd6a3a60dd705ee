//! Keyslots opened with any of several passphrases, at a bounded cost.

use strongroom_crypto::{CostBudget, CostPolicy, Passphrase, VolumeKey};
use strongroom_luks::{Error as LuksError, Header};

use crate::{Disk, Error, ErrorKind, Operation, Result};

/// Returns the volume key behind the first keyslot that a passphrase opens. `area` begins with the
/// header; `budget` is what all tries may cost together.
///
/// # Errors
///
/// [`ErrorKind::Locked`] when none opens, or none could be tried at that cost;
/// [`ErrorKind::Invalid`] when the header cannot be used.
pub(crate) fn volume_key(
    area: &dyn Disk,
    header: &Header,
    passphrases: &[&Passphrase],
    policy: &CostPolicy,
    budget: &mut CostBudget,
) -> Result<VolumeKey> {
    let failed = |kind| Error::new(kind, Operation::Open, area.label());
    if passphrases.is_empty() {
        return Err(failed(ErrorKind::Locked)
            .because("it is encrypted, and no passphrase was given for it"));
    }
    let invalid = |source: LuksError| failed(ErrorKind::Invalid).with_source(source);
    let mut skipped = None;
    let mut tried = false;
    for id in header.keyslots_to_try().map_err(invalid)? {
        let range = header.keyslot_area(id).map_err(invalid)?;
        let mut material = vec![0; (range.end - range.start) as usize];
        area.read_at(&mut material, range.start)?;
        for passphrase in passphrases {
            // What cannot be tried at all, or costs too much by itself, says so itself below.
            let cost = header.keyslot_cost(id).unwrap_or_default();
            if cost <= policy.max_time
                && let Err(error) = budget.spend(cost)
            {
                skipped = Some(error.into());
                break;
            }
            match header.open_keyslot(id, &material, passphrase, policy) {
                Ok(key) => return Ok(key),
                Err(LuksError::WrongPassphrase { .. }) => tried = true,
                Err(error) => {
                    skipped = Some(error);
                    break;
                }
            }
        }
    }
    let opens_none = match passphrases.len() {
        1 => "the passphrase opens none of its keyslots",
        _ => "none of the passphrases opens one of its keyslots",
    };
    Err(match skipped {
        // Where no keyslot could even be tried, a passphrase may well be right.
        Some(error) if !tried => failed(ErrorKind::Locked).with_source(error),
        _ => failed(ErrorKind::Locked).because(opens_none),
    })
}
