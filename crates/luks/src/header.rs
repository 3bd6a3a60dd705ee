//! A header of either format behind one face.

use std::ops::Range;
use std::time::Duration;

use rand_core::CryptoRng;
use strongroom_crypto::{CostPolicy, Encryption, Hash, Kdf, Passphrase, VolumeKey};

use crate::luks2::{Damage, KeyslotKind, Priority, foreign_signature};
use crate::{
    Change, Error, Payload, Version, is_formatted_clone, key_material, luks1, luks2, wire,
};

/// A LUKS header.
#[derive(Debug, Clone, PartialEq)]
pub enum Header {
    /// LUKS1.
    Luks1(luks1::Header),
    /// LUKS2.
    Luks2(luks2::Header),
}

/// A header that was read, with what is wrong with one of its copies.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The header.
    pub header: Header,
    /// The damaged copy, to be written anew from the good one.
    pub recovery: Option<Recovery>,
}

/// A damaged copy of a LUKS2 header, the other one being whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery(Damage);

/// How far a repair may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepairScope {
    /// Only what is surely a damaged header is written anew.
    SureDamage,
    /// The primary copy is written anew from the secondary one over whatever took its place, be
    /// that somebody else's data.
    OverwritePrimary,
}

/// What a new keyslot shall be like.
#[derive(Debug, Clone, Copy)]
pub struct NewKeyslot {
    /// Its number; `None` for the first free one.
    pub id: Option<u32>,
    /// Key derivation.
    pub kdf: Kdf,
    /// When it is tried.
    pub priority: Priority,
    /// The splitter's hash; LUKS1 uses the header's.
    pub af_hash: Hash,
    /// The area's cipher; LUKS1 uses that of the data.
    pub area_encryption: Encryption,
    /// Whether it holds the volume key.
    pub binding: Binding,
}

/// What the key in a keyslot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// It is the volume key.
    Volume,
    /// It is bound to no data: LUKS2's unbound key.
    None,
}

/// What can be told of a keyslot without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyslotSummary {
    /// Its number.
    pub id: u32,
    /// Its type: `luks1`, `luks2`, `reencrypt` or some other tool's.
    pub kind: String,
    /// When it is tried.
    pub priority: Priority,
    /// Whether it holds the volume key.
    pub binding: Binding,
    /// Its key derivation; `None` when it has none that is known here.
    pub kdf: Option<Kdf>,
}

/// Returns how many bytes from the start of the device [`Header::parse`] needs, judging by those
/// that were read already.
///
/// Begin with 4096 and read more until it is enough (or all): a damaged primary copy is only seen
/// once it was read whole, and the places of a secondary one reach up to 8 MiB. It is never more.
pub fn head_len(read: &[u8]) -> usize {
    match wire::u16_at(read, 6) {
        Ok(1) if read.get(..6) == Some(Version::MAGIC) => 4096,
        _ => luks2::head_len(read),
    }
}

impl Header {
    /// Reads a header from `head`, the first [`head_len`] bytes (or all) of a device of
    /// `device_len` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::NotLuks`] when there is none; [`Error::FormattedClone`], which only
    /// [`Header::parse_formatted_clone`] reads; otherwise what is wrong with it. A header whose primary copy lost its magic may be what is left under a new file system:
    /// [`Error::PrimaryLost`], only [`Header::repair`] takes it.
    pub fn parse(head: &[u8], device_len: u64) -> Result<Found, Error> {
        let found = Self::parse_damaged(head, device_len)?;
        found.refuse_lost_primary(head)?;
        Ok(found)
    }

    fn parse_damaged(head: &[u8], device_len: u64) -> Result<Found, Error> {
        if is_formatted_clone(head) {
            return Err(Error::FormattedClone);
        }
        if head.get(..6) == Some(Version::MAGIC) {
            match wire::u16_at(head, 6)? {
                1 => {
                    let header = luks1::Header::parse(head, device_len)?;
                    return Ok(Found { header: Self::Luks1(header), recovery: None });
                }
                2 => {}
                version => return Err(Error::UnknownVersion { version }),
            }
        }
        let (header, damage) = luks2::read(head, device_len)?;
        Ok(Found { header: Self::Luks2(header), recovery: damage.map(Recovery) })
    }

