use strongroom_crypto::{CipherSpec, IvUnit, SectorCipher, SectorSize, VolumeKey};

use super::*;
use crate::{Memory, Slice, conformance};

const BLOCK: u64 = 16 << 10;

/// Returns a disk with a key made of `seed`; its data begins at `start`.
fn encrypted<D: Disk>(disk: D, start: u64, seed: u8) -> Encrypted<D> {
    let encryption = "aes-xts-plain64".parse::<CipherSpec>().unwrap().with_largest_key();
    let key = (0..encryption.key_size().bytes()).map(|i| i as u8 ^ seed).collect();
    let cipher =
        SectorCipher::new(encryption, &VolumeKey::new(key), SectorSize::B512, IvUnit::Bytes512);
    let range = start..disk.len();
    Encrypted::new(disk, range, cipher.unwrap(), 0).unwrap()
}

fn alone(layer: &str) -> LayerIdentity<'_> {
    LayerIdentity { layer, parent: None }
}

/// Returns a layer that holds nothing, for `len` bytes of data behind `start`.
fn layer(start: u64, len: u64, block_size: u64) -> Mapped<Memory, Memory> {
    let disk = Memory::new(start + len);
    // Whatever lies in blocks that are not held, nobody shall see it.
    disk.write_at(&vec![0xAA; (start + len) as usize], 0).unwrap();
    let map_len = Mapped::<Memory, Memory>::map_len(disk.len(), block_size).unwrap();
    Mapped::create(disk, Memory::new(map_len), block_size, alone("child")).unwrap()
}

type Chain = Overlay<Mapped<Memory, Memory>, Box<dyn Disk>>;

fn overlay(len: u64, start: u64, seed: u8, parent: Option<Box<dyn Disk>>) -> Chain {
    Overlay::new(encrypted(layer(start, len, BLOCK), start, seed), parent).unwrap()
}

/// Returns a root with content.
fn root(content: &[u8]) -> Box<dyn Disk> {
    let root = encrypted(Memory::new(777 + content.len() as u64), 777, 1);
    root.write_at(content, 0).unwrap();
    Box::new(root)
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 251) as u8 | 1).collect()
}

fn read(disk: &dyn Disk, range: Range<u64>) -> Vec<u8> {
    let mut buf = vec![0xEE; (range.end - range.start) as usize];
    disk.read_at(&mut buf, range.start).unwrap();
    buf
}

#[test]
fn passes_the_conformance_suite_over_parents_of_every_length() {
    for parent_len in [0, 512, 40 << 10, 8 << 20] {
        conformance::run(512, &|len| {
            Box::new(overlay(len, 2 * BLOCK, 2, Some(root(&content(parent_len)))))
        });
    }
}

#[test]
fn passes_the_conformance_suite_without_a_parent_and_over_two_layers() {
    conformance::run(512, &|len| Box::new(overlay(len, 0, 2, None)));
    conformance::run(512, &|len| {
        let middle = overlay(len / 1024 * 512, 4 * BLOCK, 3, Some(root(&content(100 << 10))));
        let written = middle.len() / 2;
        middle.write_at(&content(written as usize), 0).unwrap();
        Box::new(overlay(len, BLOCK, 2, Some(Box::new(middle))))
    });
}

#[test]
fn blocks_of_every_size_pass_the_conformance_suite() {
    for block_size in [4096, 4 << 20] {
        conformance::run(512, &|len| {
            let child = encrypted(layer(0, len, block_size), 0, 9);
            Box::new(Overlay::new(child, Some(root(&content(140 * 512)))).unwrap())
        });
    }
}

#[test]
fn what_the_child_lacks_comes_from_the_parent_at_the_same_place_of_the_data() {
    let old = content(10 * BLOCK as usize);
    let disk = overlay(12 * BLOCK, 3 * BLOCK, 2, Some(root(&old)));
    disk.write_at(b"new", 5 * BLOCK + 100).unwrap();
    let mut expected = old.clone();
    expected[5 * BLOCK as usize + 100..][..3].copy_from_slice(b"new");
    expected.resize(12 * BLOCK as usize, 0);
    assert!(read(&disk, 0..disk.len()) == expected);
    let held: Vec<bool> = (0..12).map(|block| disk.holds(block).unwrap()).collect();
    assert_eq!(held.iter().filter(|&&held| held).count(), 1);
    assert!(held[5]);
    // All of the block is the child's own, under its own key.
    let alone = read(disk.child(), 5 * BLOCK..6 * BLOCK);
    assert!(alone == expected[5 * BLOCK as usize..6 * BLOCK as usize]);
    // And the parent is what it was.
    assert!(read(disk.parent().unwrap(), 0..10 * BLOCK) == old);
}

