//! What a qcow2 image says of itself.

use serde_json::{Value, json};
use strongroom::qcow2_image::Description;
use strongroom_disk::qcow2::{Compression, Header, Snapshot, Version};

use crate::ui;

/// Adds what is known of an image to lines of text and to an object.
pub(super) fn describe(
    image: &Description,
    lines: &mut Vec<(&'static str, String)>,
    object: &mut Value,
) {
    let header = &image.header;
    let format = if image.luks.is_some() { "qcow2-luks" } else { "qcow2" };
    let version = if header.version == Version::V2 { 2 } else { 3 };
    let compression = match header.compression {
        Compression::Zlib => "zlib",
        Compression::Zstd => "zstd",
    };
    lines.push(("format", format!("{format}, version {version}")));
    lines.push(("virtual size", ui::bytes(header.size)));
    lines.push(("cluster size", ui::bytes(header.cluster_size())));
    lines.push(("compression", compression.to_owned()));
    lines.push(("refcounts", format!("{} bits", header.refcount_width.bits())));
    object["format"] = json!(format);
    object["version"] = json!(version);
    object["virtual_bytes"] = json!(header.size);
    object["cluster_size"] = json!(header.cluster_size());
    object["compression"] = json!(compression);
    object["refcount_bits"] = json!(header.refcount_width.bits());
    object["lazy_refcounts"] = json!(header.has_lazy_refcounts());
    object["extended_l2"] = json!(header.has_subclusters());
    object["dirty"] = json!(header.is_dirty());
    object["corrupt"] = json!(header.is_corrupt());
    let features = features(header);
    if !features.is_empty() {
        lines.push(("features", features.join(", ")));
    }
    object["features"] = json!(features);
    files(header, lines, object);
    object["snapshots"] = image.snapshots.iter().map(snapshot).collect();
    for snapshot in &image.snapshots {
        lines.push((
            "snapshot",
            format!(
                "{} {:?}, {}, taken {}",
                snapshot.id,
                snapshot.name,
                ui::bytes(snapshot.size),
                date(snapshot.seconds)
            ),
        ));
    }
    object["header_extensions"] = header
        .extensions
        .iter()
        .map(|extension| {
            let kind = format!("{:#010x}", extension.kind);
            json!({ "type": kind, "name": extension.name(), "bytes": extension.data.len() })
        })
        .collect();
    let names: Vec<String> = header
        .extensions
        .iter()
        .map(|extension| match extension.name() {
            Some(name) => name.to_owned(),
            None => format!("{:#010x}", extension.kind),
        })
        .collect();
    if !names.is_empty() {
        lines.push(("extensions", names.join(", ")));
    }
}

/// Adds the names of the files that the image needs. They are not opened.
fn files(header: &Header, lines: &mut Vec<(&'static str, String)>, object: &mut Value) {
    if let Some(backing) = &header.backing {
        let format = backing.format.as_deref();
        let said = format.unwrap_or("a format that it does not say");
        lines.push(("backing file", format!("{:?}, {said} (not opened)", backing.name)));
        object["backing"] = json!({ "name": backing.name, "format": format });
    }
    if header.has_data_file() {
        let (name, raw) = (header.data_file.as_deref(), header.data_file_is_raw());
        let kind = if raw { ", raw" } else { "" };
        let text = name.map_or("not named".to_owned(), |name| format!("{name:?}"));
        lines.push(("data file", format!("{text}{kind} (not opened)")));
        object["data_file"] = json!({ "name": name, "raw": raw });
    }
}

fn features(header: &Header) -> Vec<&'static str> {
    [
        (header.is_dirty(), "dirty: it was not closed, and wants a check"),
        (header.is_corrupt(), "corrupt: it was found damaged, and wants a repair"),
        (header.has_lazy_refcounts(), "lazy refcounts"),
        (header.has_subclusters(), "extended L2 entries"),
    ]
    .into_iter()
    .filter_map(|(is_set, name)| is_set.then_some(name))
    .collect()
}

fn snapshot(snapshot: &Snapshot) -> Value {
    json!({
        "id": snapshot.id,
        "name": snapshot.name,
        "virtual_bytes": snapshot.size,
        "state_bytes": snapshot.state_size,
        "seconds": snapshot.seconds,
        "date": date(snapshot.seconds),
    })
}

/// Returns a moment as `2024-02-29T12:34:56Z`, from the seconds since 1970.
fn date(seconds: u32) -> String {
    let (days, time) = (seconds / 86400, seconds % 86400);
    let mut year = 1970;
    let mut left = days;
    let is_leap = |year: u32| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while left >= 365 + u32::from(is_leap(year)) {
        left -= 365 + u32::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u32::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let day = left + 1;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_210_096, "2024-02-29T12:34:56Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (u32::MAX, "2106-02-07T06:28:15Z"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }
}
