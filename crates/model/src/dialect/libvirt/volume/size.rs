//! Sizes with units, as the daemon reads them.

use super::super::contents::{Contents, text_of};
use super::super::xml::{Element, quoted};
use crate::Error;

/// Reads an element that holds a number, with its unit in `@unit`. An empty one is as none. Returns bytes.
pub(super) fn read(
    element: Option<&Element>,
    notes: &mut Vec<String>,
) -> Result<Option<u64>, Error> {
    let Some(element) = element else { return Ok(None) };
    let mut contents = Contents::of(element);
    let unit = contents.attribute("unit").unwrap_or_default();
    contents.all_left_out(notes);
    let text = text_of(element)?;
    if text.is_empty() {
        return Ok(None);
    }
    let name = &element.name;
    let digits = text.trim();
    let number = || -> Option<u128> {
        let all = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        // A number that fits into nothing is too large, not malformed.
        all.then(|| digits.parse().unwrap_or(u128::MAX))
    };
    let number = number().ok_or_else(|| {
        element.error(format!("<{name}> {} is not a whole number", quoted(&text)))
    })?;
    let factor = factor(unit).ok_or_else(|| {
        element.error(format!(
            "unit {} of <{name}> is not one of bytes, KB, MB, GB, TB, PB, EB (thousands) and KiB, MiB, \
             GiB, TiB, PiB, EiB (or K, M, G, T, P, E)",
            quoted(unit)
        ))
    })?;
    number
        .checked_mul(u128::from(factor))
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| *bytes <= MAX)
        .map(Some)
        .ok_or_else(|| element.error(format!("<{name}> is too large: the limit is {MAX} bytes")))
}

/// Returns an element that holds a number of bytes.
pub(super) fn write(name: &str, bytes: u64, unit: &str) -> Element {
    Element::new(name).with("unit", unit).with_text(bytes.to_string())
}

/// Returns the bytes of a unit, in whatever case it is written.
fn factor(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    if ["", "b", "byte", "bytes"].contains(&unit.as_str()) {
        return Some(1);
    }
    let (prefix, base) = match unit.strip_suffix("ib") {
        Some(prefix) => (prefix, 1024_u64),
        None => match unit.strip_suffix('b') {
            Some(prefix) => (prefix, 1000),
            None => (unit.as_str(), 1024),
        },
    };
    let prefixes = ["k", "m", "g", "t", "p", "e"];
    let power =
        prefixes.iter().zip(1..).find_map(|(known, power)| (*known == prefix).then_some(power))?;
    Some(base.pow(power))
}

/// The largest of all sizes, in bytes.
const MAX: u64 = (1 << 63) - 1;
