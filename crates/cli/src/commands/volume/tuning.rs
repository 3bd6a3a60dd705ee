//! What can be tuned about a volume, as options.

use clap::{Args, ValueEnum};
use strongroom_model::Tuning;

/// What can be tuned. It takes effect when the volume is attached the next time
#[derive(Debug, Args)]
#[command(next_help_heading = "Tuning")]
pub(super) struct TuningArgs {
    /// Give blocks that the file system frees up to the medium, which shows there what is free
    #[arg(long, value_name = "on|off")]
    discard: Option<Switch>,

    /// Decrypt in a queue of dm-crypt, and not where the read ends
    #[arg(long, value_name = "on|off")]
    read_workqueue: Option<Switch>,

    /// Encrypt in a queue of dm-crypt, and not where the write begins
    #[arg(long, value_name = "on|off")]
    write_workqueue: Option<Switch>,
}

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl TuningArgs {
    /// Tells whether anything was said.
    pub(super) fn is_given(&self) -> bool {
        let all = [self.discard, self.read_workqueue, self.write_workqueue];
        all.iter().any(Option::is_some)
    }

    /// Returns `tuning` with what was said about it.
    pub(super) fn changed(&self, tuning: Tuning) -> Tuning {
        let on = |switch: Option<Switch>, now| switch.map_or(now, |switch| switch == Switch::On);
        Tuning {
            discard: on(self.discard, tuning.discard),
            no_read_workqueue: !on(self.read_workqueue, !tuning.no_read_workqueue),
            no_write_workqueue: !on(self.write_workqueue, !tuning.no_write_workqueue),
        }
    }
}

/// Returns the tuning of a volume, for people.
pub(super) fn words(tuning: Tuning) -> String {
    let on = |on| if on { "on" } else { "off" };
    format!(
        "discard {}, read workqueue {}, write workqueue {}",
        on(tuning.discard),
        on(!tuning.no_read_workqueue),
        on(!tuning.no_write_workqueue)
    )
}
