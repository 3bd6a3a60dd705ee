//! LUKS1 to LUKS2 and back, in place.
//!
//! The data stays where it is, and so does key material wherever it can. The LUKS2 headers take
//! the first 32 KiB, where keyslot 0 of LUKS1 usually has its area; that one is moved first, into
//! the area of a keyslot that is not in use. At every moment one of the two headers is valid.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand_core::CryptoRng;
use serde_json::{Map, Value, json};
use strongroom_crypto::{Hash, Kdf};

use crate::luks1::SECTOR;
use crate::luks2::{
    BinaryHeader, DigestKind, Document, KeyslotKind, SegmentKind, SegmentLength, keyslot_area_len,
};
use crate::{Change, Error, Step, Version, af, areas, luks1, luks2};

/// Returns the LUKS2 header that replaces `header`, and the change that does it.
///
/// `head` are the device's bytes up to the end of the last keyslot area.
///
/// # Errors
///
/// [`Error::Unfit`] says what stands in the way.
pub fn to_luks2(
    header: &luks1::Header,
    head: &[u8],
    rng: &mut dyn CryptoRng,
) -> Result<(luks2::Header, Change), Error> {
    refuse_partition_table(header, 6, Version::Luks2)?;
    let mut change = Change::default();
    let (moved, abandoned) = move_out_of_the_way(header, head, &mut change)?;
    let converted = luks2_header(&moved, rng)?;
    if header.payload_offset == 0 {
        fill_up(&moved, converted.total_len(), &mut change);
    }
    let mut headers = Change::default();
    converted.write(&mut headers);
    let [Step::Write { bytes: primary, .. }, _, secondary, _] = headers.steps() else {
        unreachable!("a header is written as two copies, each flushed");
    };
    if let Step::Write { offset, bytes } = secondary {
        change.write(*offset, bytes.clone());
        change.flush();
    }
    // The first sector decides which format the device has. Once it is LUKS2's, the secondary
    // copy already holds until the primary one is whole.
    let (first, rest) = primary.split_at(SECTOR as usize);
    let (second, json) = rest.split_at(BINARY_LEN - SECTOR as usize);
    for (offset, bytes) in [(BINARY_LEN as u64, json), (0, first), (SECTOR, second)] {
        change.write(offset, bytes.to_vec());
        change.flush();
    }
    if let Some(range) = abandoned.filter(|range| range.end > HEADERS_LEN) {
        luks2::Header::wipe(&mut change, range.start.max(HEADERS_LEN)..range.end, rng);
    }
    Ok((converted, change))
}

/// Returns the LUKS1 header that replaces `header` on a device of `device_len` bytes, and the
/// change that does it.
///
/// # Errors
///
/// [`Error::Unfit`] says what LUKS1 does not have, or that its eight keyslots do not fit.
pub fn to_luks1(header: &luks2::Header, device_len: u64) -> Result<(luks1::Header, Change), Error> {
    let converted = luks1_header(header)?;
    let end = converted.keyslots.iter().map(|slot| converted.area(slot).end).max().unwrap_or(0);
    if end > device_len {
        return Err(Error::unfit(
            Version::Luks1,
            format!(
                "its {} keyslots need {end} bytes, the device has {device_len}: enlarge it first",
                luks1::KEYSLOTS
            ),
        ));
    }
    luks1::Header::parse(&converted.to_bytes(), device_len)?;
    refuse_partition_table(&converted, 6, Version::Luks1)?;
    let bytes = converted.to_bytes();
    let (first, second) = bytes.split_at(SECTOR as usize);
    let mut change = Change::default();
    for (offset, bytes) in [(SECTOR, second), (0, first)] {
        change.write(offset, bytes.to_vec());
        change.flush();
    }
    // Nothing of LUKS2 may be found later.
    let len = header.headers_len() as usize - bytes.len();
    change.write(bytes.len() as u64, vec![0; len]);
    change.flush();
    Ok((converted, change))
}