    /// Returns where the second copy of a LUKS2 header begins, and the magic with which it does.
    /// An unfinished volume must not bear it any more than that of the first copy.
    pub fn second_magic(&self) -> Option<(u64, &'static [u8])> {
        match self {
            Self::Luks1(_) => None,
            Self::Luks2(header) => Some((header.binary().hdr_size, luks2::Copy::Secondary.magic())),
        }
    }

    /// Returns the repaired header, the change and what was done; `None` when nothing is wrong.
    ///
    /// # Errors
    ///
    /// When the damage is beyond repair without a header backup; [`Error::PrimaryLost`] when the
    /// repair goes further than `scope`.
    pub fn repair(
        head: &[u8],
        device_len: u64,
        scope: RepairScope,
        rng: &mut dyn CryptoRng,
    ) -> Result<Option<(Self, Change, Vec<String>)>, Error> {
        if head.get(..6) == Some(Version::MAGIC) && wire::u16_at(head, 6)? == 1 {
            let repaired = luks1::repair(head, device_len)?;
            return Ok(repaired.map(|(header, change, done)| (Self::Luks1(header), change, done)));
        }
        let found = Self::parse_damaged(head, device_len)?;
        if scope == RepairScope::SureDamage {
            found.refuse_lost_primary(head)?;
        }
        match (found.header, found.recovery) {
            (Self::Luks2(header), Some(Recovery(damage))) => {
                let (header, change) = header.recover(&damage, rng);
                let done = format!("wrote the {} copy anew: {}", damage.name(), damage.reason);
                Ok(Some((Self::Luks2(header), change, vec![done])))
            }
            _ => Ok(None),
        }
    }

    /// Returns the format.
    pub fn version(&self) -> Version {
        match self {
            Self::Luks1(_) => Version::Luks1,
            Self::Luks2(_) => Version::Luks2,
        }
    }

    /// Returns the volume's UUID as it stands in the header.
    pub fn uuid(&self) -> &str {
        match self {
            Self::Luks1(header) => &header.uuid,
            Self::Luks2(header) => &header.binary().uuid,
        }
    }

    /// Returns the digest of the volume key, salted: it stays what it is while keyslots come and go.
    /// `None` where the header has none for its data.
    pub fn volume_key_digest(&self) -> Option<&[u8]> {
        match self {
            Self::Luks1(header) => Some(&header.digest),
            Self::Luks2(header) => {
                let metadata = header.metadata();
                let (_, digest) = metadata.digest_of_segment(*metadata.segments.keys().next()?)?;
                match &digest.kind {
                    luks2::DigestKind::Pbkdf2 { digest, .. } => Some(digest),
                    luks2::DigestKind::Unknown { .. } => None,
                }
            }
        }
    }

    /// Returns the number that goes up with every change, `None` for LUKS1, which has none.
    pub fn sequence_id(&self) -> Option<u64> {
        match self {
            Self::Luks1(_) => None,
            Self::Luks2(header) => Some(header.binary().seqid),
        }
    }

    /// Returns where the data lies on a data device of `data_len` bytes.
    ///
    /// # Errors
    ///
    /// Says why the data cannot be opened.
    pub fn payload(&self, data_len: u64) -> Result<Payload, Error> {
        match self {
            Self::Luks1(header) => header.payload(data_len),
            Self::Luks2(header) => header.payload(data_len),
        }
    }

    /// Returns the keyslots in use, by number.
    pub fn keyslots(&self) -> Vec<KeyslotSummary> {
        match self {
            Self::Luks1(header) => (0..)
                .zip(&header.keyslots)
                .filter(|(_, keyslot)| keyslot.active)
                .map(|(id, keyslot)| KeyslotSummary {
                    id,
                    kind: "luks1".to_owned(),
                    priority: Priority::Normal,
                    binding: Binding::Volume,
                    kdf: header
                        .hash()
                        .ok()
                        .map(|hash| Kdf::Pbkdf2 { hash, iterations: keyslot.iterations }),
                })
                .collect(),
            Self::Luks2(header) => header.summaries(),
        }
    }

