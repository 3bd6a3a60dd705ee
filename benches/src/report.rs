//! What is printed: headings, tables, and the targets with how far they were reached.

use std::fs;

/// The targets met and missed, in order.
#[derive(Debug, Default)]
pub(crate) struct Report {
    targets: Vec<Target>,
}

/// A figure that has to reach a bound.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// What was measured, against whom.
    pub(crate) what: String,
    /// The figure.
    pub(crate) value: f64,
    /// What it has to reach.
    pub(crate) bound: Bound,
    /// What follows the figure: `x` for a ratio, ` MiB`.
    pub(crate) unit: &'static str,
}

/// What a figure has to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
    /// Nothing: it is only shown.
    None,
}

impl Report {
    /// Takes note of a target and prints it.
    pub(crate) fn add(&mut self, target: Target) {
        println!("  {}", target.line());
        self.targets.push(target);
    }

    /// Prints all of them once more.
    pub(crate) fn print(&self) {
        let bound = self.targets.iter().filter(|target| target.bound != Bound::None);
        let met = bound.clone().filter(|target| target.is_met()).count();
        heading(&format!("{met} of {} targets met", bound.count()));
        for target in &self.targets {
            println!("  {}", target.line());
        }
    }
}

impl Target {
    fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtLeast(bound) => self.value >= bound,
            Bound::AtMost(bound) => self.value <= bound,
            Bound::None => true,
        }
    }

    fn line(&self) -> String {
        let Self { what, value, unit, .. } = self;
        let (wanted, bound) = match self.bound {
            Bound::AtLeast(bound) => ("at least", bound),
            Bound::AtMost(bound) => ("at most", bound),
            Bound::None => return format!("{:<16} {what}: {value:.2}{unit}", "no target"),
        };
        let verdict = if self.is_met() {
            "PASS".to_owned()
        } else {
            format!("SHORT by {:.1} %", 100.0 * (value - bound).abs() / bound)
        };
        format!("{verdict:<16} {what}: {value:.2}{unit} ({wanted} {bound}{unit})")
    }
}

/// Prints a heading.
pub(crate) fn heading(text: &str) {
    println!("\n== {text}");
}

/// Prints which machine this is, and how busy.
pub(crate) fn machine() {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{count} processors: {}", model.map_or("unknown", |(_, model)| model));
    println!("load average when this began: {}", load.trim());
    println!("GB is 10^9 bytes, MiB is 2^20; cpu is user and system time of all threads");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(value: f64, bound: Bound) -> String {
        Target { what: "speed".into(), value, bound, unit: "x" }.line()
    }

    #[test]
    fn a_bound_itself_is_reached() {
        assert!(line(4.0, Bound::AtLeast(4.0)).starts_with("PASS"));
        assert!(line(1.1, Bound::AtMost(1.1)).starts_with("PASS"));
    }

    #[test]
    fn a_missed_target_says_by_how_much() {
        let text = line(3.0, Bound::AtLeast(4.0));
        assert_eq!(text, "SHORT by 25.0 %  speed: 3.00x (at least 4x)");
        assert!(line(1.2, Bound::AtMost(1.0)).starts_with("SHORT by 20.0 %"));
    }
}
