//! Tests that a machine cannot run.

use std::fs::OpenOptions;
use std::io::Write;

/// Says that a test cannot be carried out here, and why. The test returns after that.
///
/// The line `skipped: NAME: REASON` is printed, and appended to the file that
/// `STRONGROOM_SKIPPED_FILE` names, since cargo hides what passing tests print.
///
/// # Panics
///
/// When `CI` or `STRONGROOM_REQUIRE_TOOLS` is set: there nothing may be skipped. And when the file
/// cannot be written.
#[allow(clippy::panic, clippy::print_stdout)]
pub fn skip(name: &str, reason: &str) {
    let line = line(name, reason);
    let set = |variable: &&str| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    if let Some(variable) = REQUIRING.iter().find(|variable| set(variable)) {
        panic!("{line}\nwith {variable} set nothing may be skipped");
    }
    println!("{line}");
    if let Some(path) = std::env::var_os(FILE) {
        // One write of a whole line: other test processes append to the same file.
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
            .expect("the file that counts skipped tests can be written");
    }
}

fn line(name: &str, reason: &str) -> String {
    let reason = reason.replace('\n', " ");
    format!("skipped: {name}: {reason}")
}

/// With one of these set to something a skipped test is a failure.
const REQUIRING: [&str; 2] = ["CI", "STRONGROOM_REQUIRE_TOOLS"];

/// Names the file to which skipped tests are appended.
const FILE: &str = "STRONGROOM_SKIPPED_FILE";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line() {
        assert_eq!(line("opens", "no cryptsetup\nhere"), "skipped: opens: no cryptsetup here");
    }
}