/// Refuses a LUKS1 header whose second sector begins like a partition table.
///
/// Between the writes of a conversion that sector stands behind the first one of a LUKS2 header,
/// whose reader would then believe that a partition table took the place of the primary copy, and
/// leave the secondary one alone. Only a salt that somebody chose begins so; it is that of keyslot
/// `of`, which stands in keyslot 6.
fn refuse_partition_table(header: &luks1::Header, of: u32, to: Version) -> Result<(), Error> {
    let bytes = header.to_bytes();
    if !bytes.split_at(SECTOR as usize).1.starts_with(luks2::GPT_MAGIC) {
        return Ok(());
    }
    let [.., keyslot, _] = &header.keyslots;
    let way_out = match keyslot.active {
        true => "give its passphrase another keyslot, then remove it",
        false => "it is not in use, so repair the header",
    };
    let problem = format!("the salt of keyslot {of} reads like a GPT partition table: {way_out}");
    Err(Error::unfit(to, problem))
}

/// Moves key material out of the first 32 KiB. Returns the LUKS1 header that the LUKS2 header
/// stands for, and the range that was left.
///
/// The LUKS1 header lies across two sectors, and a write torn between them must leave one that
/// opens. So either a free keyslot takes the key beside the old one before that is given up, or
/// nothing changes but the old one's offset.
fn move_out_of_the_way(
    header: &luks1::Header,
    head: &[u8],
    change: &mut Change,
) -> Result<(luks1::Header, Option<Range<u64>>), Error> {
    let mut moved = header.clone();
    let in_the_way = (0u32..)
        .zip(&header.keyslots)
        .find(|(_, keyslot)| keyslot.active && header.area(keyslot).start < HEADERS_LEN);
    let Some((id, keyslot)) = in_the_way else { return Ok((moved, None)) };
    let from = header.area(keyslot);
    let material = head.get(from.start as usize..from.end as usize).ok_or(Error::Truncated {
        what: "the key material",
        needed: from.end,
        available: head.len() as u64,
    })?;
    let free = (0u32..)
        .zip(&header.keyslots)
        .find(|(_, keyslot)| !keyslot.active && header.area(keyslot).start >= HEADERS_LEN);
    if let Some((free, place)) = free {
        change.write(header.area(place).start, material.to_vec());
        change.flush();
        let mut both = header.clone();
        *both.keyslot_mut(free) = luks1::Keyslot { offset: place.offset, ..keyslot.clone() };
        // The salt comes along, and may be what it was not where it was.
        refuse_partition_table(&both, id, Version::Luks2)?;
        both.write(change);
        let given_up = both.keyslot_mut(id);
        given_up.active = false;
        both.write(change);
        moved.keyslot_mut(id).offset = place.offset;
        moved.keyslot_mut(free).offset = keyslot.offset;
    } else {
        let to = gap_behind(header)?;
        change.write(to, material.to_vec());
        change.flush();
        moved.keyslot_mut(id).offset =
            u32::try_from(to / SECTOR).map_err(|_| Error::NoRoom { needed: header.area_len() })?;
        moved.write(change);
    }
    Ok((moved, Some(from)))
}

/// Returns the offset of room that no keyslot has, in use or not. A detached header may grow.
fn gap_behind(header: &luks1::Header) -> Result<u64, Error> {
    let end = match u64::from(header.payload_offset) * SECTOR {
        0 => luks2::MAX_KEYSLOTS_AREA,
        payload => payload,
    };
    let taken = header.keyslots.iter().map(|keyslot| header.area(keyslot));
    areas::first_gap(HEADERS_LEN..end, taken, header.area_len(), luks2::ALIGNMENT).ok_or_else(
        || {
            Error::unfit(
                Version::Luks1,
                "there is no free keyslot whose area could take the key material that must make \
                 way for the LUKS2 headers",
            )
        },
    )
}