    /// Returns the keyslots that a passphrase is tried on, in order.
    ///
    /// # Errors
    ///
    /// [`Error::NoKeyslots`] when there is none.
    pub fn keyslots_to_try(&self) -> Result<Vec<u32>, Error> {
        let order = match self {
            Self::Luks1(_) => self.keyslots().into_iter().map(|keyslot| keyslot.id).collect(),
            Self::Luks2(header) => header.order(),
        };
        if self.keyslots().is_empty() { Err(Error::NoKeyslots) } else { Ok(order) }
    }

    /// Returns the range of the device that holds the key material of keyslot `id`: what
    /// [`Header::open_keyslot`] needs, at most 16 MiB whatever the header claims.
    ///
    /// # Errors
    ///
    /// When there is no such keyslot, or it is of a type that no passphrase opens.
    pub fn keyslot_area(&self, id: u32) -> Result<Range<u64>, Error> {
        match self {
            Self::Luks1(header) => Ok(header.area(header.active(id)?)),
            Self::Luks2(header) => {
                header.luks2_keyslot(id)?;
                let keyslot = header.keyslot(id)?;
                let len = key_material::sealed_len(keyslot.key_size as usize) as u64;
                Ok(keyslot.area.offset..keyslot.area.offset + len)
            }
        }
    }

    /// Returns the whole area of keyslot `id`, of whatever type it is.
    pub(crate) fn whole_area(&self, id: u32) -> Result<Range<u64>, Error> {
        match self {
            Self::Luks1(header) => Ok(header.area(header.active(id)?)),
            Self::Luks2(header) => Ok(header.keyslot(id)?.area.range()),
        }
    }

    /// Returns the nominal time that trying a passphrase on keyslot `id` takes, the check of the key
    /// included.
    ///
    /// # Errors
    ///
    /// When it cannot be tried.
    pub fn keyslot_cost(&self, id: u32) -> Result<Duration, Error> {
        let derivations = match self {
            Self::Luks1(header) => header.derivations(id)?,
            Self::Luks2(header) => header.derivations(id)?,
        };
        let times = derivations.iter().map(|(kdf, out_len)| kdf.nominal_time(*out_len));
        Ok(times.fold(Duration::ZERO, Duration::saturating_add))
    }

    /// Returns the key in keyslot `id`; `area` are the bytes of its [`area`](Self::keyslot_area).
    ///
    /// # Errors
    ///
    /// [`Error::WrongPassphrase`] when the passphrase is another; otherwise why it cannot be tried,
    /// such as that derivation and check of the key together cost more than `policy` allows.
    pub fn open_keyslot(
        &self,
        id: u32,
        area: &[u8],
        passphrase: &Passphrase,
        policy: &CostPolicy,
    ) -> Result<VolumeKey, Error> {
        match self {
            Self::Luks1(header) => header.open(id, area, passphrase, policy),
            Self::Luks2(header) => header.open(id, area, passphrase, policy),
        }
    }

    /// Checks that `key` is the volume key.
    ///
    /// # Errors
    ///
    /// [`Error::WrongVolumeKey`] when it is not.
    pub fn verify_volume_key(&self, key: &VolumeKey, policy: &CostPolicy) -> Result<(), Error> {
        match self {
            Self::Luks1(header) => header.verify(key, policy),
            Self::Luks2(header) => header.verify(key, policy),
        }
    }

    /// Returns what a further keyslot is like when nobody says otherwise.
    ///
    /// # Errors
    ///
    /// When the header's own cipher or hash is unknown here.
    pub fn default_keyslot(&self) -> Result<NewKeyslot, Error> {
        let (kdf, af_hash, area_encryption) = match self {
            Self::Luks1(header) => {
                let hash = header.hash()?;
                (Kdf::default_pbkdf2(hash), hash, header.encryption()?)
            }
            Self::Luks2(header) => (Kdf::DEFAULT_ARGON2ID, Hash::Sha256, header.area_encryption()),
        };
        let (id, priority, binding) = (None, Priority::Normal, Binding::Volume);
        Ok(NewKeyslot { id, kdf, priority, af_hash, area_encryption, binding })
    }

