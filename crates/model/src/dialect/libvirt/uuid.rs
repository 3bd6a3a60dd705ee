//! UUIDs as the daemon reads and prints them.

/// Returns a UUID in canonical form: small letters, with dashes.
///
/// It is read as liberally as the daemon does: 32 hexadecimal digits of any case, white space around
/// them, and dashes and blanks before any pair of them. `None` is what is none.
pub fn canonical_uuid(text: &str) -> Option<String> {
    let text = text.trim_matches(SPACES);
    let mut pairs = Vec::with_capacity(16);
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        if matches!(first, b'-' | b' ') && pairs.len() < 16 {
            rest = behind;
            continue;
        }
        let (pair, behind) = rest.split_at_checked(2)?;
        let pair = std::str::from_utf8(pair).ok()?;
        if pairs.len() == 16 || !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        pairs.push(pair.to_ascii_lowercase());
        rest = behind;
    }
    if pairs.len() < 16 {
        return None;
    }
    let mut canonical = String::with_capacity(36);
    for (at, pair) in pairs.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            canonical.push('-');
        }
        canonical.push_str(pair);
    }
    Some(canonical)
}

/// What C calls white space.
const SPACES: [char; 6] = [' ', '\t', '\n', '\u{b}', '\u{c}', '\r'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_uuid_are_the_same() {
        let canonical = "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f";
        for text in [
            canonical,
            "0A81F5B2-8403-7B23-C8D6-21CCC2F80D6F",
            "0a81f5b284037b23c8d621ccc2f80d6f",
            "  \t\n0a81f5b2-84037b23c8d6-21ccc2f80d6f \n",
            "0a 81 f5 b2 84 03 7b 23 c8 d6 21 cc c2 f8 0d 6f",
            "--0a81f5b2--84037b23c8d621ccc2f80d6f",
        ] {
            assert_eq!(canonical_uuid(text).as_deref(), Some(canonical), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_uuid_is_none() {
        for text in [
            "",
            "  ",
            "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6",
            "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f0",
            "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f-",
            "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6g",
            "0-a81f5b2-8403-7b23-c8d6-21ccc2f80d6f",
            "{0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f}",
            "ä0a81f5b284037b23c8d621ccc2f80d6",
        ] {
            assert_eq!(canonical_uuid(text), None, "{text:?}");
        }
    }
}