/// Makes the file of a detached header as long as LUKS2 has it end.
fn fill_up(header: &luks1::Header, end: u64, change: &mut Change) {
    let active = header.keyslots.iter().filter(|keyslot| keyslot.active);
    let last = active.map(|keyslot| header.area(keyslot).end).max().unwrap_or(HEADERS_LEN);
    if let Some(missing) = end.checked_sub(last).filter(|missing| *missing > 0) {
        change.write(last, vec![0; missing as usize]);
        change.flush();
    }
}

fn luks2_header(header: &luks1::Header, rng: &mut dyn CryptoRng) -> Result<luks2::Header, Error> {
    let encryption = header.encryption()?;
    let hash = header.hash()?;
    // Without one, LUKS2 has no place for the length of the volume key.
    if !header.keyslots.iter().any(|keyslot| keyslot.active) {
        return Err(Error::NoKeyslots);
    }
    let data_offset = u64::from(header.payload_offset) * SECTOR;
    let active = || (0u32..).zip(&header.keyslots).filter(|(_, keyslot)| keyslot.active);
    let end = active().map(|(_, keyslot)| header.area(keyslot).end).max().unwrap_or(HEADERS_LEN);
    let keyslots_end = match data_offset {
        0 => end.next_multiple_of(luks2::ALIGNMENT),
        offset => offset - offset % luks2::ALIGNMENT,
    };
    let mut document = Document(Map::new());
    let area_size = area_size(header, keyslots_end);
    let cipher = format!("{}-{}", header.cipher_name, header.cipher_mode);
    let keyslots = document.section("keyslots");
    for (id, keyslot) in active() {
        let kdf = Kdf::Pbkdf2 { hash, iterations: keyslot.iterations };
        keyslots.insert(
            id.to_string(),
            json!({
                "type": "luks2",
                "key_size": header.key_bytes,
                "af": { "type": "luks1", "stripes": af::STRIPES, "hash": hash.name() },
                "area": {
                    "type": "raw",
                    "offset": header.area(keyslot).start.to_string(),
                    "size": area_size.to_string(),
                    "encryption": cipher,
                    "key_size": encryption.key_size().bytes(),
                },
                "kdf": luks2::kdf_object(kdf, &keyslot.salt),
            }),
        );
    }
    document.section("tokens");
    document.section("segments").insert(
        "0".to_owned(),
        json!({
            "type": "crypt",
            "offset": data_offset.to_string(),
            "size": "dynamic",
            "iv_tweak": "0",
            "encryption": cipher,
            "sector_size": SECTOR,
        }),
    );
    let ids: Vec<Value> = active().map(|(id, _)| Value::String(id.to_string())).collect();
    document.section("digests").insert(
        "0".to_owned(),
        json!({
            "type": "pbkdf2",
            "keyslots": ids,
            "segments": ["0"],
            "hash": hash.name(),
            "iterations": header.digest_iterations,
            "salt": STANDARD.encode(header.digest_salt),
            "digest": STANDARD.encode(header.digest),
        }),
    );
    let room = keyslots_end.saturating_sub(HEADERS_LEN).min(luks2::MAX_KEYSLOTS_AREA);
    let config = document.section("config");
    let json_size = HEADERS_LEN / 2 - BINARY_LEN as u64;
    config.insert("json_size".to_owned(), Value::String(json_size.to_string()));
    let keyslots_size = room - room % luks2::ALIGNMENT;
    config.insert("keyslots_size".to_owned(), Value::String(keyslots_size.to_string()));
    let mut salts = [[0; 64]; 2];
    for salt in &mut salts {
        rng.fill_bytes(salt);
    }
    let binary = BinaryHeader {
        hdr_size: HEADERS_LEN / 2,
        seqid: 1,
        label: String::new(),
        checksum_hash: Hash::Sha256,
        salts,
        uuid: header.uuid.clone(),
        subsystem: String::new(),
    };
    luks2::Header::new(binary, document)
}

/// Returns the size that LUKS2 gives an area, or the bare need where the slots lie more tightly.
fn area_size(header: &luks1::Header, keyslots_end: u64) -> u64 {
    let usual = keyslot_area_len(header.key_bytes as usize);
    let mut starts: Vec<u64> = header
        .keyslots
        .iter()
        .filter(|keyslot| keyslot.active)
        .map(|keyslot| header.area(keyslot).start)
        .chain([keyslots_end])
        .collect();
    starts.sort_unstable();
    let tight = starts.iter().zip(starts.iter().skip(1)).any(|(one, next)| next - one < usual);
    if tight { header.area_len() } else { usual }
}

