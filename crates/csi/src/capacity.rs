//! From the range of sizes that somebody wants to the size that a volume gets.

use strongroom_model::FileSystem;
use tonic::Status;

use crate::messages::CapacityRange;

/// A range of sizes in bytes that makes sense.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SizeRange {
    /// What it must have at least; `None` when nothing was said.
    pub(crate) least: Option<u64>,
    /// What it may have at most.
    pub(crate) most: Option<u64>,
}

impl SizeRange {
    /// Reads what a request says; a zero says nothing.
    ///
    /// # Errors
    ///
    /// `OUT_OF_RANGE` when there is no such size.
    pub(crate) fn read(range: Option<&CapacityRange>) -> Result<Self, Status> {
        let Some(range) = range else { return Ok(Self::default()) };
        let bytes = |value: i64, what: &str| match u64::try_from(value) {
            Ok(value) => Ok(Some(value).filter(|value| *value > 0)),
            Err(_) => Err(Status::out_of_range(format!("{what} {value} is negative"))),
        };
        let least = bytes(range.required_bytes, "required_bytes")?;
        let most = bytes(range.limit_bytes, "limit_bytes")?;
        match (least, most) {
            (Some(least), Some(most)) if least > most => Err(Status::out_of_range(format!(
                "required_bytes {least} is more than limit_bytes {most}"
            ))),
            _ => Ok(Self { least, most }),
        }
    }

    /// Tells whether a size is in the range.
    pub(crate) fn holds(self, size: u64) -> bool {
        self.least.is_none_or(|least| size >= least) && self.most.is_none_or(|most| size <= most)
    }

    /// Returns the size of a new volume: what is wanted, rounded up to 2 MiB where the limit allows that,
    /// else to 4096 bytes. `least` is what the volume needs in any case.
    ///
    /// # Errors
    ///
    /// `OUT_OF_RANGE` when nothing fits.
    pub(crate) fn size(self, least: u64) -> Result<u64, Status> {
        let wanted = self.least.unwrap_or(DEFAULT.min(self.most.unwrap_or(DEFAULT))).max(least);
        let rounded = |unit| {
            wanted
                .checked_next_multiple_of(unit)
                .filter(|size| self.holds(*size) && *size <= LARGEST)
        };
        rounded(UNIT).or_else(|| rounded(SECTOR)).or_else(|| self.largest_below(least)).ok_or_else(
            || {
                let limit = self.most.unwrap_or(LARGEST).min(LARGEST);
                Status::out_of_range(format!(
                    "the volume needs {wanted} bytes, in steps of {SECTOR}, and may have {limit} at most"
                ))
            },
        )
    }

    /// Returns the largest size that the limit allows where nobody said what they need.
    fn largest_below(self, least: u64) -> Option<u64> {
        let most = self.most.filter(|_| self.least.is_none())?;
        Some(most / SECTOR * SECTOR).filter(|size| *size >= least.max(SECTOR))
    }
}

/// Returns the smallest volume that a file system fits into, in bytes; 1 for a block device.
pub(crate) fn least_size(file_system: Option<FileSystem>) -> u64 {
    match file_system {
        None => 1,
        Some(FileSystem::Ext4) => 8 << 20,
        // What mkfs.xfs makes at least.
        Some(FileSystem::Xfs) => 300 << 20,
    }
}

/// Returns a size as CSI writes it.
pub(crate) fn bytes(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// What a volume has when nobody says.
const DEFAULT: u64 = 1 << 30;

/// Sizes are rounded up to this, as Longhorn's are.
const UNIT: u64 = 2 << 20;

/// The largest sector of any encryption.
const SECTOR: u64 = 4096;

/// The largest volume, such that sizes with a header fit into what CSI can write: 4 EiB.
const LARGEST: u64 = 1 << 62;

#[cfg(test)]
mod tests {
    use super::*;

    fn range(required_bytes: i64, limit_bytes: i64) -> Result<SizeRange, Status> {
        SizeRange::read(Some(&CapacityRange { required_bytes, limit_bytes }))
    }

    fn size(required: i64, limit: i64) -> Result<u64, Status> {
        range(required, limit)?.size(1)
    }

    #[test]
    fn sizes_are_rounded_up_within_the_limit() {
        assert_eq!(SizeRange::read(None).unwrap().size(1).unwrap(), 1 << 30);
        assert_eq!(size(0, 0).unwrap(), 1 << 30);
        assert_eq!(size(1, 0).unwrap(), 2 << 20);
        assert_eq!(size(2 << 20, 0).unwrap(), 2 << 20);
        assert_eq!(size((2 << 20) + 1, 0).unwrap(), 4 << 20);
        assert_eq!(size((2 << 20) + 1, 3 << 20).unwrap(), (2 << 20) + 4096);
        assert_eq!(size(8192, 8192).unwrap(), 8192);
        assert_eq!(size(0, 10_000).unwrap(), 8192);
        assert_eq!(size(0, 5 << 30).unwrap(), 1 << 30);
    }

    #[test]
    fn what_cannot_be_is_out_of_range() {
        let codes = [(-1, 0), (0, -1), (2, 1), (5000, 5000), (0, 4095), (i64::MAX, 0)];
        for (required, limit) in codes {
            let refused = size(required, limit).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::OutOfRange, "{required} {limit}");
        }
    }

    #[test]
    fn a_file_system_gets_what_it_needs() {
        let least = least_size(Some(FileSystem::Xfs));
        assert_eq!(range(64 << 20, 0).unwrap().size(least).unwrap(), 300 << 20);
        assert!(range(64 << 20, 64 << 20).unwrap().size(least).is_err());
        assert_eq!(range(1 << 30, 0).unwrap().size(least).unwrap(), 1 << 30);
    }
}
