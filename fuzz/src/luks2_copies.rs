//! Both copies of a LUKS2 header, made from a few bytes, with checksums that hold: a fuzzer does
//! not guess a hash, and whoever attacks computes it.

use strongroom_crypto::Hash;

/// The bytes of a binary header that mean anything.
pub const BINARY_LEN: usize = 512;

/// Both copies of a LUKS2 header.
pub struct Copies {
    bytes: Vec<u8>,
    copy_len: usize,
}

impl Copies {
    /// Returns copies with the fields of `binary`, short ones continued with zeros, and `json`.
    ///
    /// They are as long as the header-size field says where that is a size of at most 64 KiB.
    pub fn new(binary: &[u8], json: &[u8]) -> Self {
        let mut fields = [0; BINARY_LEN];
        let kept = binary.len().min(BINARY_LEN);
        fields[..kept].copy_from_slice(&binary[..kept]);
        let claimed = u64::from_be_bytes(std::array::from_fn(|index| fields[HDR_SIZE + index]));
        let claimed = SIZES.into_iter().find(|&size| size as u64 == claimed);
        let copy_len = claimed.unwrap_or(SIZES[0]);
        let json = &json[..json.len().min(copy_len - JSON)];
        let mut bytes = vec![0; 2 * copy_len];
        for start in [0, copy_len] {
            bytes[start..start + BINARY_LEN].copy_from_slice(&fields);
            bytes[start + JSON..start + JSON + json.len()].copy_from_slice(json);
        }
        if fields.starts_with(b"LUKS") {
            bytes[copy_len..copy_len + 4].copy_from_slice(b"SKUL");
        }
        let mut copies = Self { bytes, copy_len };
        copies.put(1, HDR_OFFSET, &(copy_len as u64).to_be_bytes());
        copies
    }

    /// Returns undamaged copies of the smallest size that holds `json`.
    pub fn of_json(json: &[u8]) -> Self {
        let copy_len = SIZES.into_iter().find(|size| json.len() < size - JSON);
        let copy_len = copy_len.unwrap_or(SIZES[SIZES.len() - 1]);
        let mut binary = [0; BINARY_LEN];
        for (offset, bytes) in [
            (0, b"LUKS\xba\xbe\0\x02".as_slice()),
            (HDR_SIZE, &(copy_len as u64).to_be_bytes()),
            (SEQID, &[0, 0, 0, 0, 0, 0, 0, 3]),
            (CHECKSUM_HASH, b"sha256"),
            (UUID, b"6a2f9b0e-2d4b-4c55-9d0f-2f1f6b1f8a11"),
        ] {
            binary[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        Self::new(&binary, json)
    }

    /// Returns the copies that `head` holds, or what is in their places.
    pub fn in_head(head: &[u8]) -> Self {
        let copy_len = SIZES.into_iter().rev().find(|&size| {
            head.get(size..).is_some_and(|copy| copy.starts_with(b"SKUL") && copy.len() >= size)
        });
        let copy_len = copy_len.unwrap_or(SIZES[0]);
        let mut bytes = head.to_vec();
        bytes.resize(bytes.len().max(2 * copy_len), 0);
        Self { bytes, copy_len }
    }

    /// Adds to the sequence id of the second copy.
    pub fn age(&mut self, by: i8) {
        let at = self.copy_len + SEQID;
        let seqid = u64::from_be_bytes(std::array::from_fn(|index| self.bytes[at + index]));
        self.put(1, SEQID, &seqid.wrapping_add_signed(by.into()).to_be_bytes());
    }

    /// Makes both checksums hold, where the copies name a hash that exists.
    pub fn sum(&mut self) {
        for copy in self.bytes.chunks_mut(self.copy_len).take(2) {
            let name = copy[CHECKSUM_HASH..SALT].split(|&byte| byte == 0).next();
            let hash = name.and_then(|name| std::str::from_utf8(name).ok());
            let Some(hash) = hash.and_then(|name| name.parse::<Hash>().ok()) else { continue };
            copy[CHECKSUM..BINARY_LEN].fill(0);
            let digest = hash.digest(&[copy]);
            copy[CHECKSUM..CHECKSUM + digest.len()].copy_from_slice(&digest);
        }
    }

    /// Flips a bit of a copy.
    pub fn damage(&mut self, copy: usize, at: usize) {
        let index = copy * self.copy_len + at % self.copy_len;
        self.bytes[index] ^= 0x10;
    }

    /// Writes over the start of the first copy.
    pub fn overwrite(&mut self, at: usize, bytes: &[u8]) {
        self.put(0, at, bytes);
    }

    /// Returns the first bytes of a device that has these copies.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn put(&mut self, copy: usize, offset: usize, bytes: &[u8]) {
        let start = copy * self.copy_len + offset;
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

/// The sizes of a copy that are worth the time, in bytes.
const SIZES: [usize; 3] = [16 << 10, 32 << 10, 64 << 10];

// Offsets of the fields (LUKS2 specification, section 2.1).
const HDR_SIZE: usize = 8;
const SEQID: usize = 16;
const CHECKSUM_HASH: usize = 72;
const SALT: usize = 104;
const UUID: usize = 168;
const HDR_OFFSET: usize = 256;
const CHECKSUM: usize = 448;
const JSON: usize = 4096;
