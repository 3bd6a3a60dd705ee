//! Kubernetes' quantities, as far as they are bytes.

/// Returns the bytes of a quantity as Kubernetes writes them: `10Gi`, `1.5G`, `2e9`, `512`. A part of a byte
/// counts as a whole one.
///
/// # Errors
///
/// What is wrong with it, and what it should look like.
pub fn bytes_of_quantity(text: &str) -> Result<u64, String> {
    let wrong = || "this is no quantity: use bytes, as in 10Gi, 500M or 1073741824".to_owned();
    let large = || "this is more than 8 EiB, which no volume has".to_owned();
    if text.len() > LONGEST {
        return Err(wrong());
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    if text.starts_with('-') {
        return Err("this is less than nothing".to_owned());
    }
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits(text));
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(wrong());
    }
    let scale = Scale::of(suffix).ok_or_else(wrong)?;
    let (kept, lost) = fraction.split_at(fraction.len().min(FRACTION));
    let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let padded = format!("{kept:0<FRACTION$}");
    let lost = u128::from(lost.bytes().any(|digit| digit != b'0'));
    let parts = number(whole)
        .and_then(|whole| whole.checked_mul(UNIT))
        .and_then(|parts| parts.checked_add(number(&padded)?))
        .ok_or_else(large)?;
    if parts == 0 && lost == 0 {
        return Ok(0);
    }
    let (times, divided) = scale.factors().ok_or_else(|| match scale {
        Scale::Ten(exponent) if exponent < 0 => wrong(),
        _ => large(),
    })?;
    let product = parts.checked_mul(times).and_then(|product| product.checked_add(lost));
    let bytes = product.ok_or_else(large)?.div_ceil(UNIT * divided);
    u64::try_from(bytes).ok().filter(|&bytes| i64::try_from(bytes).is_ok()).ok_or_else(large)
}

/// What a number is multiplied with.
#[derive(Clone, Copy)]
enum Scale {
    /// A power of two.
    Two(u32),
    /// A power of ten.
    Ten(i32),
}

impl Scale {
    fn of(suffix: &str) -> Option<Self> {
        Some(match suffix {
            "" => Self::Ten(0),
            "Ki" => Self::Two(10),
            "Mi" => Self::Two(20),
            "Gi" => Self::Two(30),
            "Ti" => Self::Two(40),
            "Pi" => Self::Two(50),
            "Ei" => Self::Two(60),
            "n" => Self::Ten(-9),
            "u" => Self::Ten(-6),
            "m" => Self::Ten(-3),
            "k" => Self::Ten(3),
            "M" => Self::Ten(6),
            "G" => Self::Ten(9),
            "T" => Self::Ten(12),
            "P" => Self::Ten(15),
            "E" => Self::Ten(18),
            _ => {
                let exponent = suffix.strip_prefix(['e', 'E'])?;
                Self::Ten(exponent.parse().ok()?)
            }
        })
    }

    /// Returns what to multiply with and what to divide by, `None` when it is out of all bounds.
    fn factors(self) -> Option<(u128, u128)> {
        match self {
            Self::Two(exponent) => Some((1 << exponent, 1)),
            Self::Ten(exponent @ -18..=18) => {
                let power = 10u128.pow(exponent.unsigned_abs());
                Some(if exponent < 0 { (1, power) } else { (power, 1) })
            }
            Self::Ten(_) => None,
        }
    }
}

/// How many digits of a fraction are counted; the others round up.
const FRACTION: usize = 15;
/// One, in units of the last digit that is counted.
const UNIT: u128 = 10u128.pow(15);
/// The most characters of a quantity.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        let cases = [
            ("512", 512),
            ("0", 0),
            ("10Gi", 10 << 30),
            ("1.5Gi", 3 << 29),
            ("0.5", 1),
            (".5k", 500),
            ("5.", 5),
            ("1k", 1000),
            ("500M", 500_000_000),
            ("2e9", 2_000_000_000),
            ("1.5E3", 1500),
            ("1E", 1_000_000_000_000_000_000),
            ("7Ei", 7 << 60),
            ("1500m", 2),
            ("1n", 1),
            ("12e-1", 2),
            ("+3", 3),
            ("0.0000000000000000001", 1),
            ("9223372036854775807", i64::MAX as u64),
        ];
        for (text, bytes) in cases {
            assert_eq!(bytes_of_quantity(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_of_bytes_is_refused() {
        let bad = [
            "",
            ".",
            "-1",
            "1K",
            "1 Gi",
            "1gi",
            "Gi",
            "1e",
            "1e99",
            "1e-99",
            "0x10",
            "1.2.3",
            "8Ei",
            "9223372036854775808",
            "ten",
            "1e2Gi",
            "１",
        ];
        for text in bad {
            assert!(bytes_of_quantity(text).is_err(), "{text}");
        }
        assert!(bytes_of_quantity(&"9".repeat(60)).unwrap_err().contains("8 EiB"));
        assert!(bytes_of_quantity(&"9".repeat(65)).is_err());
    }
}