fn luks1_header(header: &luks2::Header) -> Result<luks1::Header, Error> {
    header.refuse_unknown_requirements()?;
    let metadata = header.metadata();
    let unfit = |problem: &str| Err(Error::unfit(Version::Luks1, problem));
    if !header.binary().label.is_empty() || !header.binary().subsystem.is_empty() {
        return unfit("the header has a label or subsystem: clear them first");
    }
    if !metadata.tokens.is_empty() {
        return unfit("the header has tokens: remove them first");
    }
    if !metadata.config.flags.is_empty() {
        return unfit("the header has persistent flags: they would be lost");
    }
    let (Some((_, bound)), 1, 1) =
        (metadata.digests.first_key_value(), metadata.digests.len(), metadata.segments.len())
    else {
        return unfit("the header has several digests or segments");
    };
    let DigestKind::Pbkdf2 { hash, iterations, salt, digest } = &bound.kind else {
        return unfit("the digest is not pbkdf2");
    };
    let Some(segment) = metadata.segments.get(&0) else {
        return unfit("segment 0 is missing");
    };
    let SegmentKind::Crypt { iv_tweak: 0, encryption, sector_size: 512, integrity: None } =
        &segment.kind
    else {
        return unfit("the data has sectors larger than 512 bytes, an IV offset or integrity tags");
    };
    let (cipher_name, cipher_mode) = match encryption.split_once('-') {
        Some((name, mode)) if name.len() < FIELD_LEN && mode.len() < FIELD_LEN => (name, mode),
        Some(_) => return unfit("the name of the data's cipher is too long"),
        None => return unfit("the data's cipher has no mode"),
    };
    if hash.len() >= FIELD_LEN {
        return unfit("the name of the digest's hash is too long");
    }
    if segment.length != SegmentLength::Dynamic {
        return unfit("the data does not reach to the end of the device");
    }
    let payload_offset = u32::try_from(segment.offset / SECTOR)
        .map_err(|_| Error::unfit(Version::Luks1, "the data begins beyond 2 TiB"))?;
    let key_bytes = metadata.keyslots.values().map(|keyslot| keyslot.key_size).next();
    let too_short = || Error::unfit(Version::Luks1, "the digest is too short");
    let empty = luks1::Keyslot {
        active: false,
        iterations: 0,
        salt: [0; 32],
        offset: 0,
        stripes: af::STRIPES,
    };
    let mut converted = luks1::Header {
        cipher_name: cipher_name.to_owned(),
        cipher_mode: cipher_mode.to_owned(),
        hash_spec: hash.clone(),
        payload_offset,
        key_bytes: key_bytes.ok_or(Error::NoKeyslots)?,
        // PBKDF2's output for 20 bytes is the beginning of that for more.
        digest: *digest.first_chunk().ok_or_else(too_short)?,
        digest_salt: *salt.first_chunk().ok_or_else(too_short)?,
        digest_iterations: *iterations,
        uuid: header.uuid_text(),
        keyslots: std::array::from_fn(|_| empty.clone()),
    };
    for (&id, keyslot) in &metadata.keyslots {
        let target = luks1_keyslot(id, keyslot, hash, encryption, converted.key_bytes)?;
        *converted.keyslot_mut(id) = target;
    }
    converted.place_inactive_keyslots(luks1::ALIGNMENT)?;
    luks1::Header::parse(&converted.to_bytes(), u64::MAX)
}

