//! An RSA key of 1024 bits that signs: no library here still does, so that a server could not show it.
//!
//! Only for the test that it is refused. It takes no care to hide the key, which is below.

use rustls::{
    Error, SignatureAlgorithm, SignatureScheme,
    crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    sign::{Signer, SigningKey},
};

/// A number of 1024 bits, its lowest part first.
type Number = [u64; LIMBS];

const LIMBS: usize = 16;

/// The modulus. Its highest bit is set.
const MODULUS: Number = [
    0x4640_a13e_ff3f_4245,
    0x735d_4294_a3c2_979b,
    0xc82c_b63c_58cf_c18c,
    0xf856_f250_3abb_ba68,
    0xb844_3ff8_9009_a80c,
    0x3506_228c_82d6_b96d,
    0xcd92_e86d_5d01_d29f,
    0x79fa_3bf4_80e9_97fc,
    0xbce7_9c08_3302_6480,
    0xe87a_c342_51ba_bd53,
    0x88ca_e4c7_25ec_d82a,
    0xb830_7677_5693_e5be,
    0xa0a5_f568_d9be_f068,
    0x0b8a_85e4_4c15_2c29,
    0x6f00_d928_e300_afbd,
    0xda8c_1a2a_63fa_52f3,
];

const PRIVATE_EXPONENT: Number = [
    0xb7ea_fe1f_9e45_28d1,
    0x0088_d6b6_24a3_406f,
    0x3ba9_6f23_b2fa_2663,
    0x393d_6d07_23b9_c29c,
    0x5e37_b515_5fc3_58e4,
    0x320a_9089_564f_66b9,
    0x3fec_7291_45be_1d20,
    0xfaf8_8208_acb4_b2c1,
    0x6eae_ae89_bb85_62e9,
    0x6420_a082_11d2_aa4d,
    0x19d4_d563_7271_9fc8,
    0xa27c_2add_9b01_9125,
    0x8053_33d0_8368_94e1,
    0xae52_9dbf_e5b5_7198,
    0x5fbc_e4c3_68ef_f30d,
    0x8151_fdf9_af87_64a6,
];

const PUBLIC_EXPONENT: u64 = 65_537;

/// What precedes the digest, so that it says that it is one of SHA-256 (RFC 8017, section 9.2, note 1).
const SHA_256_INFO: [u8; 19] =
    *b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";

/// Signs as TLS 1.2 knows it: PKCS #1 v1.5 with SHA-256.
#[derive(Debug)]
pub(super) struct SmallRsaKey;

impl SigningKey for SmallRsaKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| Box::new(Self) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
}

impl Signer for SmallRsaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let padded = number_of(&padded_digest(message));
        let signature = power(&padded, &PRIVATE_EXPONENT);
        let mut public = [0; LIMBS];
        public[0] = PUBLIC_EXPONENT;
        assert_eq!(power(&signature, &public), padded, "the signature is right, and only its key too small");
        Ok(signature.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::RSA_PKCS1_SHA256
    }
}

/// EMSA-PKCS1-v1_5 (RFC 8017, section 9.2).
fn padded_digest(message: &[u8]) -> Vec<u8> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("a suite of TLS 1.3");
    let digest = suite.common.hash_provider.hash(message);
    let info = [&SHA_256_INFO[..], digest.as_ref()].concat();
    let padding = vec![0xff; LIMBS * 8 - info.len() - 3];
    [&[0, 1], &padding[..], &[0], &info].concat()
}

fn number_of(bytes: &[u8]) -> Number {
    let mut number = [0; LIMBS];
    for (limb, bytes) in number.iter_mut().zip(bytes.rchunks_exact(8)) {
        *limb = u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
    }
    number
}

/// Square and multiply, in Montgomery's form.
fn power(base: &Number, exponent: &Number) -> Number {
    // 2^1024 modulo the modulus is 1 in that form; doubled 1024 times it is what brings a number there.
    let one = subtract(&[0; LIMBS], &MODULUS);
    let to_form = (0..LIMBS * 64).fold(one, |number, _| double(&number));
    let base = multiply(base, &to_form);
    let bits = exponent.iter().rev().flat_map(|limb| (0..64).rev().map(move |bit| limb >> bit & 1 == 1));
    let result = bits.fold(one, |result, is_set| {
        let square = multiply(&result, &result);
        if is_set { multiply(&square, &base) } else { square }
    });
    let mut plain_one = [0; LIMBS];
    plain_one[0] = 1;
    multiply(&result, &plain_one)
}

/// The product divided by 2^1024, modulo the modulus (Montgomery 1985, with the parts interleaved).
fn multiply(left: &Number, right: &Number) -> Number {
    let mut sum = [0_u64; LIMBS + 2];
    for factor in right {
        add_multiple(&mut sum, left, *factor);
        let to_zero = sum[0].wrapping_mul(negative_inverse());
        add_multiple(&mut sum, &MODULUS, to_zero);
        // The lowest part is zero now.
        sum.copy_within(1.., 0);
        sum[LIMBS + 1] = 0;
    }
    let number: Number = sum[..LIMBS].try_into().expect("so many parts");
    if sum[LIMBS] == 1 || !is_below(&number, &MODULUS) { subtract(&number, &MODULUS) } else { number }
}

/// Adds `factor` times `number` to `sum`.
fn add_multiple(sum: &mut [u64; LIMBS + 2], number: &Number, factor: u64) {
    let mut carry = 0;
    for (index, part) in sum.iter_mut().enumerate() {
        let limb = number.get(index).copied().unwrap_or(0);
        let total = u128::from(*part) + u128::from(limb) * u128::from(factor) + carry;
        *part = low(total);
        carry = total >> 64;
    }
}

/// Minus one divided by the modulus, modulo 2^64 (Newton's iteration: each step doubles the right bits).
fn negative_inverse() -> u64 {
    let lowest = MODULUS[0];
    let step = |inverse: u64, _| inverse.wrapping_mul(2_u64.wrapping_sub(lowest.wrapping_mul(inverse)));
    (0..6).fold(1, step).wrapping_neg()
}

fn double(number: &Number) -> Number {
    let mut doubled = [0; LIMBS];
    let mut carry = 0;
    for (to, from) in doubled.iter_mut().zip(number) {
        *to = from << 1 | carry;
        carry = from >> 63;
    }
    if carry == 1 || !is_below(&doubled, &MODULUS) { subtract(&doubled, &MODULUS) } else { doubled }
}

/// The difference, modulo 2^1024.
fn subtract(left: &Number, right: &Number) -> Number {
    let mut difference = [0; LIMBS];
    let mut borrow = false;
    for (index, to) in difference.iter_mut().enumerate() {
        let (partly, first) = left[index].overflowing_sub(right[index]);
        let (wholly, second) = partly.overflowing_sub(u64::from(borrow));
        (*to, borrow) = (wholly, first || second);
    }
    difference
}

fn is_below(left: &Number, right: &Number) -> bool {
    left.iter().rev().lt(right.iter().rev())
}

#[allow(clippy::cast_possible_truncation)] // The lower half is what is asked for.
const fn low(total: u128) -> u64 {
    total as u64
}
