//! The S-boxes of Serpent and their inverses as boolean formulas.
//!
//! Every function takes four words and works on the 32 columns of bits at once, the first word
//! holding the low bits, as the tables of the specification's appendix A.5 map them. The formulas
//! are the shortest that a search by machine found: 12 to 15 operations, complements not counted,
//! which most processors do on the way.

/// S0.
#[inline(always)]
pub(super) fn s0([x0, x1, x2, x3]: [u32; 4]) -> [u32; 4] {
    let t0 = x3 | x0;
    let t1 = t0 ^ x1;
    let t2 = t1 ^ x2;
    let t3 = x3 ^ x0;
    let t4 = t1 & !t3;
    let t5 = t4 ^ x0;
    let t6 = t5 & !t2;
    let t7 = t6 ^ t3;
    let t8 = t7 ^ x2;
    let t9 = t7 ^ t5;
    let t10 = t9 ^ t1;
    let t11 = t10 & t8;
    let t12 = t11 ^ t1;
    [!t8, !t10, t12, t2]
}

/// S1.
#[inline(always)]
pub(super) fn s1([x0, x1, x2, x3]: [u32; 4]) -> [u32; 4] {
    let t0 = x1 & !x0;
    let t1 = t0 ^ x2;
    let t2 = x3 ^ x0;
    let t3 = t2 ^ x1;
    let t4 = x3 & !t3;
    let t5 = t4 ^ x0;
    let t6 = t5 & !t1;
    let t7 = t6 ^ t3;
    let t8 = t5 ^ t1;
    let t9 = t8 & t7;
    let t10 = t9 ^ t5;
    let t11 = t8 ^ t7;
    let t12 = t1 ^ x3;
    [!t10, !t11, !t12, !t7]
}

/// S2.
#[inline(always)]
pub(super) fn s2([x0, x1, x2, x3]: [u32; 4]) -> [u32; 4] {
    let t0 = x2 & x0;
    let t1 = t0 ^ x3;
    let t2 = x2 ^ x1;
    let t3 = t2 ^ t1;
    let t4 = t1 & x1;
    let t5 = t4 ^ x0;
    let t6 = t5 ^ t2;
    let t7 = t1 & !t5;
    let t8 = t7 ^ x2;
    let t9 = t6 & !t8;
    let t10 = t9 ^ t1;
    let t11 = t10 ^ t8;
    [t3, t11, t10, !t6]
}

/// S3.
#[inline(always)]
pub(super) fn s3([x0, x1, x2, x3]: [u32; 4]) -> [u32; 4] {
    let t0 = x2 & !x3;
    let t1 = t0 | x0;
    let t2 = t1 ^ x1;
    let t3 = x0 & !x2;
    let t4 = t3 | t2;
    let t5 = t4 ^ x3;
    let t6 = x3 & x0;
    let t7 = t2 & !t6;
    let t8 = t7 ^ x2;
    let t9 = t5 | t2;
    let t10 = t9 ^ x0;
    let t11 = t10 ^ t8;
    let t12 = t8 ^ t5;
    let t13 = t12 & t10;
    let t14 = t13 ^ t2;
    [t14, t8, t11, t5]
}

/// S4.
#[inline(always)]
pub(super) fn s4([x0, x1, x2, x3]: [u32; 4]) -> [u32; 4] {
    let t0 = x3 ^ x0;
    let t1 = x1 ^ x0;
    let t2 = t1 & !t0;
    let t3 = t2 ^ x2;
    let t4 = t3 ^ x3;
    let t5 = t4 | t1;
    let t6 = t4 | x1;
    let t7 = t6 ^ t0;
    let t8 = t5 ^ x1;
    let t9 = t8 | t7;
    let t10 = t6 & t0;
    let t11 = t10 ^ t8;
    let t12 = t9 ^ t3;
    [!t4, t12, t11, t7]
}

/// S5.
#[inline(always)]
pub(super) fn s5([x0, x1, x2, x3]: [u32; 4]) -> [u32; 4] {
    let t0 = x1 ^ x0;
    let t1 = x3 ^ x1;
    let t2 = t1 | t0;
    let t3 = t2 ^ x2;
    let t4 = t3 ^ x0;
    let t5 = t1 & !t4;
    let t6 = t4 | x3;
    let t7 = t6 ^ t0;
    let t8 = t5 ^ x3;
    let t9 = t8 & !t7;
    let t10 = t9 ^ t3;
    let t11 = t6 & t0;
    let t12 = t11 ^ t8;
    [!t4, !t7, !t12, !t10]
}

