//! The log of the server: a line on stderr for what an operator has to know.
//!
//! A line has words of the program, names of documents and tokens, and reasons that hold no secret; never a
//! query, a header or a body. Lines are written by a thread of their own, so that a reader of stderr who takes
//! nothing stops no request: what comes meanwhile is counted, and left out.

mod work;

pub(crate) use work::LoggedWorker;

use std::fmt::{self, Write as _};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What has failed.
    Error,
    /// Also what was changed, what was refused, and how jobs go.
    Info,
    /// Also every request.
    Debug,
}

/// What is said to an operator. A clone says it in the same place.
#[derive(Clone)]
pub struct Log {
    level: LogLevel,
    lines: Option<Arc<Lines>>,
}

/// Lines on their way.
struct Lines {
    sender: Mutex<Option<SyncSender<String>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    left_out: Arc<AtomicU64>,
    style: Style,
}

/// What stands at the beginning of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// The time and the level.
    Plain,
    /// The priority, as `sd-daemon(3)` has it: the journal knows the time.
    Journal,
}

/// A line that is being put together: words, and then names with values.
#[derive(Debug)]
pub(crate) struct Line(String);

impl LogLevel {
    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

impl Log {
    /// Returns one that says nothing.
    pub fn off() -> Self {
        Self { level: LogLevel::Off, lines: None }
    }

    /// Returns one on stderr, in the form of the journal when that is where stderr leads.
    pub fn stderr(level: LogLevel) -> Self {
        let is_journal = std::env::var_os("JOURNAL_STREAM").is_some_and(|value| !value.is_empty());
        let style = if is_journal { Style::Journal } else { Style::Plain };
        Self::styled(level, Box::new(std::io::stderr()), style)
    }

    /// Returns one that writes lines elsewhere.
    pub fn to(level: LogLevel, sink: Box<dyn Write + Send>) -> Self {
        Self::styled(level, sink, Style::Plain)
    }

    fn styled(level: LogLevel, sink: Box<dyn Write + Send>, style: Style) -> Self {
        if level == LogLevel::Off {
            return Self::off();
        }
        let (sender, receiver) = sync_channel(WAITING);
        let left_out = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&left_out);
        let thread = std::thread::Builder::new().name("log".to_owned());
        // Without a thread there is nobody who could say so.
        let writer = thread.spawn(move || write_all(&receiver, sink, &counted)).ok();
        let (sender, writer) = (Mutex::new(Some(sender)), Mutex::new(writer));
        Self { level, lines: Some(Arc::new(Lines { sender, writer, left_out, style })) }
    }

    /// Tells whether lines of a level are said.
    pub(crate) fn says(&self, level: LogLevel) -> bool {
        level != LogLevel::Off && level <= self.level
    }

    /// Says a line.
    pub(crate) fn say(&self, level: LogLevel, line: &Line) {
        if let Some(lines) = self.lines.as_ref().filter(|_| self.says(level)) {
            lines.send(level, &line.0);
        }
    }

