//! The rules that bind the metadata's parts together: what cryptsetup refuses, and more.

use std::collections::BTreeMap;

use super::binary::BinaryHeader;
use super::document::Document;
use super::metadata::{
    AreaKind, Config, DigestKind, Kdf, Keyslot, KeyslotKind, MAX_DIGESTS, MAX_OBJECTS, Metadata,
    Segment, SegmentKind, SegmentLength,
};
use super::{ALIGNMENT, MAX_KEYSLOTS_AREA};
use crate::{Error, Version, areas, key_material};

/// Checks every rule.
///
/// # Errors
///
/// [`Error::Invalid`] names the first object that breaks one.
pub(super) fn validate(
    metadata: &Metadata,
    binary: &BinaryHeader,
    document: &Document,
) -> Result<(), Error> {
    sizes(&metadata.config, binary, document)?;
    numbers("keyslot", &metadata.keyslots, MAX_OBJECTS)?;
    numbers("token", &metadata.tokens, MAX_OBJECTS)?;
    numbers("segment", &metadata.segments, MAX_OBJECTS)?;
    numbers("digest", &metadata.digests, MAX_DIGESTS)?;
    references(metadata)?;
    keyslots(metadata, binary)?;
    digests(metadata)?;
    segments(metadata, binary)?;
    segment_digests(metadata)
}

fn sizes(config: &Config, binary: &BinaryHeader, document: &Document) -> Result<(), Error> {
    if config.json_size != binary.json_area_len() {
        return invalid("config", "json_size does not match the header size");
    }
    if !config.keyslots_size.is_multiple_of(ALIGNMENT) {
        return invalid("config", "keyslots_size is not a multiple of 4096");
    }
    if config.keyslots_size > MAX_KEYSLOTS_AREA {
        return invalid("config", "keyslots_size is more than 128 MiB");
    }
    if !document.is_shallow() {
        return invalid("JSON area", "is nested deeper than other tools read");
    }
    // The text ends with a NUL inside its area.
    if document.to_text().len() as u64 >= binary.json_area_len() {
        return invalid("JSON area", "the metadata do not fit");
    }
    Ok(())
}

fn numbers<T>(name: &str, objects: &BTreeMap<u32, T>, limit: u32) -> Result<(), Error> {
    match objects.keys().next_back() {
        Some(&last) if last >= limit => {
            invalid(&format!("{name} {last}"), &format!("the largest number is {}", limit - 1))
        }
        _ => Ok(()),
    }
}

/// Tokens and digests name only what exists.
fn references(metadata: &Metadata) -> Result<(), Error> {
    for (number, token) in &metadata.tokens {
        if let Some(id) = token.keyslots.iter().find(|id| !metadata.keyslots.contains_key(id)) {
            return invalid(
                &format!("token {number}"),
                &format!("names keyslot {id}, which is missing"),
            );
        }
    }
    for (number, digest) in &metadata.digests {
        let part = format!("digest {number}");
        if let Some(id) = digest.keyslots.iter().find(|id| !metadata.keyslots.contains_key(id)) {
            return invalid(&part, &format!("names keyslot {id}, which is missing"));
        }
        if let Some(id) = digest.segments.iter().find(|id| !metadata.segments.contains_key(id)) {
            return invalid(&part, &format!("names segment {id}, which is missing"));
        }
    }
    Ok(())
}

fn keyslots(metadata: &Metadata, binary: &BinaryHeader) -> Result<(), Error> {
    let start = 2 * binary.hdr_size;
    let end = start + metadata.config.keyslots_size;
    let mut earlier: Vec<(u32, std::ops::Range<u64>)> = Vec::new();
    for (&number, keyslot) in &metadata.keyslots {
        let part = format!("keyslot {number}");
        let area = &keyslot.area;
        if area.offset.checked_add(area.size).is_none_or(|area_end| area_end > end) {
            return invalid(&part, "its area ends past the keyslots area");
        }
        if area.offset < start {
            return invalid(&part, "its area begins before the keyslots area");
        }
        if area.size == 0 {
            return invalid(&part, "its area is empty");
        }
        if let Some((other, _)) =
            earlier.iter().find(|(_, other)| areas::overlap(&area.range(), other))
        {
            return invalid(&part, &format!("its area overlaps that of keyslot {other}"));
        }
        earlier.push((number, area.range()));
        keyslot_kind(metadata, number, keyslot)?;
    }
    Ok(())
}

fn keyslot_kind(metadata: &Metadata, number: u32, keyslot: &Keyslot) -> Result<(), Error> {
    let part = format!("keyslot {number}");
    match &keyslot.kind {
        KeyslotKind::Luks2(luks2) => {
            if !(1..=MAX_KEY_SIZE).contains(&keyslot.key_size) {
                return invalid(&part, "key_size is not that of a key");
            }
            if keyslot.area.kind != AreaKind::Raw {
                return invalid(&part, "its area is not of type raw");
            }
            let needed = key_material::sealed_len(keyslot.key_size as usize) as u64;
            if keyslot.area.size < needed {
                return invalid(&part, "its area is too small for its key");
            }
            if luks2.encryption.starts_with("cipher_null") || luks2.encryption == "null" {
                return invalid(&part, "its area has the null cipher, which does not encrypt");
            }
            match luks2.kdf {
                Kdf::Pbkdf2 { iterations: 0, .. } | Kdf::Argon2 { time: 0, .. } => {
                    return invalid(&part, "its key derivation has no iterations");
                }
                Kdf::Argon2 { cpus: 0, .. } => {
                    return invalid(&part, "its key derivation has no lanes");
                }
                _ => {}
            }
            let bound = metadata
                .digests
                .values()
                .filter(|digest| digest.keyslots.contains(&number))
                .count();
            match bound {
                1 => Ok(()),
                0 => invalid(&part, "is bound to no digest"),
                _ => invalid(&part, "is bound to several digests"),
            }
        }
        KeyslotKind::Reencrypt { .. } if keyslot.key_size != 1 => {
            invalid(&part, "key_size of a re-encryption is not 1")
        }
        KeyslotKind::Reencrypt { .. } => match keyslot.area.kind {
            AreaKind::Resilience(ref kind) if RESILIENCE.contains(&kind.as_str()) => Ok(()),
            _ => invalid(&part, "its area is of no type that re-encryption has"),
        },
        KeyslotKind::Unknown { .. } => Ok(()),
    }
}