    /// Seals `key` in a free keyslot. Returns its number, the new header and the change.
    ///
    /// # Errors
    ///
    /// When no keyslot or no room is free, the options do not fit, or `key` is not the volume key.
    pub fn add_keyslot(
        &self,
        key: &VolumeKey,
        passphrase: &Passphrase,
        new: &NewKeyslot,
        policy: &CostPolicy,
        rng: &mut dyn CryptoRng,
    ) -> Result<(u32, Self, Change), Error> {
        match self {
            Self::Luks1(header) => {
                if new.binding == Binding::None || new.priority != Priority::Normal {
                    return Err(Error::unfit(
                        Version::Luks1,
                        "it has no unbound keys and no priorities",
                    ));
                }
                header.verify(key, policy)?;
                let (id, header, change) = header.add_keyslot(key, passphrase, new, policy, rng)?;
                Ok((id, Self::Luks1(header), change))
            }
            Self::Luks2(header) => {
                let (id, header, change) = header.add_keyslot(key, passphrase, new, policy, rng)?;
                Ok((id, Self::Luks2(header), change))
            }
        }
    }

    /// Wipes keyslot `id`. Returns the new header and the change.
    ///
    /// # Errors
    ///
    /// [`Error::LastKeyslot`] when no other keyslot that a passphrase opens holds the volume key.
    pub fn remove_keyslot(
        &self,
        id: u32,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, Change), Error> {
        self.whole_area(id)?;
        let keyslots = self.keyslots();
        let bound = |keyslot: &KeyslotSummary| keyslot.binding == Binding::Volume;
        // Those of other tools, or of a re-encryption, open for no passphrase.
        let opens = |keyslot: &KeyslotSummary| {
            bound(keyslot) && matches!(keyslot.kind.as_str(), "luks1" | "luks2")
        };
        let was_bound = keyslots.iter().any(|keyslot| keyslot.id == id && bound(keyslot));
        if was_bound && !keyslots.iter().any(|keyslot| keyslot.id != id && opens(keyslot)) {
            return Err(Error::LastKeyslot { id });
        }
        self.wipe_keyslot(id, rng)
    }

    /// Seals `key` under a new passphrase in the place of keyslot `old`.
    ///
    /// The new keyslot is whole before the old one is wiped. LUKS2 keeps the number, with the
    /// tokens that name it; LUKS1, whose numbers are places, does not. The key must be the one that
    /// the old keyslot holds, be that the volume key or an unbound one; `new` has no say in that,
    /// nor in the number.
    ///
    /// # Errors
    ///
    /// As [`Header::add_keyslot`].
    pub fn change_keyslot(
        &self,
        old: u32,
        key: &VolumeKey,
        passphrase: &Passphrase,
        new: &NewKeyslot,
        policy: &CostPolicy,
        rng: &mut dyn CryptoRng,
    ) -> Result<(u32, Self, Change), Error> {
        let new = NewKeyslot { id: None, binding: Binding::Volume, ..*new };
        match self {
            Self::Luks1(header) => {
                header.active(old)?;
                let (id, added, mut change) =
                    self.add_keyslot(key, passphrase, &new, policy, rng)?;
                let (header, wiped) = added.wipe_keyslot(old, rng)?;
                change.append(wiped);
                Ok((id, header, change))
            }
            Self::Luks2(header) => {
                let (header, change) =
                    header.change_keyslot(old, key, passphrase, &new, policy, rng)?;
                Ok((old, Self::Luks2(header), change))
            }
        }
    }

    /// Wipes every keyslot: nobody opens the volume again without a header backup.
    ///
    /// # Errors
    ///
    /// When the header may not be changed.
    pub fn erase(&self, rng: &mut dyn CryptoRng) -> Result<(Self, Change), Error> {
        match self {
            Self::Luks1(_) => {
                let (mut header, mut change) = (self.clone(), Change::default());
                for keyslot in self.keyslots() {
                    let (next, wiped) = header.wipe_keyslot(keyslot.id, rng)?;
                    header = next;
                    change.append(wiped);
                }
                Ok((header, change))
            }
            Self::Luks2(header) => {
                let (header, change) = header.erase(rng)?;
                Ok((Self::Luks2(header), change))
            }
        }
    }

