//! What is known by its magic numbers. No more is read than those and a few fields beside them.

use std::fs::File;
use std::io::{ErrorKind, Result};
use std::os::unix::fs::FileExt;

use strongroom_model::FileSystem;

use super::Found;

/// Looks at a device of `len` bytes.
///
/// What begins a device is asked first. The end is asked only when the beginning says nothing: in a file
/// system that is in use, the end holds whatever its users have written.
pub(super) fn find(file: &File, len: u64) -> Result<Found> {
    let head = read(file, 0, HEAD.min(len))?;
    let found = of_head(&head);
    if found != Found::Nothing {
        return Ok(found);
    }
    for offset in LUKS2_SECOND_HEADERS {
        if offset + 6 <= len && read(file, offset, 6)? == LUKS2_SECOND {
            return Ok(Found::Other("a LUKS2 volume that has lost its first header"));
        }
    }
    let start = len.saturating_sub(TAIL) / 4096 * 4096;
    let tail = read(file, start, len - start)?;
    Ok(of_tail(&tail, start))
}

/// Says what the first bytes of a device mean.
fn of_head(head: &[u8]) -> Found {
    let has = |signature: &&Signature| has(head, signature.offset, signature.magic);
    if let Some(signature) = AT_START.iter().find(has) {
        return signature.found.clone();
    }
    if let Some(ext) = ext(head) {
        return ext;
    }
    if let Some(signature) = FURTHER_IN.iter().find(has) {
        return signature.found.clone();
    }
    if has_zfs_uberblock(head) {
        return Found::Other("a ZFS pool");
    }
    if is_partition_table(head) {
        return Found::Other("a partition table");
    }
    Found::Nothing
}

/// Says what the last bytes of a device mean; they begin at `start`, a multiple of 4096.
fn of_tail(tail: &[u8], start: u64) -> Found {
    let end = start + tail.len() as u64;
    let within = |offset: u64| offset.checked_sub(start).and_then(|at| usize::try_from(at).ok());
    let has_at = |offset: Option<u64>, magic: &[u8]| {
        offset.and_then(within).is_some_and(|at| has(tail, at, magic))
    };
    // Version 1.0 lies 8 KiB before the end, 0.90 in the last whole 64 KiB but one.
    let raid_1_0 = end.checked_sub(8192).map(|offset| offset / 4096 * 4096);
    let raid_0_90 = (end / 65536 * 65536).checked_sub(65536);
    if has_at(raid_1_0, RAID_MAGIC) || has_at(raid_0_90, RAID_MAGIC) {
        return Found::Other("a member of a RAID array");
    }
    let backups = [512, 4096].map(|sector| end.checked_sub(sector));
    if backups.into_iter().any(|offset| has_at(offset, b"EFI PART")) {
        return Found::Other("a partition table that has lost its beginning");
    }
    Found::Nothing
}

/// Tells ext2, ext3 and ext4 apart by their features. The magic number has but two bytes, so that a few
/// other fields have to make sense too.
fn ext(head: &[u8]) -> Option<Found> {
    let number = |offset: usize| {
        let bytes = head.get(EXT + offset..EXT + offset + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if !has(head, EXT + 0x38, &[0x53, 0xef]) {
        return None;
    }
    let (inodes, blocks, block_size, revision) =
        (number(0)?, number(4)?, number(0x18)?, number(0x4c)?);
    if inodes == 0 || blocks == 0 || block_size > 6 || revision > 1 {
        return None;
    }
    let (compatible, incompatible, read_only) = (number(0x5c)?, number(0x60)?, number(0x64)?);
    Some(if incompatible & EXT_JOURNAL_DEVICE != 0 {
        Found::Other("the journal of an ext4")
    } else if incompatible & EXT4_INCOMPATIBLE != 0 || read_only & EXT4_READ_ONLY != 0 {
        Found::FileSystem(FileSystem::Ext4)
    } else if compatible & EXT3_HAS_JOURNAL != 0 {
        Found::Other("ext3")
    } else {
        Found::Other("ext2")
    })
}

/// Looks for a block that says which state of a pool is the last, in either byte order.
fn has_zfs_uberblock(head: &[u8]) -> bool {
    let blocks = (ZFS_UBERBLOCKS..HEAD as usize).step_by(1024);
    let magics = [ZFS_MAGIC.to_le_bytes(), ZFS_MAGIC.to_be_bytes()];
    blocks.into_iter().any(|offset| magics.iter().any(|magic| has(head, offset, magic)))
}

/// Looks for an MBR whose four entries make sense, so that noise hardly ever is one.
fn is_partition_table(head: &[u8]) -> bool {
    let Some(entries) = head.get(446..510) else { return false };
    let mut used = 0;
    for entry in entries.chunks_exact(16) {
        if !matches!(entry, [0 | 0x80, ..]) {
            return false;
        }
        used += usize::from(entry.get(4).is_some_and(|kind| *kind != 0));
    }
    used > 0 && has(head, 510, &[0x55, 0xaa])
}

fn has(bytes: &[u8], offset: usize, magic: &[u8]) -> bool {
    bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic))
}