fn digests(metadata: &Metadata) -> Result<(), Error> {
    for (number, digest) in &metadata.digests {
        let DigestKind::Pbkdf2 { iterations, digest, .. } = &digest.kind else { continue };
        let part = format!("digest {number}");
        if *iterations == 0 {
            return invalid(&part, "has no iterations");
        }
        if !(20..=64).contains(&digest.len()) {
            return invalid(&part, "is neither 20 bytes nor a whole hash long");
        }
    }
    Ok(())
}

fn segments(metadata: &Metadata, binary: &BinaryHeader) -> Result<(), Error> {
    let Some(first) = metadata.segments.get(&0) else {
        return invalid("segments", "segment 0 is missing");
    };
    let keyslots_end = 2 * binary.hdr_size + metadata.config.keyslots_size;
    let data_offset =
        metadata.segments.values().map(|segment| segment.offset).min().unwrap_or(first.offset);
    if data_offset != 0 && data_offset < keyslots_end {
        return invalid("segment 0", "begins before the keyslots area ends");
    }
    let is_backup =
        |segment: &Segment| segment.flags.iter().any(|flag| flag.starts_with("backup-"));
    let regular: Vec<_> =
        metadata.segments.iter().filter(|(_, segment)| !is_backup(segment)).collect();
    if regular.is_empty() {
        return invalid("segment 0", "is a backup, and there is no other one");
    }
    let mut expected = 0;
    for (position, &(&number, segment)) in regular.iter().enumerate() {
        let part = format!("segment {number}");
        if number != expected {
            return invalid(&part, "leaves a gap in the numbers");
        }
        expected += 1;
        one_segment(&part, segment)?;
        let last = position + 1 == regular.len();
        if segment.length == SegmentLength::Dynamic && !last {
            return invalid(&part, "is dynamic but not the last one");
        }
        for &(other, earlier) in regular.iter().take(position) {
            if overlapping(segment, earlier) {
                return invalid(&part, &format!("overlaps segment {other}"));
            }
        }
    }
    for (number, segment) in metadata.segments.iter().filter(|(_, segment)| is_backup(segment)) {
        let part = format!("segment {number}");
        one_segment(&part, segment)?;
        if *number != expected {
            return invalid(&part, "leaves a gap in the numbers");
        }
        expected += 1;
    }
    Ok(())
}

/// An encrypted segment has one key, so one digest; while a re-encryption passes over it, two.
fn segment_digests(metadata: &Metadata) -> Result<(), Error> {
    for (number, segment) in &metadata.segments {
        if !matches!(segment.kind, SegmentKind::Crypt { .. }) {
            continue;
        }
        let bound = metadata.digests.values().filter(|digest| digest.segments.contains(number));
        let part = format!("segment {number}");
        match bound.count() {
            0 => return invalid(&part, "is bound to no digest"),
            2.. if segment.flags.is_empty() => {
                return invalid(&part, "is bound to several digests");
            }
            _ => {}
        }
    }
    Ok(())
}

fn one_segment(part: &str, segment: &Segment) -> Result<(), Error> {
    if !segment.offset.is_multiple_of(512) {
        return invalid(part, "its offset is not a multiple of 512");
    }
    let SegmentLength::Bytes(bytes) = segment.length else {
        return sector_size(part, segment, 0);
    };
    if bytes == 0 {
        return invalid(part, "is empty");
    }
    if segment.offset.checked_add(bytes).is_none() {
        return invalid(part, "ends past any device");
    }
    sector_size(part, segment, bytes)
}

fn sector_size(part: &str, segment: &Segment, bytes: u64) -> Result<(), Error> {
    let SegmentKind::Crypt { sector_size, ref encryption, .. } = segment.kind else {
        return if bytes.is_multiple_of(512) {
            Ok(())
        } else {
            invalid(part, "is not whole sectors")
        };
    };
    if !matches!(sector_size, 512 | 1024 | 2048 | 4096) {
        return invalid(part, "sector_size is none of 512, 1024, 2048, 4096");
    }
    if encryption.is_empty() {
        return invalid(part, "names no cipher");
    }
    if bytes.is_multiple_of(u64::from(sector_size)) {
        Ok(())
    } else {
        invalid(part, "its size is not a multiple of its sector size")
    }
}

fn overlapping(one: &Segment, other: &Segment) -> bool {
    let range = |segment: &Segment| match segment.length {
        SegmentLength::Bytes(bytes) => segment.offset..segment.offset.saturating_add(bytes),
        SegmentLength::Dynamic => segment.offset..u64::MAX,
    };
    areas::overlap(&range(one), &range(other))
}

fn invalid(part: &str, problem: &str) -> Result<(), Error> {
    Err(Error::invalid(Version::Luks2, part, problem))
}

/// The longest key that a keyslot may hold, in bytes.
const MAX_KEY_SIZE: u32 = 4096;

/// What a re-encryption may keep in its area.
const RESILIENCE: [&str; 6] =
    ["none", "checksum", "journal", "datashift", "datashift-checksum", "datashift-journal"];