#[test]
fn three_layers_are_read_through_the_nearest_that_holds_a_block() {
    let base = content(4 * BLOCK as usize);
    let middle = overlay(4 * BLOCK, BLOCK, 3, Some(root(&base)));
    middle.write_at(&[3; 20], BLOCK).unwrap();
    middle.write_at(&[3; 20], 2 * BLOCK).unwrap();
    let top = overlay(4 * BLOCK, 0, 2, Some(Box::new(middle)));
    top.write_at(&[2; 10], 2 * BLOCK).unwrap();
    assert_eq!(read(&top, 0..20), base[..20]);
    assert_eq!(read(&top, BLOCK..BLOCK + 20), [3; 20]);
    let both = [[2; 10], [3; 10]].concat();
    assert_eq!(read(&top, 2 * BLOCK..2 * BLOCK + 20), both);
    assert_eq!(read(&top, 3 * BLOCK..3 * BLOCK + 20), base[3 * BLOCK as usize..][..20]);
}

#[test]
fn zeroing_what_is_zero_anyway_copies_nothing_up() {
    let disk = overlay(4 * BLOCK, 0, 2, Some(root(&content(BLOCK as usize))));
    disk.write_zeroes(2 * BLOCK..4 * BLOCK).unwrap();
    assert!((1..4).all(|block| !disk.holds(block).unwrap()));
    disk.write_zeroes(100..200).unwrap();
    assert!(disk.holds(0).unwrap());
    assert_eq!(read(&disk, 99..201), [vec![1], vec![0; 100], vec![1]].concat());
}

#[test]
fn extents_tell_what_is_behind_the_parent() {
    let disk = overlay(4 * BLOCK, 0, 2, Some(root(&content(BLOCK as usize + 512))));
    disk.write_at(&[1], 3 * BLOCK).unwrap();
    let extents: Vec<_> =
        crate::Extents::new(&disk, 0..disk.len()).map(|extent| extent.unwrap()).collect();
    let told: Vec<_> = extents.iter().map(|extent| (extent.range.end, extent.kind)).collect();
    let data = ExtentKind::Data;
    let end = BLOCK + 512;
    assert_eq!(told, [(end, data), (3 * BLOCK, ExtentKind::Unallocated), (4 * BLOCK, data)]);
}

#[test]
fn refuses_data_that_does_not_begin_with_a_block() {
    let child = encrypted(layer(BLOCK + 512, BLOCK, BLOCK), BLOCK + 512, 2);
    let error = Overlay::new(child, None::<Memory>).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unaligned);
    assert!(error.to_string().contains("byte 16896"), "{error}");
}