/// Reads a range; a device that ends before is an error.
fn read(file: &File, offset: u64, len: u64) -> Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(|_| ErrorKind::InvalidInput)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Something that is known by bytes at a fixed place.
struct Signature {
    offset: usize,
    magic: &'static [u8],
    found: Found,
}

const fn other(offset: usize, magic: &'static [u8], what: &'static str) -> Signature {
    Signature { offset, magic, found: Found::Other(what) }
}

/// At the very beginning, where a file system keeps its users out.
const AT_START: &[Signature] = &[
    Signature { offset: 0, magic: b"XFSB", found: Found::FileSystem(FileSystem::Xfs) },
    other(0, b"LUKS\xba\xbe", "a LUKS volume"),
    other(0, LUKS2_SECOND, "a LUKS2 volume"),
    other(0, RAID_MAGIC, "a member of a RAID array"),
    other(0, b"integrt\0", "a dm-integrity volume"),
    other(0, b"dmvdo001", "a VDO volume"),
    other(0, b"hsqs", "squashfs"),
    other(0, b"QFI\xfb", "a qcow2 image"),
    other(0, b"KDMV", "a VMDK image"),
    other(0, b"bluestore block device", "a Ceph OSD"),
    other(3, b"NTFS    ", "NTFS"),
    other(3, b"EXFAT   ", "exFAT"),
    other(3, b"-FVE-FS-", "a BitLocker volume"),
    other(32, b"NXSB", "APFS"),
    other(54, b"FAT12   ", "FAT"),
    other(54, b"FAT16   ", "FAT"),
    other(82, b"FAT32   ", "FAT"),
    other(512, b"EFI PART", "a partition table"),
    other(0, b"LABELONE", "an LVM physical volume"),
    other(512, b"LABELONE", "an LVM physical volume"),
    other(1024, b"LABELONE", "an LVM physical volume"),
    other(1536, b"LABELONE", "an LVM physical volume"),
];

/// Behind where ext2, ext3 and ext4 are known.
const FURTHER_IN: &[Signature] = &[
    other(1024, &[0x10, 0x20, 0xf5, 0xf2], "F2FS"),
    other(1024, b"H+\0\x04", "HFS+"),
    other(4096, b"EFI PART", "a partition table"),
    other(4096, RAID_MAGIC, "a member of a RAID array"),
    other(4096 + 24, &BCACHE_MAGIC, "a bcache device"),
    other(4096 - 10, b"SWAPSPACE2", "swap space"),
    other(4096 - 10, b"SWAP-SPACE", "swap space"),
    other(8192 - 10, b"SWAPSPACE2", "swap space"),
    other(16384 - 10, b"SWAPSPACE2", "swap space"),
    other(65536 - 10, b"SWAPSPACE2", "swap space"),
    other(32768, b"JFS1", "JFS"),
    other(32769, b"CD001", "ISO 9660"),
    other(32769, b"BEA01", "UDF"),
    other(65536 + 52, b"ReIsEr", "ReiserFS"),
    other(65536 + 64, b"_BHRfS_M", "btrfs"),
];

/// How much of the beginning is read: everything above, and the first label of a ZFS pool.
const HEAD: u64 = 256 << 10;

/// How much of the end is read: RAID of version 0.90 lies up to 128 KiB before it.
const TAIL: u64 = 132 << 10;

const LUKS2_SECOND: &[u8] = b"SKUL\xba\xbe";

/// Where the second header of a LUKS2 volume may lie (LUKS2 On-Disk Format, section 2.1).
const LUKS2_SECOND_HEADERS: [u64; 9] =
    [16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20];

const RAID_MAGIC: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9];

const BCACHE_MAGIC: [u8; 16] = [
    0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81,
];

const ZFS_UBERBLOCKS: usize = 128 << 10;

const ZFS_MAGIC: u64 = 0x00ba_b10c;

/// Where the superblock of ext2 and those after it begins.
const EXT: usize = 1024;

const EXT3_HAS_JOURNAL: u32 = 0x4;

const EXT_JOURNAL_DEVICE: u32 = 0x8;

/// Extents, 64 bits, multiple mount protection, flexible groups and what came later.
const EXT4_INCOMPATIBLE: u32 = !0x1f;