/// S6.
#[inline(always)]
pub(super) fn s6([x0, x1, x2, x3]: [u32; 4]) -> [u32; 4] {
    let t0 = x3 & x0;
    let t1 = t0 ^ x2;
    let t2 = t1 ^ x1;
    let t3 = t2 & !x3;
    let t4 = t3 ^ x0;
    let t5 = t4 & t2;
    let t6 = t5 ^ x3;
    let t7 = t6 & x1;
    let t8 = t7 ^ t4;
    let t9 = t8 ^ t1;
    let t10 = t9 ^ t6;
    let t11 = t8 & !t10;
    let t12 = t11 ^ t6;
    [!t10, !t2, !t8, t12]
}

/// S7.
#[inline(always)]
pub(super) fn s7([x0, x1, x2, x3]: [u32; 4]) -> [u32; 4] {
    let t0 = x2 & !x1;
    let t1 = t0 ^ x3;
    let t2 = x0 & !t1;
    let t3 = t2 ^ x2;
    let t4 = t3 ^ x1;
    let t5 = x3 | x2;
    let t6 = t4 & !t2;
    let t7 = t6 ^ x0;
    let t8 = t7 ^ t5;
    let t9 = t8 & t4;
    let t10 = t9 ^ t1;
    let t11 = t7 ^ t3;
    let t12 = t10 ^ t8;
    let t13 = t11 ^ t1;
    [!t12, t13, t10, t4]
}

/// The inverse of S0.
#[inline(always)]
pub(super) fn inverse_s0([x0, x1, x2, x3]: [u32; 4]) -> [u32; 4] {
    let t0 = x1 | x0;
    let t1 = t0 ^ x2;
    let t2 = t1 ^ x3;
    let t3 = x3 & x1;
    let t4 = t3 ^ x0;
    let t5 = x3 & !t4;
    let t6 = t5 ^ x1;
    let t7 = t2 & !t6;
    let t8 = t7 ^ t4;
    let t9 = t6 ^ t1;
    let t10 = t9 ^ t8;
    let t11 = t9 | t8;
    let t12 = t11 ^ t6;
    [!t8, t12, !t2, !t10]
}

/// The inverse of S1.
#[inline(always)]
pub(super) fn inverse_s1([x0, x1, x2, x3]: [u32; 4]) -> [u32; 4] {
    let t0 = x3 & x1;
    let t1 = t0 ^ x0;
    let t2 = t1 ^ x3;
    let t3 = t2 ^ x2;
    let t4 = t1 ^ x1;
    let t5 = t4 & x2;
    let t6 = t5 ^ x1;
    let t7 = t6 & t3;
    let t8 = t7 ^ t4;
    let t9 = t3 & !t8;
    let t10 = t9 ^ t6;
    let t11 = t8 & t6;
    let t12 = t11 ^ t2;
    [!t8, t10, !t12, t3]
}

/// The inverse of S2.
#[inline(always)]
pub(super) fn inverse_s2([x0, x1, x2, x3]: [u32; 4]) -> [u32; 4] {
    let t0 = x3 ^ x0;
    let t1 = x2 ^ x1;
    let t2 = x3 & !t1;
    let t3 = t2 ^ x1;
    let t4 = t3 | t0;
    let t5 = t4 ^ t1;
    let t6 = t5 ^ x0;
    let t7 = t6 | t3;
    let t8 = t7 ^ t0;
    let t9 = t6 ^ t3;
    let t10 = t8 & !t5;
    let t11 = t10 ^ t3;
    [t8, t9, !t5, !t11]
}

/// The inverse of S3.
#[inline(always)]
pub(super) fn inverse_s3([x0, x1, x2, x3]: [u32; 4]) -> [u32; 4] {
    let t0 = x1 & !x2;
    let t1 = t0 ^ x0;
    let t2 = t1 | x3;
    let t3 = t2 ^ x1;
    let t4 = t3 ^ x2;
    let t5 = t4 ^ x3;
    let t6 = x1 | x0;
    let t7 = t2 & !t5;
    let t8 = t7 ^ t6;
    let t9 = t8 | t4;
    let t10 = t9 ^ t1;
    let t11 = t10 ^ t8;
    let t12 = t3 ^ t1;
    let t13 = t12 ^ t7;
    [t4, t10, t13, t11]
}

/// The inverse of S4.
#[inline(always)]
pub(super) fn inverse_s4([x0, x1, x2, x3]: [u32; 4]) -> [u32; 4] {
    let t0 = x0 & !x1;
    let t1 = t0 ^ x2;
    let t2 = x0 & !x2;
    let t3 = t2 | x3;
    let t4 = t3 ^ t1;
    let t5 = t1 & !x3;
    let t6 = t5 ^ x1;
    let t7 = t6 ^ x0;
    let t8 = x0 & !t4;
    let t9 = t8 ^ x3;
    let t10 = t9 ^ t7;
    let t11 = t7 ^ t4;
    let t12 = t11 & t9;
    let t13 = t12 ^ t6;
    [!t10, t4, !t13, t7]
}

