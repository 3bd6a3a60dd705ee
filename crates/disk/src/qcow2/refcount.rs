//! Reference counts of every width (specification: "Host cluster management").

/// The width of a reference count: 2 to the power of `order` bits, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefcountWidth {
    /// order <= 6
    order: u32,
}

impl RefcountWidth {
    /// What version 2 has and everyone creates.
    pub const BITS_16: Self = Self { order: 4 };

    /// Returns the width of so many bits; `None` unless it is a power of two up to 64.
    pub fn from_bits(bits: u32) -> Option<Self> {
        (bits.is_power_of_two() && bits <= 64).then(|| Self { order: bits.trailing_zeros() })
    }

    /// Returns the width of 2 to the power of `order` bits, `None` beyond 64.
    pub(crate) fn from_order(order: u32) -> Option<Self> {
        (order <= 6).then_some(Self { order })
    }

    /// Returns the number of bits.
    pub fn bits(self) -> u32 {
        1 << self.order
    }

    pub(crate) fn order(self) -> u32 {
        self.order
    }

    /// Returns the largest count that fits.
    pub(crate) fn largest(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// Returns how many counts fit into so many bytes.
    pub(crate) fn per(self, bytes: usize) -> u64 {
        bytes as u64 * 8 / u64::from(self.bits())
    }

    /// Returns count `index` of a block, or of a part of one. Counts past its end are zero.
    pub(crate) fn read(self, block: &[u8], index: usize) -> u64 {
        let bits = self.bits() as usize;
        if bits < 8 {
            let byte = block.get(index * bits / 8).copied().unwrap_or(0);
            return u64::from(byte >> (index * bits % 8)) & self.largest();
        }
        let width = bits / 8;
        let bytes = block.get(index * width..(index + 1) * width).unwrap_or(&[]);
        bytes.iter().fold(0, |count, &byte| count << 8 | u64::from(byte))
    }

    /// Changes count `index` of a block. Counts past its end stay what they are.
    pub(crate) fn write(self, block: &mut [u8], index: usize, count: u64) {
        let bits = self.bits() as usize;
        if bits < 8 {
            if let Some(byte) = block.get_mut(index * bits / 8) {
                let shift = index * bits % 8;
                *byte &= !((self.largest() as u8) << shift);
                *byte |= ((count & self.largest()) as u8) << shift;
            }
            return;
        }
        let width = bits / 8;
        if let Some(bytes) = block.get_mut(index * width..(index + 1) * width) {
            bytes.copy_from_slice(&count.to_be_bytes()[8 - width..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_keeps_neighbours_apart() {
        for order in 0..=6 {
            let width = RefcountWidth::from_order(order).unwrap();
            let mut block = [0; 64];
            for index in 0..width.per(64) as usize {
                width.write(&mut block, index, index as u64 & width.largest());
            }
            for index in 0..width.per(64) as usize {
                assert_eq!(width.read(&block, index), index as u64 & width.largest());
            }
            width.write(&mut block, 3, width.largest());
            assert_eq!(width.read(&block, 2), 2 & width.largest());
            assert_eq!(width.read(&block, 3), width.largest());
            assert_eq!(width.read(&block, 4), 4 & width.largest());
        }
    }

    #[test]
    fn bits_are_stored_as_the_specification_says() {
        let mut block = [0; 8];
        RefcountWidth::from_bits(16).unwrap().write(&mut block, 1, 0x1234);
        assert_eq!(block[..4], [0, 0, 0x12, 0x34]);
        let mut block = [0; 8];
        RefcountWidth::from_bits(2).unwrap().write(&mut block, 5, 2);
        assert_eq!(block[..2], [0, 0b1000]);
    }

    #[test]
    fn only_powers_of_two_are_widths() {
        assert_eq!(RefcountWidth::from_bits(64).map(RefcountWidth::largest), Some(u64::MAX));
        assert_eq!(RefcountWidth::from_bits(0), None);
        assert_eq!(RefcountWidth::from_bits(3), None);
        assert_eq!(RefcountWidth::from_bits(128), None);
    }
}
