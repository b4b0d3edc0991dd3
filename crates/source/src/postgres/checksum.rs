//! PostgreSQL's page checksum (`src/include/storage/checksum_impl.h`): 32 FNV-1a hashes side by
//! side over the page's words, with one more shift each, folded into 16 bits.

/// Hashes side by side.
const LANES: usize = 32;
const PRIME: u32 = 16_777_619;
/// What the hashes begin with.
const SEEDS: [u32; LANES] = [
    0x5b1f_36e9,
    0xb852_5960,
    0x02ab_50aa,
    0x1de6_6d2a,
    0x79ff_467a,
    0x9bb9_f8a3,
    0x217e_7cd2,
    0x83e1_3d2c,
    0xf8d4_474f,
    0xe39e_b970,
    0x42c6_ae16,
    0x9932_16fa,
    0x7b09_3b5d,
    0x98da_ff3c,
    0xf718_902a,
    0x0b1c_9cdb,
    0xe58f_764b,
    0x1876_36bc,
    0x5d7b_3bb1,
    0xe73d_e7de,
    0x92be_c979,
    0xcca6_c0b2,
    0x304a_0979,
    0x85aa_43d4,
    0x7831_25bb,
    0x6ca8_eaa2,
    0xe407_eac6,
    0x4b5c_fc3e,
    0x9fbf_8c76,
    0x15ca_20be,
    0xf2ca_9fd3,
    0x959b_d756,
];

/// The checksum of block `block` of a relation; the field that holds it counts as zero.
pub(super) fn of_page<const BYTES: usize>(page: &[u8; BYTES], block: u32) -> u16 {
    let mut sums = SEEDS;
    let mut mix = |words: &[u32; LANES]| {
        for (sum, word) in sums.iter_mut().zip(words) {
            let mixed = *sum ^ word;
            *sum = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
        }
    };
    let (rows, _) = page.as_chunks::<{ 4 * LANES }>();
    for (i, row) in rows.iter().enumerate() {
        let mut words = [0; LANES];
        for (word, bytes) in words.iter_mut().zip(row.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        if i == 0 {
            words[2] &= 0xffff_0000;
        }
        mix(&words);
    }
    mix(&[0; LANES]);
    mix(&[0; LANES]);
    let folded = sums.into_iter().fold(0, |folded, sum| folded ^ sum) ^ block;
    u16::try_from(folded % 65_535 + 1).expect("a remainder of 65,535, plus one, has 16 bits")
}