fn luks1_keyslot(
    id: u32,
    keyslot: &luks2::Keyslot,
    hash: &str,
    encryption: &str,
    key_bytes: u32,
) -> Result<luks1::Keyslot, Error> {
    let unfit = |problem: &str| Error::unfit(Version::Luks1, format!("keyslot {id} {problem}"));
    if id as usize >= luks1::KEYSLOTS {
        return Err(unfit("has a number above 7"));
    }
    let KeyslotKind::Luks2(luks2) = &keyslot.kind else {
        return Err(unfit("is of a type that LUKS1 does not have"));
    };
    if keyslot.priority != luks2::Priority::Normal {
        return Err(unfit("has a priority: set it to normal first"));
    }
    let luks2::Kdf::Pbkdf2 { hash: kdf_hash, iterations } = &luks2.kdf else {
        return Err(unfit("has argon2: change it to pbkdf2 first"));
    };
    if kdf_hash != hash || luks2.af_hash != hash {
        return Err(unfit("has another hash than the digest"));
    }
    if luks2.encryption != encryption || luks2.area_key_size != key_bytes {
        return Err(unfit("is encrypted another way than the data"));
    }
    if keyslot.key_size != key_bytes {
        return Err(unfit("holds a key of another length"));
    }
    if !keyslot.area.offset.is_multiple_of(SECTOR) {
        return Err(unfit("has an area that does not begin at a sector"));
    }
    Ok(luks1::Keyslot {
        active: true,
        iterations: *iterations,
        salt: *luks2.salt.first_chunk().ok_or_else(|| unfit("has a short salt"))?,
        offset: u32::try_from(keyslot.area.offset / SECTOR)
            .map_err(|_| unfit("lies beyond 2 TiB"))?,
        stripes: af::STRIPES,
    })
}

impl luks2::Header {
    fn uuid_text(&self) -> String {
        self.binary().uuid.clone()
    }
}

/// What both copies of a converted header take.
const HEADERS_LEN: u64 = 32 << 10;

/// The room for each name in a LUKS1 header, a NUL included.
const FIELD_LEN: usize = 32;

/// What the binary header of a copy takes.
const BINARY_LEN: usize = luks2::MIN_LEN;

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;
    use strongroom_crypto::{CostPolicy, Passphrase};

    use super::*;
    use crate::{FormatOptions, Header};

    fn formatted(version: Version) -> Header {
        let kdf = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 1000 };
        let options = FormatOptions { kdf, ..FormatOptions::new(version) };
        let passphrase = Passphrase::new(b"passphrase".to_vec());
        let rng = &mut ChaCha20Rng::seed_from_u64(1);
        options.format(&passphrase, &CostPolicy::default(), rng).unwrap().header
    }

    fn problem_of_luks2_with(member: &str, values: &[(&str, Value)]) -> String {
        let Header::Luks2(header) = formatted(Version::Luks2) else { unreachable!() };
        assert!(to_luks1(&header, u64::MAX).is_ok());
        let changed = header.edited(|document| {
            for (section, value) in values {
                let object = &mut document.section(section)["0"];
                match *section {
                    "keyslots" => object["area"][member] = value.clone(),
                    _ => object[member] = value.clone(),
                }
            }
        });
        to_luks1(&changed.unwrap(), u64::MAX).unwrap_err().to_string()
    }

    #[test]
    fn refuses_to_forget_where_the_data_end() {
        let problem = problem_of_luks2_with("size", &[("segments", json!("1048576"))]);
        assert!(problem.contains("does not reach to the end"), "{problem}");
    }

    #[test]
    fn refuses_a_name_that_luks1_has_no_room_for() {
        let long = json!(format!("aes-{}", "x".repeat(2000)));
        let values = [("segments", long.clone()), ("keyslots", long)];
        let problem = problem_of_luks2_with("encryption", &values);
        assert!(problem.contains("is too long"), "{problem}");
    }

    #[test]
    fn refuses_luks1_without_a_keyslot() {
        let rng = &mut ChaCha20Rng::seed_from_u64(1);
        let (erased, _) = formatted(Version::Luks1).erase(rng).unwrap();
        let Header::Luks1(erased) = erased else { unreachable!() };
        assert_eq!(to_luks2(&erased, &[], rng).unwrap_err(), Error::NoKeyslots);
    }
}
