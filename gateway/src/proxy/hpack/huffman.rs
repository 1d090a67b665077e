//! Decodes Huffman-coded strings (RFC 7541 5.2, appendix B). The code is canonical: only the lengths are written here,
//! and the tables are computed from them at compile time.

/// How many bits each byte takes.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The shortest and the longest code, in bits. The longest are left out of [`LENGTHS`] but for three: the fourth ends a
/// string, and none may hold it.
const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// Codes of at most so many bits, which all common bytes have, are looked up at once.
const COMMON: usize = 8;

/// For each length: the first code of it (left-aligned in [`LONGEST`] bits), the first of the next, and where its bytes
/// begin in [`ORDER`].
const ROWS: [(u32, u32, usize); LONGEST + 1] = rows();

/// The bytes, by their codes.
const ORDER: [u8; 256] = order();

/// For each beginning of [`COMMON`] bits: the byte and the length of its code; length 0: it is longer.
const TABLE: [(u8, u8); 1 << COMMON] = table();

#[expect(clippy::indexing_slicing, reason = "evaluated when compiled: a fault there is an error here")]
const fn rows() -> [(u32, u32, usize); LONGEST + 1] {
    let mut rows = [(0, 0, 0); LONGEST + 1];
    let (mut code, mut place, mut length) = (0_u32, 0, SHORTEST);
    while length <= LONGEST {
        let first = code;
        let begins = place;
        let mut byte = 0;
        while byte < LENGTHS.len() {
            if LENGTHS[byte] as usize == length {
                code += 1 << (LONGEST - length);
                place += 1;
            }
            byte += 1;
        }
        rows[length] = (first, code, begins);
        length += 1;
    }
    rows
}

#[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "as above, of 256 bytes")]
const fn order() -> [u8; 256] {
    let mut order = [0; 256];
    let (mut place, mut length) = (0, SHORTEST);
    while length <= LONGEST {
        let mut byte = 0;
        while byte < LENGTHS.len() {
            if LENGTHS[byte] as usize == length {
                order[place] = byte as u8;
                place += 1;
            }
            byte += 1;
        }
        length += 1;
    }
    order
}

#[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "as above, of lengths up to 8")]
const fn table() -> [(u8, u8); 1 << COMMON] {
    let mut table = [(0, 0); 1 << COMMON];
    let mut length = SHORTEST;
    while length <= COMMON {
        let (first, end, begins) = ROWS[length];
        let step = 1 << (COMMON - length);
        let mut start = (first >> (LONGEST - COMMON)) as usize;
        let mut place = begins;
        while start < (end >> (LONGEST - COMMON)) as usize {
            let mut at = start;
            while at < start + step {
                table[at] = (ORDER[place], length as u8);
                at += 1;
            }
            start += step;
            place += 1;
        }
        length += 1;
    }
    table
}

/// Decodes `coded`. `None`: it is invalid, or not padded as it must be.
pub(super) fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(coded.len() * 8 / SHORTEST);
    let (mut bits, mut have) = (0_u64, 0_usize);
    let mut rest = coded.iter();
    loop {
        while have <= 56
            && let Some(&byte) = rest.next()
        {
            bits |= u64::from(byte) << (56 - have);
            have += 8;
        }
        let (byte, length) = first(bits)?;
        if length > have {
            // RFC 7541 5.2: fewer than eight bits, all of them ones, are left over.
            let padding = bits.leading_ones() as usize;
            return (have < 8 && padding >= have).then_some(out);
        }
        out.push(byte);
        bits <<= length;
        have -= length;
    }
}

/// The byte whose code `bits` begins with, and the length of that. What is not there counts as zeros.
fn first(bits: u64) -> Option<(u8, usize)> {
    let &(byte, length) = TABLE.get(usize::try_from(bits >> (64 - COMMON)).ok()?)?;
    if length > 0 {
        return Some((byte, usize::from(length)));
    }
    let beginning = u32::try_from(bits >> (64 - LONGEST)).ok()?;
    for (length, &(first, end, begins)) in ROWS.iter().enumerate().skip(COMMON + 1) {
        if beginning < end {
            let place = usize::try_from(beginning.checked_sub(first)? >> (LONGEST - length)).ok()?;
            return Some((*ORDER.get(begins + place)?, length));
        }
    }
    // The code that ends a string.
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bits of `text`, padded.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for &byte in text {
            let length = usize::from(LENGTHS[usize::from(byte)]);
            let (first, _, begins) = ROWS[length];
            let place = ORDER.iter().position(|&known| known == byte).unwrap() - begins;
            let code = (first >> (LONGEST - length)) + u32::try_from(place).unwrap();
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        bits.chunks(8).map(|bits| bits.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit))).collect()
    }

    #[test]
    fn codes_are_those_of_the_rfc() {
        // RFC 7541 appendix C.4 and C.6.
        for (coded, text) in [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], "custom-key"),
            (&[0x64, 0x02], "302"),
            (&[], ""),
        ] {
            assert_eq!(decode(coded).as_deref(), Some(text.as_bytes()), "{text}");
            assert_eq!(encode(text.as_bytes()), coded, "{text}");
        }
        // Every code there is fills the space of codes, but for the one that ends a string.
        assert_eq!(ROWS[LONGEST].1, (1 << LONGEST) - 1);
    }

    #[test]
    fn what_is_not_padded_as_it_must_be_says_nothing() {
        // "0" and ones; then with a zero among them, zeros alone, a byte too many, and the code that ends a string.
        assert_eq!(decode(&[0x07]).as_deref(), Some(&b"0"[..]));
        for wrong in [&[0x06][..], &[0x00], &[0x07, 0xff], &[0xff], &[0xff; 4], &[0xff, 0xff, 0xff, 0xfc, 0x07]] {
            assert_eq!(decode(wrong), None, "{wrong:x?}");
        }
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode(&encode(&text)), Some(text));
        }

        #[test]
        fn anything_is_a_text_or_none(coded in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(text) = decode(&coded) {
                prop_assert_eq!(encode(&text), coded);
            }
        }
    }
}
