//! `strongroom doctor`

mod ways;

use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};
use strongroom_crypto::{CipherSpec, IvUnit, Kernel, SectorCipher, SectorSize, VolumeKey};

use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// Show in which ways this machine can attach volumes, and how fast it encrypts
///
/// What is missing is named with what to do about it. Every cipher kernel is tested.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Looks for what attaching takes; checks and times every kernel.
///
/// # Errors
///
/// When a kernel fails its self-test.
pub(crate) fn run(ui: &mut Ui, args: &DoctorArgs) -> Result<(), CommandError> {
    let detected = Kernel::detected();
    let ways = ways::all();
    let mut rows = Vec::new();
    for kernel in Kernel::available() {
        for (spec, bits) in
            [("aes-xts-plain64", 512), ("aes-xts-plain64", 256), ("aes-cbc-essiv:sha256", 256)]
        {
            rows.push(Row::measure(spec, bits, kernel)?);
        }
    }
    for spec in ["twofish-xts-plain64", "serpent-xts-plain64", "camellia-xts-plain64"] {
        rows.push(Row::measure(spec, 512, detected)?);
    }
    match args.output.output() {
        Output::Json => ui.json(&json!({
            "attaching": ways.iter().map(ways::Way::to_json).collect::<Vec<_>>(),
            "kernel": detected.name(),
            "speeds": rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        })),
        Output::Text => {
            ways::print(ui, &ways)?;
            ui.data("")?;
            ui.data(&format!("AES kernel in use: {detected}"))?;
            ui.data("cipher, sectors of 512 bytes        key  kernel        MB/s per core")?;
            for row in &rows {
                ui.data(&format!(
                    "{:<32}{:>7}  {:<12}{:>14.0}",
                    row.spec, row.bits, row.kernel, row.megabytes_per_second
                ))?;
            }
            ui.status("every kernel passed its self-test");
            Ok(())
        }
    }
}

/// One cipher on one kernel.
struct Row {
    spec: &'static str,
    bits: usize,
    kernel: &'static str,
    megabytes_per_second: f64,
}

impl Row {
    fn measure(spec: &'static str, bits: usize, kernel: Kernel) -> Result<Self, CommandError> {
        let encryption = spec.parse::<CipherSpec>()?.with_key_bits(bits)?;
        let key = VolumeKey::random(bits / 8, &mut strongroom::system_rng());
        let cipher = SectorCipher::with_kernel(
            encryption,
            &key,
            SectorSize::B512,
            IvUnit::Bytes512,
            kernel,
        )?;
        let mut data = vec![0; BUFFER];
        cipher.encrypt(&mut data, 0);
        let start = Instant::now();
        let mut done = 0;
        while start.elapsed().as_millis() < MEASURE_MS {
            cipher.encrypt(&mut data, 0);
            done += data.len();
        }
        let megabytes_per_second = done as f64 / start.elapsed().as_secs_f64() / 1e6;
        Ok(Self { spec, bits, kernel: cipher.kernel_name(), megabytes_per_second })
    }

    fn to_json(&self) -> Value {
        json!({
            "cipher": self.spec,
            "key_bits": self.bits,
            "kernel": self.kernel,
            "megabytes_per_second": self.megabytes_per_second.round(),
        })
    }
}

/// Bytes encrypted at a time: what fits the second-level cache.
const BUFFER: usize = 256 << 10;

/// How long each row is timed.
const MEASURE_MS: u128 = 50;
