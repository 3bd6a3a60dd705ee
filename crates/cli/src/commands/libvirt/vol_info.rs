//! `strongroom libvirt vol-info`

use clap::Args;
use strongroom_crypto::CostPolicy;

use super::place::{DataArgs, VolumeArgs};
use super::printing::{self, pretty};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// Show the size of a volume
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    volume: VolumeArgs,

    /// Print sizes in bytes
    #[arg(long)]
    bytes: bool,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Shows it, as virsh does.
///
/// # Errors
///
/// When it is not known, or cannot be read.
pub(crate) fn run(ui: &mut Ui, args: &InfoArgs) -> Result<(), CommandError> {
    let (name, facts) = args.data.open(CostPolicy::default())?.volume_facts(&args.volume.name())?;
    if args.output.output() == Output::Json {
        return ui.json(&printing::facts(&name, &facts));
    }
    let size = |bytes: u64| if args.bytes { format!("{bytes} bytes") } else { pretty(bytes) };
    let rows = [
        ("Name:", name),
        ("Type:", "file".to_owned()),
        ("Capacity:", size(facts.capacity)),
        ("Allocation:", size(facts.allocation)),
    ];
    rows.iter().try_for_each(|(row, value)| ui.data(&format!("{row:<15} {value}")))
}
