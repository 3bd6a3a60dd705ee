//! Headers of RBD clones that were encrypted under a key of their own.
//!
//! Ceph's librbd (Reef and later) gives them a magic of their own, since what such an image does not hold
//! is its parent's, under another key: whoever opened it alone would take noise for data. The rest of the
//! header is an ordinary one; its checksum is that with the ordinary magic.

use crate::luks2::{Copy, secondary_places};
use crate::{Error, Found, Header, Version, head_len};

/// Tells whether `head`, the first bytes of a device, begins with the magic of a clone that was
/// encrypted under a key of its own.
pub fn is_formatted_clone(head: &[u8]) -> bool {
    head.starts_with(PRIMARY)
}

/// Returns how many bytes from the start of the device [`Header::parse_formatted_clone`] needs, judging
/// by those that were read already, as [`head_len`] does.
pub fn formatted_clone_head_len(read: &[u8]) -> usize {
    head_len(&with_usual_magic(read))
}

impl Header {
    /// Reads the header of a clone that was encrypted under a key of its own. It must be opened as a
    /// layer over its parent, and never be changed as if it were an ordinary one.
    ///
    /// # Errors
    ///
    /// [`Error::NotLuks`] when there is none, be there an ordinary header; otherwise what is wrong with
    /// it.
    pub fn parse_formatted_clone(head: &[u8], device_len: u64) -> Result<Found, Error> {
        if !is_formatted_clone(head) {
            return Err(Error::NotLuks);
        }
        Self::parse(&with_usual_magic(head), device_len)
    }
}

/// Returns the bytes with the magic that each copy would have if the image were no clone.
fn with_usual_magic(head: &[u8]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    let mut replace = |offset: usize, found: &[u8], usual: &[u8]| {
        if let Some(magic) = bytes.get_mut(offset..offset + usual.len())
            && magic == found
        {
            magic.copy_from_slice(usual);
        }
    };
    replace(0, PRIMARY, Version::MAGIC);
    for offset in secondary_places() {
        replace(offset as usize, SECONDARY, Copy::Secondary.magic());
    }
    bytes
}

/// In the place of `LUKS\xba\xbe`.
const PRIMARY: &[u8; 6] = b"RBDL\xba\xbe";

/// In the place of `SKUL\xba\xbe`.
const SECONDARY: &[u8; 6] = b"LDBR\xba\xbe";
