//! Who uses a mount.

use std::fs;
use std::path::Path;

use super::table;

/// Returns what is seen to keep a mount busy: `sh (4711), /a/b, which is mounted below it`. `None` when
/// nothing is seen, which does not mean much: a loop device and other namespaces are not looked at.
pub(crate) fn of(mount: &Path) -> Option<String> {
    let mut users: Vec<String> = table::below(mount)
        .ok()
        .flatten()
        .map(|point| format!("{}, which is mounted below it", Path::new(&point).display()))
        .into_iter()
        .collect();
    users.extend(processes(mount).take(MOST_NAMED));
    (!users.is_empty()).then(|| users.join(", "))
}

/// Returns the processes that have a file or a directory of the mount open. Only links are read, so
/// that a file system that does not answer holds nobody up.
fn processes(mount: &Path) -> impl Iterator<Item = String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(move |process| {
        let name = process.file_name().into_string().ok()?;
        name.parse::<u32>().ok()?;
        let directory = process.path();
        let opened = fs::read_dir(directory.join("fd")).into_iter().flatten().flatten();
        let links = ["cwd", "root", "exe"]
            .map(|link| directory.join(link))
            .into_iter()
            .chain(opened.map(|fd| fd.path()));
        let uses = |link| fs::read_link(link).is_ok_and(|path| path.starts_with(mount));
        links.into_iter().any(uses).then(|| {
            let command = fs::read_to_string(directory.join("comm")).unwrap_or_default();
            format!("{} ({name})", command.trim_end().escape_debug())
        })
    })
}

const MOST_NAMED: usize = 3;
