//! The terminal: data to standard output, words to standard error.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use strongroom::images::Observer;
use strongroom_clone::Progress;

use crate::command_error::CommandError;

/// Everything that a command prints goes through here.
#[derive(Debug)]
pub(crate) struct Ui {
    terminal: bool,
}

/// How a command's result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// As words.
    Text,
    /// As one JSON object.
    Json,
}

/// A progress bar on a terminal, and a clock everywhere.
pub(crate) struct ProgressWatch {
    bar: ProgressBar,
    started: Instant,
    begun: Mutex<Option<Instant>>,
}

impl Ui {
    /// Returns the process's own terminal.
    pub(crate) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal() }
    }

    /// Prints a line of data.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written; a reader that has gone away ends the process
    /// quietly, as it does with every tool.
    pub(crate) fn data(&mut self, text: &str) -> Result<(), CommandError> {
        written(writeln!(io::stdout().lock(), "{}", harmless(text)))
    }

    /// Prints data that says itself where its lines end.
    ///
    /// # Errors
    ///
    /// As [`Ui::data`].
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CommandError> {
        // Columns stand between tabs, which move nothing but the next letter.
        let cells: Vec<Cow<'_, str>> = text.split('\t').map(harmless).collect();
        written(write!(io::stdout().lock(), "{}", cells.join("\t")))
    }

    /// Prints a JSON value.
    ///
    /// # Errors
    ///
    /// As [`Ui::data`].
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), CommandError> {
        self.data(&harmless_json(&format!("{value:#}")))
    }

    /// Prints a JSON value where words go, for a command whose data is something else.
    pub(crate) fn json_beside_data(&mut self, value: &Value) {
        self.words("", &harmless_json(&format!("{value:#}")));
    }

    /// Says how things stand.
    pub(crate) fn status(&mut self, text: &str) {
        self.words("", text);
    }

    /// Warns.
    pub(crate) fn warning(&mut self, text: &str) {
        self.words("warning: ", text);
    }

    /// Says what went wrong.
    pub(crate) fn error(&mut self, text: &str) {
        self.words("error: ", text);
    }

    /// Says what to do about it.
    pub(crate) fn hint(&mut self, text: &str) {
        self.words("hint: ", text);
    }

    /// Returns a watch for a piece of work that begins now.
    pub(crate) fn watch(&self, output: Output) -> ProgressWatch {
        self.watch_by(
            output,
            0,
            "{percent:>3}% {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
        )
    }

    /// Returns a watch for work on so many files, which begins now. It advances by one a file.
    pub(crate) fn watch_files(&self, output: Output, files: u64) -> ProgressWatch {
        self.watch_by(output, files, "{percent:>3}% {wide_bar} {pos}/{len} files  {eta} left")
    }

    fn watch_by(&self, output: Output, len: u64, template: &str) -> ProgressWatch {
        let target = if self.terminal && output == Output::Text {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(len), target);
        bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
        ProgressWatch { bar, started: Instant::now(), begun: Mutex::new(None) }
    }

    fn words(&mut self, prefix: &str, text: &str) {
        // Nobody is left to be told when standard error is gone.
        let _ = writeln!(io::stderr().lock(), "{prefix}{}", harmless(text));
    }
}

impl ProgressWatch {
    /// Shows how far the work is, and of how much.
    pub(crate) fn reach(&self, done: u64, of: u64) {
        self.bar.set_length(of);
        self.bar.set_position(done);
    }

    /// Takes the bar away. Returns how long the preparation took (opening, key derivation) and how
    /// long the work itself.
    pub(crate) fn finish(&self) -> (Duration, Duration) {
        self.bar.finish_and_clear();
        let begun = self.begun.lock().ok().and_then(|begun| *begun).unwrap_or_else(Instant::now);
        (begun.duration_since(self.started), begun.elapsed())
    }
}

impl Drop for ProgressWatch {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for ProgressWatch {
    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }
}

impl Observer for ProgressWatch {
    fn as_progress(&self) -> &dyn Progress {
        self
    }

    fn begin(&self, bytes: Option<u64>) {
        match bytes {
            Some(bytes) => self.bar.set_length(bytes),
            None => self.bar.unset_length(),
        }
        self.bar.reset();
        if let Ok(mut begun) = self.begun.lock() {
            *begun = Some(Instant::now());
        }
    }
}

fn written(result: io::Result<()>) -> Result<(), CommandError> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|source| {
            CommandError::io("cannot write to standard output".to_owned(), source)
        }),
    }
}

/// Returns text with those characters spelled out that a terminal obeys: headers, file names and the
/// words of servers may hold some.
fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let spelled = |letter: char| {
        if is_obeyed(letter) { letter.escape_default().to_string() } else { letter.to_string() }
    };
    Cow::Owned(text.chars().map(spelled).collect())
}

/// Returns JSON with the same characters escaped as JSON does it, so that it stays what it is.
fn harmless_json(text: &str) -> String {
    // They stand in strings alone, and each has four digits.
    let spelled = |letter: char| match is_obeyed(letter) {
        true => format!("\\u{:04x}", u32::from(letter)),
        false => letter.to_string(),
    };
    text.chars().map(spelled).collect()
}

/// Tells whether a terminal obeys a character, and does not just show it. Some turn the order of letters
/// around (Unicode, section 23.2).
fn is_obeyed(letter: char) -> bool {
    let turns = matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    letter.is_control() && letter != '\n' || turns
}

/// Returns a number of bytes as people read it.
pub(crate) fn bytes(count: u64) -> String {
    format!("{count} bytes ({})", indicatif::BinaryBytes(count))
}

/// Returns a number of bytes in a few letters, for tables.
pub(crate) fn short_bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out() {
        assert_eq!(harmless("two\nlines"), "two\nlines");
        assert_eq!(harmless("a\u{1b}[31mred\u{7}"), "a\\u{1b}[31mred\\u{7}");
        assert_eq!(harmless("fdp\u{202e}.exe"), "fdp\\u{202e}.exe");
    }

    #[test]
    fn json_with_them_spelled_out_is_the_same_json() {
        let value =
            serde_json::json!({ "a\u{7f}": ["fdp\u{202e}.exe", "two\nlines", "\u{85}\u{1b}"] });
        let text = harmless_json(&format!("{value:#}"));
        assert!(!text.contains(is_obeyed));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
