//! Recognizes RSA keys that a faulty library has made (ROCA, CVE-2017-15361): their private keys can be computed.
//!
//! The library made primes of powers of 65537, so such a modulus is one modulo each small prime. Of others, not one in 2^100
//! is.

/// The small primes that every modulus of the library tells of.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Whether a modulus, its highest byte first, is one of that library.
pub(super) fn is_weak(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|&prime| is_power(remainder(modulus, prime), prime))
}

/// `prime` is so small that nothing overflows.
fn remainder(number: &[u8], prime: u32) -> u32 {
    number.iter().fold(0, |rest, &byte| ((rest << 8) | u32::from(byte)) % prime)
}

/// Whether a number is a power of 65537 modulo `prime`.
fn is_power(number: u32, prime: u32) -> bool {
    let mut power = 1;
    (0..prime).any(|_| {
        let is_it = power == number;
        power = power * 65_537 % prime;
        is_it
    })
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64URL_NOPAD;

    use super::*;

    /// Of the vectors of Wycheproof, `rejectsKeyWithRocaVulnerability`.
    const WEAK: &str = "AanFpofbj7KjD4Lf-N2hVMKR7yewSyXhhbirIMTGpfYEhZ_lnt5UoK98DnKIgArXGTu3MaW_HhFw16HGaTDUHqPrId7fe4r11CqR\
         w09yBFuW79V8sYIwHdzCaWflUI6auImYbVfoN9_nD5n8N8SY9DwXw7mwZM9wREPXoDPgOoIWl6q_MPsp7n0zs3Z5ZaiQWOOzl1S9\
         OhwAfSiiOwz6efnXEaxuTEtPd7BjSx7NaFka8Dx9U7YqXy2RFj1O9PjyaDGuRh7YXsX3iMUSP_wSyHQg_c_qHRtKUsNSGCT7OZg0\
         hzm2KphtjnayKJvC64vAbROBR4Ubg6Bxg9IQVZ-QYyE";

    #[test]
    fn j03_keys_of_a_faulty_library() {
        let mut modulus = BASE64URL_NOPAD.decode(WEAK.as_bytes()).unwrap();
        assert!(is_weak(&modulus));
        // Another byte in one place, and it is none of them.
        for byte in 0..=255 {
            modulus[200] = modulus[200].wrapping_add(1);
            assert_eq!(is_weak(&modulus), byte == 255, "{byte}");
        }
    }

    #[test]
    fn remainders_and_powers() {
        assert_eq!((remainder(&[1, 0], 167), remainder(&[0xff; 4], 7), remainder(&[], 3)), (89, 3, 0));
        // 65537 is 3 modulo 7, whose powers are all but 0; and 10 modulo 11, whose powers are 1 and 10.
        assert!(!is_power(0, 7) && (1..7).all(|number| is_power(number, 7)));
        assert!((0..11).all(|number| is_power(number, 11) == matches!(number, 1 | 10)));
    }
}
