//! Sizes as people write them.

use strongroom::image_size::SizeChange;

/// Reads a number of bytes: `1048576`, `100M`, `1.5G`. K, M, G, T and P are powers of 1024, and so are
/// `Ki` and `KiB`, `Mi` and `MiB` and so on.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let problem = || format!("{text:?} is no size: write 1048576, 100M or 1.5G");
    // As Kubernetes writes them, and standards do.
    let binary = text.strip_suffix("iB").or_else(|| text.strip_suffix('i'));
    let (number, shift) = match binary.unwrap_or(text).char_indices().last() {
        Some((at, letter)) if letter.is_ascii_alphabetic() => {
            let power = "KMGTP".find(letter.to_ascii_uppercase()).ok_or_else(problem)?;
            (&text[..at], 10 * (power as u32 + 1))
        }
        _ if binary.is_some() => return Err(problem()),
        _ => (text, 0),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    let ends_in_point = number.contains('.') && part.is_empty();
    if whole.is_empty() || !digits(whole) || !digits(part) || ends_in_point || part.len() > 9 {
        return Err(problem());
    }
    let whole: u128 = whole.parse().map_err(|_| problem())?;
    let tenths: u128 = if part.is_empty() { 0 } else { part.parse().map_err(|_| problem())? };
    let scale = 10u128.pow(part.len() as u32);
    let scaled = whole
        .checked_mul(scale)
        .and_then(|whole| whole.checked_add(tenths))
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(problem)?;
    if !scaled.is_multiple_of(scale) {
        return Err(format!("{text:?} is no whole number of bytes"));
    }
    u64::try_from(scaled / scale).map_err(|_| format!("{text:?} is more than any file can have"))
}

/// Reads a size, or one with `+` or `-` before it for a change.
pub(crate) fn size_change(text: &str) -> Result<SizeChange, String> {
    if let Some(more) = text.strip_prefix('+') {
        return size(more).map(SizeChange::By);
    }
    if let Some(less) = text.strip_prefix('-') {
        return size(less).map(SizeChange::Less);
    }
    size(text).map(SizeChange::To)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("1k", 1024),
            ("100M", 100 << 20),
            ("1.5G", 3 << 29),
            ("0.5K", 512),
            ("2T", 2 << 40),
            ("1P", 1 << 50),
            ("10GiB", 10 << 30),
            ("1.5Mi", 3 << 19),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert_eq!(size_change("+1G"), Ok(SizeChange::By(1 << 30)));
        assert_eq!(size_change("-1G"), Ok(SizeChange::Less(1 << 30)));
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in [
            "",
            "G",
            "1X",
            "-1",
            "+1",
            "1.G",
            ".5G",
            "1.2.3",
            "1 G",
            "0.3",
            "99999999P",
            "1é",
            "1i",
            "1iB",
            "iB",
            "Gi",
            "1B",
            "1Gb",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