/// The inverse of S5.
#[inline(always)]
pub(super) fn inverse_s5([x0, x1, x2, x3]: [u32; 4]) -> [u32; 4] {
    let t0 = x3 & x0;
    let t1 = t0 ^ x2;
    let t2 = t1 & x1;
    let t3 = t2 ^ x3;
    let t4 = x0 & !t3;
    let t5 = x1 & !t4;
    let t6 = t5 ^ t1;
    let t7 = t3 ^ x0;
    let t8 = t6 & x0;
    let t9 = t8 ^ x1;
    let t10 = t9 ^ t7;
    let t11 = t7 ^ t6;
    let t12 = t11 & !t9;
    let t13 = t12 ^ t3;
    [t7, t10, t13, !t6]
}

/// The inverse of S6.
#[inline(always)]
pub(super) fn inverse_s6([x0, x1, x2, x3]: [u32; 4]) -> [u32; 4] {
    let t0 = x2 | x0;
    let t1 = t0 ^ x3;
    let t2 = t1 ^ x0;
    let t3 = t2 ^ x1;
    let t4 = t1 ^ x2;
    let t5 = t4 & !t2;
    let t6 = t5 ^ x2;
    let t7 = t6 & x1;
    let t8 = t7 ^ t4;
    let t9 = t6 ^ x1;
    let t10 = t9 | t8;
    let t11 = t10 ^ t2;
    let t12 = t9 ^ t8;
    [!t8, !t3, !t11, !t12]
}

/// The inverse of S7.
#[inline(always)]
pub(super) fn inverse_s7([x0, x1, x2, x3]: [u32; 4]) -> [u32; 4] {
    let t0 = x1 & x0;
    let t1 = x3 & !t0;
    let t2 = t1 ^ x2;
    let t3 = x2 | x1;
    let t4 = t3 & !t2;
    let t5 = t4 ^ x0;
    let t6 = x2 & !x0;
    let t7 = t2 & !t6;
    let t8 = t7 ^ x1;
    let t9 = t5 | t2;
    let t10 = t9 ^ x3;
    let t11 = t10 ^ t8;
    let t12 = t11 ^ t5;
    let t13 = t12 & !t10;
    let t14 = t13 ^ t2;
    [!t5, !t11, t8, t14]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables of the specification.
    const TABLES: [[usize; 16]; 8] = [
        [3, 8, 15, 1, 10, 6, 5, 11, 14, 13, 4, 2, 7, 0, 9, 12],
        [15, 12, 2, 7, 9, 0, 5, 10, 1, 11, 14, 8, 6, 13, 3, 4],
        [8, 6, 7, 9, 3, 12, 10, 15, 13, 1, 14, 4, 0, 11, 5, 2],
        [0, 15, 11, 8, 12, 9, 6, 3, 13, 1, 2, 4, 10, 7, 5, 14],
        [1, 15, 8, 3, 12, 0, 11, 6, 2, 5, 4, 10, 9, 14, 7, 13],
        [15, 5, 2, 11, 4, 10, 9, 12, 0, 3, 14, 8, 13, 6, 7, 1],
        [7, 2, 12, 5, 8, 4, 6, 11, 14, 9, 1, 15, 13, 3, 10, 0],
        [1, 13, 15, 0, 14, 8, 2, 11, 7, 4, 12, 10, 9, 3, 5, 6],
    ];

    /// Packs sixteen nibbles into words of bits, the nibble of index `i` in column `i` and, so
    /// that the upper half of the words is looked at too, in column `i + 16`.
    fn columns(nibbles: &[usize; 16]) -> [u32; 4] {
        [0, 1, 2, 3].map(|bit| {
            let half = (0..16).fold(0, |word, i| word | (nibbles[i] as u32 >> bit & 1) << i);
            half | half << 16
        })
    }

    #[test]
    fn formulas_agree_with_the_tables() {
        let inputs: [usize; 16] = std::array::from_fn(|i| i);
        let forward = [s0, s1, s2, s3, s4, s5, s6, s7];
        let inverse = [
            inverse_s0, inverse_s1, inverse_s2, inverse_s3, inverse_s4, inverse_s5, inverse_s6,
            inverse_s7,
        ];
        for (i, table) in TABLES.iter().enumerate() {
            assert_eq!(forward[i](columns(&inputs)), columns(table), "S{i}");
            assert_eq!(inverse[i](columns(table)), columns(&inputs), "inverse of S{i}");
        }
    }
}
