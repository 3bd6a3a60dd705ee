//! A new LUKS2 header.

use rand_core::CryptoRng;
use serde_json::{Map, Value, json};
use strongroom_crypto::{CostPolicy, Passphrase, VolumeKey};

use super::binary::{BinaryHeader, HEADER_SIZES};
use super::tokens::parsed;
use super::write::check_label;
use super::{ALIGNMENT, Document, Header, MAX_KEYSLOTS_AREA, digests, keyslot_area_len, keyslots};
use crate::format::DEFAULT_DATA_OFFSET;
use crate::{Change, Error, FormatOptions, Version};

/// Returns a header for `key` with one keyslot, and the writes that make it.
pub(crate) fn format(
    options: &FormatOptions,
    key: &VolumeKey,
    passphrase: &Passphrase,
    policy: &CostPolicy,
    rng: &mut dyn CryptoRng,
) -> Result<(Header, Change), Error> {
    check_label(&options.label, "label")?;
    check_label(&options.subsystem, "subsystem")?;
    let layout = Layout::new(options)?;
    let offset = 2 * layout.hdr_size;
    let (keyslot, area) =
        keyslots::sealed_keyslot(key, passphrase, &options.first_keyslot(), offset, policy, rng)?;
    let iterations = options.digest_iterations;
    let mut digest = digests::new(key, options.hash, iterations, policy, rng)?;
    let members = digest.as_object_mut().expect("a new digest is an object");
    for member in ["keyslots", "segments"] {
        members.insert(member.to_owned(), json!(["0"]));
    }
    let mut document = Document(Map::new());
    document.section("keyslots").insert("0".to_owned(), keyslot);
    let tokens = document.section("tokens");
    if let Some(token) = &options.token {
        tokens.insert("0".to_owned(), parsed(0, token)?);
    }
    document.section("segments").insert("0".to_owned(), segment(options, layout.data_offset));
    document.section("digests").insert("0".to_owned(), digest);
    let config = document.section("config");
    config.insert("json_size".to_owned(), text(layout.hdr_size - 4096));
    config.insert("keyslots_size".to_owned(), text(layout.keyslots_size));
    let mut salts = [[0; 64]; 2];
    for salt in &mut salts {
        rng.fill_bytes(salt);
    }
    let binary = BinaryHeader {
        hdr_size: layout.hdr_size,
        seqid: 1,
        label: options.label.clone(),
        checksum_hash: strongroom_crypto::Hash::Sha256,
        salts,
        uuid: options.uuid_or_random(rng)?,
        subsystem: options.subsystem.clone(),
    };
    let header = Header::new(binary, document)?;
    let mut change = Change::default();
    change.write(offset, area);
    change.flush();
    header.write(&mut change);
    Ok((header, change))
}

fn segment(options: &FormatOptions, data_offset: u64) -> Value {
    json!({
        "type": "crypt",
        "offset": data_offset.to_string(),
        "size": "dynamic",
        "iv_tweak": "0",
        "encryption": options.encryption.spec().to_string(),
        "sector_size": options.sector_size.bytes(),
    })
}

fn text(number: u64) -> Value {
    Value::String(number.to_string())
}

/// Where everything lies.
struct Layout {
    hdr_size: u64,
    keyslots_size: u64,
    data_offset: u64,
}

impl Layout {
    /// A data offset that was asked for has priority and shrinks the keyslots area.
    fn new(options: &FormatOptions) -> Result<Self, Error> {
        let unfit = |problem: String| Err(Error::unfit(Version::Luks2, problem));
        let hdr_size = options.metadata_size.unwrap_or(16 << 10);
        if !HEADER_SIZES.contains(&hdr_size) {
            return unfit(format!(
                "a metadata size of {hdr_size} bytes does not exist: use 16 KiB times a power of two, up to 4 MiB"
            ));
        }
        let smallest = keyslot_area_len(options.encryption.key_size().bytes());
        let data_offset = match options.data_offset {
            Some(offset) if offset % SECTOR_ALIGNMENT != 0 => {
                return unfit(format!("data offset {offset} is not a multiple of 4096"));
            }
            Some(offset) if offset < 2 * hdr_size + smallest => {
                return unfit(format!(
                    "data offset {offset} leaves no room for a keyslot: it needs {} bytes",
                    2 * hdr_size + smallest
                ));
            }
            Some(offset) => offset,
            None => DEFAULT_DATA_OFFSET.max((2 * hdr_size + smallest).next_multiple_of(1 << 20)),
        };
        let room = (data_offset - 2 * hdr_size).min(MAX_KEYSLOTS_AREA);
        let keyslots_size = options.keyslots_size.unwrap_or(room - room % ALIGNMENT);
        if keyslots_size > room
            || keyslots_size < smallest
            || !keyslots_size.is_multiple_of(ALIGNMENT)
        {
            return unfit(format!(
                "a keyslots area of {keyslots_size} bytes does not fit: use a multiple of 4096 from {smallest} to {room}"
            ));
        }
        let data_offset = if options.detached { 0 } else { data_offset };
        Ok(Self { hdr_size, keyslots_size, data_offset })
    }
}

/// What data offsets are aligned to, so that every sector size works.
const SECTOR_ALIGNMENT: u64 = 4096;