#[test]
fn a_map_keeps_what_was_put_and_knows_its_disk() {
    let (disk, map) = (Memory::new(5 * BLOCK), Memory::new(4096 + 512));
    let one = LayerIdentity { layer: "one", parent: Some("below") };
    let layer = Mapped::create(&disk, &map, BLOCK, one).unwrap();
    layer.put(4, &mut vec![9; BLOCK as usize]).unwrap();
    drop(layer);
    let layer = Mapped::open(&disk, &map, one).unwrap();
    let held: Vec<bool> = (0..6).map(|block| layer.holds(block).unwrap()).collect();
    assert_eq!(held, [false, false, false, false, true, false]);
    drop(layer);
    let refused = |disk: &Memory, map: &Memory, identity: LayerIdentity<'_>, told: &str| {
        let error = Mapped::open(disk, map, identity).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(told), "{error}");
    };
    refused(&disk, &map, LayerIdentity { layer: "two", ..one }, "the map of \"one\"");
    refused(&disk, &map, LayerIdentity { layer: "", ..one }, "the map of \"one\"");
    // Over another parent, or none, the rest would be somebody else's.
    let other = LayerIdentity { parent: Some("other"), ..one };
    refused(&disk, &map, other, "\"one\" over \"below\"");
    refused(&disk, &map, alone("one"), "is \"one\" without a parent");
    refused(&Memory::new(6 * BLOCK), &map, one, "81920 bytes");
    refused(&disk, &Memory::new(9000), one, "no map");
    refused(&disk, &Memory::new(9), one, "too short");
    let longer = map.clone();
    longer.set_len(9000);
    refused(&disk, &longer, one, "ends at byte 9000");
    for block_size in [0u64, 12, 2048, 20_000, 1 << 40] {
        let odd = map.clone();
        odd.write_at(&block_size.to_be_bytes(), 24).unwrap();
        refused(&disk, &odd, one, "do not exist");
    }
    let long = "x".repeat(41);
    assert!(Mapped::create(&disk, &map, BLOCK, alone(&long)).is_err());
    let long = LayerIdentity { parent: Some(&long), ..one };
    assert!(Mapped::create(&disk, &map, BLOCK, long).is_err());
    assert!(Mapped::create(&disk, Memory::new(9000), BLOCK, one).is_err());
}

#[test]
fn nobody_sees_a_block_that_is_not_in_the_map() {
    let old = content(3 * BLOCK as usize);
    let child = layer(0, 3 * BLOCK, BLOCK);
    // A copy that was cut off before its bit was set.
    child.disk().write_at(&[7; 5000], BLOCK).unwrap();
    let disk = Overlay::new(encrypted(child, 0, 2), Some(root(&old))).unwrap();
    assert!(read(&disk, 0..disk.len()) == old);
}

#[test]
fn holes_of_a_sparse_file_are_the_parents_where_somebody_vouches_for_them() {
    let old = content(4 * BLOCK as usize);
    let disk = Memory::new(5 * BLOCK);
    disk.write_at(b"header", 0).unwrap();
    encrypted(&disk, BLOCK, 2).write_at(&vec![5; BLOCK as usize], 2 * BLOCK).unwrap();
    let sparse = Sparse::new(&disk, BLOCK, BLOCK).unwrap();
    let top = Overlay::new(encrypted(sparse, BLOCK, 2), Some(root(&old))).unwrap();
    let mut expected = old.clone();
    expected[2 * BLOCK as usize..3 * BLOCK as usize].fill(5);
    assert!(read(&top, 0..top.len()) == expected);
    for refused in [top.write_at(&[1], 0), top.write_at(&[1], 2 * BLOCK), top.write_zeroes(0..9)] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ReadOnly);
    }
    assert!(read(&top, 0..top.len()) == expected);
}

#[test]
fn a_file_whose_holes_mean_something_else_is_noticed() {
    // A part of a block.
    let disk = Memory::new(4 * BLOCK);
    disk.write_at(&[1; 4096], 2 * BLOCK).unwrap();
    let error = Sparse::new(&disk, BLOCK, BLOCK).unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Invalid, Some(2 * BLOCK)));
    // Holes that were filled with zeros on the way.
    let filled = Memory::from(&vec![0; 4 * BLOCK as usize][..]);
    let sparse = Sparse::new(&filled, BLOCK, BLOCK).unwrap();
    assert!(sparse.holds(2).unwrap());
    let top = Overlay::new(encrypted(sparse, BLOCK, 2), Some(root(&content(512)))).unwrap();
    let error = top.read_at(&mut [0; 600], BLOCK).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("zeros where ciphertext belongs"), "{error}");
}

#[test]
fn a_slice_can_be_a_layer_of_its_own() {
    // Child and map on one disk, as the tests of crashes have them.
    let both = Memory::new(4 * BLOCK + 4096 + 512);
    let disk = Slice::new(&both, 0..4 * BLOCK).unwrap();
    let map = Slice::new(&both, 4 * BLOCK..both.len()).unwrap();
    let layer = Mapped::create(disk, map, BLOCK, alone("")).unwrap();
    assert!(!layer.holds(0).unwrap());
}
