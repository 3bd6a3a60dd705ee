//! Every kernel against published vectors and against AES one block at a time.

use cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use proptest::prelude::*;

use super::*;
use crate::{Cipher, CipherSpec, Hash, Iv, Mode};

fn cipher(spec: &str, key: Vec<u8>, size: SectorSize) -> SectorCipher {
    with_kernel(spec, key, size, Kernel::detected())
}

fn with_kernel(spec: &str, key: Vec<u8>, size: SectorSize, kernel: Kernel) -> SectorCipher {
    let spec: CipherSpec = spec.parse().unwrap();
    let encryption = spec.with_key_bits(key.len() * 8).unwrap();
    let key = VolumeKey::new(key);
    SectorCipher::with_kernel(encryption, &key, size, IvUnit::Bytes512, kernel).unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

const XTS_128_KEY: &str = "2718281828459045235360287471352631415926535897932384626433832795";
const XTS_256_KEY: &str = "2718281828459045235360287471352662497757247093699959574966967627\
                           3141592653589793238462643383279502884197169399375105820974944592";

#[test]
fn xts_matches_ieee_1619_vectors_4_and_10_to_14() {
    for (key, sector, first, last) in [
        (XTS_128_KEY, 0, "27a7479befa1d476489f308cd4cfa6e2", "0a282df920147beabe421ee5319d0568"),
        (XTS_256_KEY, 0xff, "1c3b3a102f770386e4836c99e370cf9b", "c4f36ffda9fcea70b9c6e693e148c151"),
        (
            XTS_256_KEY,
            0xffff,
            "77a31251618a15e6b92d1d66dffe7b50",
            "a4f9e27b42af8100cb9d59cef9645803",
        ),
        (
            XTS_256_KEY,
            0xff_ffff,
            "e387aaa58ba483afa7e8eb469778317e",
            "2263a1eef52dd6888c309f5a7d712826",
        ),
        (
            XTS_256_KEY,
            0xffff_ffff,
            "bf53d2dade78e822a4d949a9bc6766b0",
            "4c82f335abb152c4a93411373aaa8220",
        ),
        (
            XTS_256_KEY,
            0xff_ffff_ffff,
            "64497e5a831e4a932c09be3e5393376d",
            "d609d273ad5b0d59631c531f6a0a57b9",
        ),
    ] {
        let plain: Vec<u8> = (0..512).map(|i| i as u8).collect();
        for kernel in Kernel::available() {
            let cipher = with_kernel("aes-xts-plain64", hex(key), SectorSize::B512, kernel);
            let mut data = plain.clone();
            cipher.encrypt(&mut data, sector);
            assert_eq!(data[..16], hex(first), "{kernel} {sector:x}");
            assert_eq!(data[496..], hex(last), "{kernel} {sector:x}");
            cipher.decrypt(&mut data, sector);
            assert_eq!(data, plain, "{kernel} {sector:x}");
        }
    }
}

/// SP 800-38A chooses an IV that no sector number makes: it is xored into the first block.
#[test]
fn cbc_matches_sp_800_38a_appendix_f_2() {
    let iv: Vec<u8> = (0..16).collect();
    let plain = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
                     30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710");
    for (key, expected) in [
        (
            "2b7e151628aed2a6abf7158809cf4f3c",
            "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2\
             73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
        ),
        (
            "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
            "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a\
             571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd",
        ),
        (
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d\
             39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
        ),
    ] {
        for kernel in Kernel::available() {
            let cipher = with_kernel("aes-cbc-null", hex(key), SectorSize::B512, kernel);
            let mut data = plain.clone();
            data.iter_mut().zip(&iv).for_each(|(byte, iv)| *byte ^= iv);
            data.resize(512, 0);
            cipher.encrypt(&mut data, 0);
            assert_eq!(data[..64], hex(expected), "{kernel} {key}");
            cipher.decrypt(&mut data, 0);
            data.iter_mut().zip(&iv).for_each(|(byte, iv)| *byte ^= iv);
            assert_eq!(data[..64], plain, "{kernel} {key}");
        }
    }
}

#[test]
fn a_kernel_is_taken_exactly_when_it_is_available() {
    let encryption = CipherSpec::AES_XTS_PLAIN64.with_largest_key();
    let key = VolumeKey::new((0..64).collect());
    for kernel in Kernel::ALL {
        let cipher =
            SectorCipher::with_kernel(encryption, &key, SectorSize::B512, IvUnit::Bytes512, kernel);
        if kernel.is_available() {
            assert_eq!(cipher.unwrap().kernel(), kernel);
        } else {
            let name = kernel.name();
            assert_eq!(cipher.err(), Some(Error::KernelUnavailable { kernel: name }));
        }
    }
}

#[test]
fn ciphers_with_portable_code_only_say_so() {
    for spec in ["camellia-xts-plain64", "twofish-xts-plain64"] {
        let cipher = cipher(spec, (0..64).collect(), SectorSize::B512);
        assert_eq!((cipher.kernel(), cipher.kernel_name()), (Kernel::Portable, "portable"));
    }
}

#[test]
fn serpent_runs_the_kernel_that_was_asked_for() {
    for kernel in Kernel::available() {
        let key = (0..64).collect();
        let cipher = with_kernel("serpent-xts-plain64", key, SectorSize::B512, kernel);
        let wide = cipher.kernel_name() != "portable";
        assert_eq!(cipher.kernel(), if wide { kernel } else { Kernel::Portable });
        assert_eq!(cipher.kernel_name(), kernel.name_for(Cipher::Serpent));
    }
}

#[test]
fn serpent_gives_the_same_sectors_by_every_kernel() {
    for mode in ["xts-plain64", "cbc-plain64", "cbc-essiv:sha256", "ctr-plain64", "ecb"] {
        let spec: CipherSpec = format!("serpent-{mode}").parse().unwrap();
        for size in SectorSize::ALL {
            let bytes = spec.with_largest_key().key_size().bytes();
            let key: Vec<u8> = (0..bytes).map(|i| (i * 7 + 1) as u8).collect();
            let mut data: Vec<u8> = (0..size.bytes() * 70).map(|i| (i / 3) as u8).collect();
            let plain = data.clone();
            with_kernel(&spec.to_string(), key.clone(), size, Kernel::Portable)
                .encrypt(&mut data, 5);
            for kernel in Kernel::available() {
                let cipher = with_kernel(&spec.to_string(), key.clone(), size, kernel);
                let mut actual = plain.clone();
                cipher.encrypt(&mut actual, 5);
                assert!(actual == data, "{spec} {kernel}");
                cipher.decrypt(&mut actual, 5);
                assert!(actual == plain, "{spec} {kernel}");
            }
        }
    }
}

#[test]
fn debug_prints_the_specification_only() {
    let cipher = cipher("aes-xts-plain64", (0..64).collect(), SectorSize::B512);
    assert_eq!(format!("{cipher:?}"), "SectorCipher(aes-xts-plain64)");
}

#[test]
fn every_cipher_and_mode_decrypts_what_it_encrypted() {
    for name in ["aes", "camellia", "cast5", "des3_ede", "serpent", "twofish"] {
        for mode in
            ["xts-plain64", "cbc-plain", "cbc-plain64be", "cbc-essiv:sha256", "ctr-plain64", "ecb"]
        {
            let Ok(spec) = format!("{name}-{mode}").parse::<CipherSpec>() else {
                continue;
            };
            for &bits in spec.key_sizes() {
                for size in SectorSize::ALL {
                    let key = (0..bits / 8).map(|i| (i * 7 + 1) as u8).collect();
                    let cipher = cipher(&spec.to_string(), key, size);
                    let plain: Vec<u8> = (0..size.bytes() * 35).map(|i| (i / 3) as u8).collect();
                    let mut data = plain.clone();
                    cipher.encrypt(&mut data, 5);
                    assert_ne!(data, plain, "{spec} {bits}");
                    cipher.decrypt(&mut data, 5);
                    assert_eq!(data, plain, "{spec} {bits}");
                }
            }
        }
    }
}

#[test]
fn iv_numbers_count_512_bytes_whatever_the_sector_size() {
    let key: Vec<u8> = (0..64).collect();
    let large = cipher("aes-xts-plain64", key, SectorSize::B4096);
    let mut two = vec![7; 8192];
    large.encrypt(&mut two, 0);
    let mut second = vec![7; 4096];
    large.encrypt(&mut second, 8);
    assert_eq!(two[4096..], second);
}

#[test]
fn refuses_an_xts_key_with_equal_halves() {
    let encryption = CipherSpec::AES_XTS_PLAIN64.with_key_bits(256).unwrap();
    let key = VolumeKey::new(vec![3; 32]);
    let result = SectorCipher::new(encryption, &key, SectorSize::B512, IvUnit::Bytes512);
    assert_eq!(result.err(), Some(Error::WeakXtsKey));
}

/// AES with a single key, one block at a time.
enum Reference {
    Aes128(aes::Aes128),
    Aes192(aes::Aes192),
    Aes256(aes::Aes256),
}

impl Reference {
    fn new(key: &[u8]) -> Self {
        match key.len() {
            16 => Self::Aes128(aes::Aes128::new_from_slice(key).unwrap()),
            24 => Self::Aes192(aes::Aes192::new_from_slice(key).unwrap()),
            _ => Self::Aes256(aes::Aes256::new_from_slice(key).unwrap()),
        }
    }

    fn encrypt(&self, block: u128) -> u128 {
        let mut block = block.to_le_bytes().into();
        match self {
            Self::Aes128(aes) => aes.encrypt_block(&mut block),
            Self::Aes192(aes) => aes.encrypt_block(&mut block),
            Self::Aes256(aes) => aes.encrypt_block(&mut block),
        }
        u128::from_le_bytes(block.into())
    }

    fn decrypt(&self, block: u128) -> u128 {
        let mut block = block.to_le_bytes().into();
        match self {
            Self::Aes128(aes) => aes.decrypt_block(&mut block),
            Self::Aes192(aes) => aes.decrypt_block(&mut block),
            Self::Aes256(aes) => aes.decrypt_block(&mut block),
        }
        u128::from_le_bytes(block.into())
    }
}

/// Encrypts or decrypts one sector as the standards say it, one block after the other.
fn reference(spec: CipherSpec, key: &[u8], number: u64, direction: Direction, sector: &mut [u8]) {
    let iv = match spec.mode().iv() {
        None | Some(Iv::Null) => 0,
        Some(Iv::Plain) => u128::from(number as u32),
        Some(Iv::Plain64) => u128::from(number),
        Some(Iv::Plain64be) => u128::from(number).swap_bytes(),
        Some(Iv::Essiv(hash)) => Reference::new(&hash.digest(&[key])).encrypt(u128::from(number)),
    };
    let (data_key, tweak_key) = match spec.mode() {
        Mode::Xts(_) => key.split_at(key.len() / 2),
        _ => (key, key),
    };
    let aes = Reference::new(data_key);
    let apply = |block| match direction {
        Direction::Encrypt => aes.encrypt(block),
        Direction::Decrypt => aes.decrypt(block),
    };
    let mut state = match spec.mode() {
        Mode::Xts(_) => Reference::new(tweak_key).encrypt(iv),
        Mode::Ctr(_) => iv.swap_bytes(),
        Mode::Cbc(_) | Mode::Ecb => iv,
    };
    for bytes in sector.as_chunks_mut::<16>().0 {
        let block = u128::from_le_bytes(*bytes);
        let out = match spec.mode() {
            Mode::Xts(_) => {
                let out = apply(block ^ state) ^ state;
                state = (state << 1) ^ ((state >> 127) * 0x87);
                out
            }
            Mode::Cbc(_) if direction == Direction::Encrypt => {
                state = apply(block ^ state);
                state
            }
            Mode::Cbc(_) => {
                let out = apply(block) ^ state;
                state = block;
                out
            }
            Mode::Ctr(_) => {
                let out = block ^ aes.encrypt(state.swap_bytes());
                state = state.wrapping_add(1);
                out
            }
            Mode::Ecb => apply(block),
        };
        *bytes = out.to_le_bytes();
    }
}

fn specifications() -> impl Strategy<Value = CipherSpec> {
    let mode = prop_oneof![4 => Just("xts"), 4 => Just("cbc"), 1 => Just("ctr")];
    let iv = prop_oneof![
        Just(Iv::Plain),
        Just(Iv::Plain64),
        Just(Iv::Plain64be),
        Just(Iv::Essiv(Hash::Sha256)),
        Just(Iv::Null),
    ];
    prop_oneof![
        8 => (mode, iv).prop_map(|(mode, iv)| format!("aes-{mode}-{iv}").parse().unwrap()),
        1 => Just("aes-ecb".parse().unwrap()),
    ]
}

/// Any number, with an eye on where 32 and 64 bits end.
fn first_ivs() -> impl Strategy<Value = u64> {
    let near = |end: u64| (0..600_u64).prop_map(move |before| end.wrapping_sub(before));
    prop_oneof![any::<u64>(), near(1 << 32), near(0), 0..1000_u64]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn every_kernel_agrees_with_aes_one_block_at_a_time(
        spec in specifications(),
        key in prop::array::uniform32(any::<u8>()),
        key_choice in any::<prop::sample::Index>(),
        sector_size in prop::sample::select(&SectorSize::ALL[..]),
        iv_unit in prop::sample::select(vec![IvUnit::Bytes512, IvUnit::Sector]),
        sectors in 1..=70_usize,
        first_iv in first_ivs(),
        offset in 0..64_usize,
        seed in any::<u8>(),
    ) {
        let bits = usize::from(*key_choice.get(spec.key_sizes()));
        let key: Vec<u8> =
            key.into_iter().chain(key.map(|byte| byte.wrapping_add(seed | 1))).collect();
        let key = VolumeKey::new(key[..bits / 8].to_vec());
        let size = sector_size.bytes();
        let plain: Vec<u8> =
            (0..offset + sectors * size).map(|i| (i * 31 + i / 256) as u8 ^ seed).collect();
        let step = if iv_unit == IvUnit::Sector { 1 } else { size as u64 / 512 };

        for direction in [Direction::Encrypt, Direction::Decrypt] {
            let mut expected = plain.clone();
            let mut number = first_iv;
            for sector in expected[offset..].chunks_exact_mut(size) {
                reference(spec, key.expose_bytes(), number, direction, sector);
                number = number.wrapping_add(step);
            }
            for kernel in Kernel::available() {
                let encryption = spec.with_key_bits(bits).unwrap();
                let cipher =
                    SectorCipher::with_kernel(encryption, &key, sector_size, iv_unit, kernel)
                        .unwrap();
                let mut actual = plain.clone();
                match direction {
                    Direction::Encrypt => cipher.encrypt(&mut actual[offset..], first_iv),
                    Direction::Decrypt => cipher.decrypt(&mut actual[offset..], first_iv),
                }
                prop_assert!(actual == expected, "{kernel} {direction:?} {spec} {bits}");
            }
        }
    }
}