/// Huge files, checksums of groups, many links, large inodes and what came later.
const EXT4_READ_ONLY: u32 = !0x7;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use strongroom_testkit::{Pattern, Tool, run, skip};

    use super::*;

    fn with(len: usize, offset: usize, bytes: &[u8]) -> Found {
        let mut file = tempfile::tempfile().unwrap();
        let mut contents = vec![0; len];
        contents[offset..offset + bytes.len()].copy_from_slice(bytes);
        file.write_all(&contents).unwrap();
        find(&file, len as u64).unwrap()
    }

    #[test]
    fn zeros_and_noise_are_nothing() {
        for len in [0, 1, 511, 4096, 10_000, 1 << 20] {
            assert_eq!(with(len, 0, &[]), Found::Nothing, "{len}");
        }
        for seed in 0..64 {
            let mut noise = vec![0; 600 << 10];
            Pattern::dense(seed).fill(&mut noise, 0);
            assert_eq!(with(noise.len(), 0, &noise), Found::Nothing, "{seed}");
        }
    }

    #[test]
    fn every_signature_is_found_where_it_belongs() {
        for Signature { offset, magic, found } in AT_START.iter().chain(FURTHER_IN) {
            assert_eq!(with(1 << 20, *offset, magic), *found);
            assert_eq!(with(1 << 20, offset + 4, magic), Found::Nothing, "{found:?}");
        }
    }

    #[test]
    fn what_has_lost_its_beginning_is_known_by_its_end() {
        let raid = Found::Other("a member of a RAID array");
        assert_eq!(with(1 << 20, (1 << 20) - 8192, RAID_MAGIC), raid);
        assert_eq!(with(1 << 20, (1 << 20) - 65536, RAID_MAGIC), raid);
        let odd = (1 << 20) + 5 * 512;
        assert_eq!(with(odd, (1 << 20) - 65536, RAID_MAGIC), raid);
        let table = Found::Other("a partition table that has lost its beginning");
        assert_eq!(with(odd, odd - 512, b"EFI PART"), table);
        let luks = Found::Other("a LUKS2 volume that has lost its first header");
        assert_eq!(with(5 << 20, 4 << 20, LUKS2_SECOND), luks);
        assert_eq!(with(5 << 20, 16 << 10, LUKS2_SECOND), luks);
    }

    #[test]
    fn a_zfs_pool_is_known_in_both_byte_orders() {
        let pool = Found::Other("a ZFS pool");
        assert_eq!(with(1 << 20, 131 << 10, &ZFS_MAGIC.to_le_bytes()), pool);
        assert_eq!(with(1 << 20, 128 << 10, &ZFS_MAGIC.to_be_bytes()), pool);
    }

    #[test]
    fn a_boot_sector_is_a_partition_table_when_its_entries_make_sense() {
        let mut sector = [0; 512];
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(with(4096, 0, &sector), Found::Nothing);
        sector[446 + 4] = 0x83;
        assert_eq!(with(4096, 0, &sector), Found::Other("a partition table"));
        sector[446 + 16] = 0x12;
        assert_eq!(with(4096, 0, &sector), Found::Nothing);
    }

    #[test]
    fn the_magic_number_of_ext_alone_is_nothing() {
        assert_eq!(with(1 << 20, 1024 + 0x38, &[0x53, 0xef]), Found::Nothing);
    }

    #[test]
    fn knows_what_other_programs_make() {
        let makers: &[(Tool, &[&str], Found)] = &[
            (Tool::MKFS_EXT4, &["-q", "-F", "-t", "ext4"], Found::FileSystem(FileSystem::Ext4)),
            (Tool::MKFS_EXT4, &["-q", "-F", "-t", "ext3"], Found::Other("ext3")),
            (Tool::MKFS_EXT4, &["-q", "-F", "-t", "ext2"], Found::Other("ext2")),
            (Tool::MKFS_XFS, &["-q", "-f"], Found::FileSystem(FileSystem::Xfs)),
            (Tool::MKSWAP, &["-q"], Found::Other("swap space")),
            (Tool::MKFS_FAT, &["-F", "32"], Found::Other("FAT")),
            (Tool::MKFS_FAT, &["-F", "16"], Found::Other("FAT")),
            (Tool::SFDISK, &["-q"], Found::Other("a partition table")),
        ];
        for (tool, arguments, found) in makers {
            if !tool.available() {
                skip("knows_what_other_programs_make", &format!("no {}", tool.name()));
                continue;
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(320 << 20).unwrap();
            let mut command = tool.command();
            command.args(*arguments).arg(file.path());
            // Only sfdisk reads what it shall do.
            run(command, b"label: dos\n,,83\n").ok();
            assert_eq!(find(file.as_file(), 320 << 20).unwrap(), *found, "{}", tool.name());
        }
    }
}