    /// Writes what is on its way, and ends the log: nothing is said after that.
    pub(crate) fn close(&self) {
        let Some(lines) = &self.lines else { return };
        drop(lines.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = lines.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }
}

impl Lines {
    fn send(&self, level: LogLevel, text: &str) {
        let line = match self.style {
            Style::Plain => {
                let now = humantime::format_rfc3339_millis(SystemTime::now());
                format!("{now} {} {text}\n", level.name())
            }
            Style::Journal => format!("<{}>{text}\n", priority(level)),
        };
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = sender.as_ref()
            && sender.try_send(line).is_err()
        {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Line {
    /// Begins a line.
    pub(crate) fn new(words: &str) -> Self {
        Self(words.to_owned())
    }

    /// Adds a value under a name. What is not plain text in it is escaped, and what is long is cut off, so that
    /// nobody outside can begin a line of his own.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        let value = value.to_string();
        let shown: String = value.chars().take(LONGEST).collect();
        let more = if shown.len() < value.len() { "…" } else { "" };
        let is_plain = |letter: char| letter.is_ascii_graphic() && !matches!(letter, '"' | '\\');
        let _ = match !shown.is_empty() && shown.chars().all(is_plain) {
            true => write!(self.0, " {name}={shown}{more}"),
            false => write!(self.0, " {name}=\"{}{more}\"", shown.escape_debug()),
        };
        self
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("level", &self.level).finish_non_exhaustive()
    }
}

fn write_all(lines: &Receiver<String>, mut sink: Box<dyn Write + Send>, left_out: &AtomicU64) {
    for line in lines {
        // Where this cannot be written, nobody reads it.
        let _ = sink.write_all(line.as_bytes());
        let count = left_out.swap(0, Ordering::Relaxed);
        if count > 0 {
            let _ =
                writeln!(sink, "{count} lines were left out: they came faster than they are read");
        }
    }
    let _ = sink.flush();
}

/// Returns the priority of a level in `syslog(3)`.
fn priority(level: LogLevel) -> u8 {
    match level {
        LogLevel::Off | LogLevel::Error => 3,
        LogLevel::Info => 6,
        LogLevel::Debug => 7,
    }
}

/// How many lines wait for whoever reads slowly.
const WAITING: usize = 1024;

/// The most characters of a value.
const LONGEST: usize = 500;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A place to read lines from.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        /// Returns a log whose lines come here.
        pub(crate) fn log(&self, level: LogLevel) -> Log {
            Log::to(level, Box::new(self.clone()))
        }

        /// Returns what has come.
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_beyond_the_level_is_not_said() {
        for (level, wanted) in
            [(LogLevel::Off, 0), (LogLevel::Error, 1), (LogLevel::Info, 2), (LogLevel::Debug, 3)]
        {
            let page = Page::default();
            let log = page.log(level);
            for level in [LogLevel::Error, LogLevel::Info, LogLevel::Debug] {
                log.say(level, &Line::new("something"));
            }
            log.close();
            log.say(LogLevel::Error, &Line::new("too late"));
            assert_eq!(page.text().lines().count(), wanted, "{level:?}");
        }
    }

    #[test]
    fn nobody_outside_begins_a_line() {
        let page = Page::default();
        let log = page.log(LogLevel::Info);
        let line = Line::new("request").with("path", "/a\n2026 error forged").with("by", "");
        log.say(LogLevel::Info, &line.with("long", "x".repeat(LONGEST + 1)));
        log.close();
        let text = page.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        let (_, text) = text.split_once("info ").unwrap();
        let begins = "request path=\"/a\\n2026 error forged\" by=\"\" long=xxx";
        assert!(text.starts_with(begins) && text.ends_with("x…\n"), "{text}");
    }

    #[test]
    fn the_journal_gets_priorities_and_no_time() {
        let page = Page::default();
        let log = Log::styled(LogLevel::Info, Box::new(page.clone()), Style::Journal);
        log.say(LogLevel::Error, &Line::new("bad"));
        log.say(LogLevel::Info, &Line::new("good"));
        log.close();
        assert_eq!(page.text(), "<3>bad\n<6>good\n");
    }

    /// A reader who takes nothing until he is let.
    struct Slow(Receiver<()>, Page);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_who_takes_nothing_stops_nobody_and_what_he_misses_is_counted() {
        let (let_go, waits) = std::sync::mpsc::channel();
        let page = Page::default();
        let log = Log::to(LogLevel::Info, Box::new(Slow(waits, page.clone())));
        for _ in 0..WAITING * 2 {
            log.say(LogLevel::Info, &Line::new("something"));
        }
        drop(let_go);
        log.close();
        let text = page.text();
        assert!(text.contains("lines were left out"), "{}", text.len());
        assert!(text.lines().count() <= WAITING + 3);
    }
}