    /// Returns the change that writes a damaged copy anew.
    pub fn recover(&self, recovery: &Recovery, rng: &mut dyn CryptoRng) -> (Self, Change) {
        match self {
            Self::Luks1(_) => (self.clone(), Change::default()),
            Self::Luks2(header) => {
                let (header, change) = header.recover(&recovery.0, rng);
                (Self::Luks2(header), change)
            }
        }
    }

    fn wipe_keyslot(&self, id: u32, rng: &mut dyn CryptoRng) -> Result<(Self, Change), Error> {
        Ok(match self {
            Self::Luks1(header) => {
                let (header, change) = header.remove_keyslot(id, rng)?;
                (Self::Luks1(header), change)
            }
            Self::Luks2(header) => {
                let (header, change) = header.remove_keyslot(id, rng)?;
                (Self::Luks2(header), change)
            }
        })
    }
}

/// What only LUKS2 has: labels, priorities and tokens. Each returns the new header and the change.
impl luks2::Header {
    /// Changes label and subsystem; `None` keeps one.
    ///
    /// # Errors
    ///
    /// When one is too long.
    pub fn set_labels(
        &self,
        label: Option<&str>,
        subsystem: Option<&str>,
    ) -> Result<(Self, Change), Error> {
        self.labelled(label, subsystem).map(Self::with_change)
    }

    /// Changes when keyslot `id` is tried.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn set_priority(&self, id: u32, priority: Priority) -> Result<(Self, Change), Error> {
        self.with_priority(id, priority).map(Self::with_change)
    }

    /// Returns token `id` as JSON text.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn export_token(&self, id: u32) -> Result<String, Error> {
        self.token_text(id)
    }

    /// Adds a token from JSON text; returns its number as well.
    ///
    /// # Errors
    ///
    /// When the text is no token, or the number is taken.
    pub fn import_token(&self, id: Option<u32>, text: &str) -> Result<(u32, Self, Change), Error> {
        let (id, header) = self.with_token(id, text)?;
        let (header, change) = header.with_change();
        Ok((id, header, change))
    }

    /// Removes token `id`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn remove_token(&self, id: u32) -> Result<(Self, Change), Error> {
        self.without_token(id).map(Self::with_change)
    }

    /// Assigns token `id` to exactly these keyslots.
    ///
    /// # Errors
    ///
    /// When the token or a keyslot is missing.
    pub fn assign_token(&self, id: u32, keyslots: &[u32]) -> Result<(Self, Change), Error> {
        self.with_token_keyslots(id, keyslots).map(Self::with_change)
    }

    fn with_change(self) -> (Self, Change) {
        let mut change = Change::default();
        self.write(&mut change);
        (self, change)
    }

    fn summaries(&self) -> Vec<KeyslotSummary> {
        let kind = |keyslot: &luks2::Keyslot| match &keyslot.kind {
            KeyslotKind::Luks2(_) => "luks2".to_owned(),
            KeyslotKind::Reencrypt { .. } => "reencrypt".to_owned(),
            KeyslotKind::Unknown { kind } => kind.clone(),
        };
        self.metadata()
            .keyslots
            .iter()
            .map(|(&id, keyslot)| KeyslotSummary {
                id,
                kind: kind(keyslot),
                priority: keyslot.priority,
                binding: if self.is_bound(id) { Binding::Volume } else { Binding::None },
                kdf: self.derivation_of(id),
            })
            .collect()
    }
}

impl Found {
    /// Refuses to take a secondary copy for the header of a device that bears something else.
    fn refuse_lost_primary(&self, head: &[u8]) -> Result<(), Error> {
        let (Header::Luks2(header), Some(Recovery(damage))) = (&self.header, &self.recovery) else {
            return Ok(());
        };
        match luks2::overwritten(head).filter(|_| damage.name() == "primary") {
            Some(found) => Err(Error::PrimaryLost { found, secondary: header.binary().hdr_size }),
            None => Ok(()),
        }
    }
}

impl Recovery {
    /// Returns `primary` or `secondary`.
    pub fn copy(&self) -> &'static str {
        self.0.name()
    }

    /// Returns what is wrong with the copy.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }
}

/// Returns what a device bears instead of LUKS: a file system, a partition table, a qcow2 image.
pub fn other_signature(head: &[u8]) -> Option<&'static str> {
    foreign_signature(head)
}
