//! Our NBD server against `qemu-nbd`, which decrypts the same LUKS file: requests in a second, and for
//! each second of processor time of the server.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strongroom_attach::nbd::{self, Options};
use strongroom_attach::{EncryptedContents, OpenedVolume};
use strongroom_crypto::{CostPolicy, Passphrase};
use strongroom_luks::Header;

use crate::attached;
use crate::error::Error;
use crate::nbd_client::{Client, Kind, Load};
use crate::process::CommandLine;
use crate::report::{Bound, Report, Target, heading};
use crate::scratch::Scratch;
use crate::stopwatch::median;
use crate::tools::Tools;

/// Puts the same loads on both in turns, by the same client.
pub(crate) fn run(tools: &Tools, report: &mut Report) -> Result<(), Error> {
    let (Some(qemu_img), Some(qemu_nbd)) = (&tools.qemu_img, &tools.qemu_nbd) else {
        return Ok(());
    };
    heading("NBD on a unix socket: our server and qemu-nbd on the same LUKS file (aes-256-xts)");
    let scratch = Scratch::new()?;
    let (passphrase, image) = (scratch.passphrase()?, scratch.path("image"));
    let create = CommandLine::new(qemu_img)
        .words(&format!(
            "create -q -f luks -o key-secret=s,iter-time=10 --object secret,id=s,file={}",
            passphrase.display()
        ))
        .path(&image)
        .words(&LEN.to_string());
    println!("$ {create}");
    create.run()?;
    let socket = scratch.path("ours");
    let _ours = Ours::start(&tools.strongroom, &opened(&image, &passphrase)?, socket.clone())?;
    let mut ours = Client::connect(&socket)?;
    ours.fill()?;
    let _theirs = Theirs::start(qemu_nbd, &image, &passphrase, &scratch.path("theirs"))?;
    let mut theirs = Client::connect(&scratch.path("theirs"))?;
    if ours.read(LEN / 2, 1 << 20)? != theirs.read(LEN / 2, 1 << 20)? {
        return Err(Error::Wrong("both servers read something else".to_owned()));
    }
    println!(
        "  {:<26}{:>12}{:>12}{:>14}{:>14}",
        "requests/s", "strongroom", "qemu-nbd", "ours/cpu s", "theirs/cpu s"
    );
    for load in LOADS {
        let (mut walls, mut cpus) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for _ in 0..ROUNDS {
            for (number, client) in [&mut ours, &mut theirs].into_iter().enumerate() {
                let (wall, cpu) = measure(client, load)?;
                walls[number].push(wall as u64);
                cpus[number].push(cpu as u64);
            }
        }
        let [[our_wall, their_wall], [our_cpu, their_cpu]] =
            [walls, cpus].map(|runs| runs.map(median));
        println!("  {:<26}{our_wall:>12}{their_wall:>12}{our_cpu:>14}{their_cpu:>14}", load.name);
        let of = |what, ours: u64, theirs: u64, bound| Target {
            what: format!("NBD, {}: {what} over qemu-nbd's", load.name),
            value: ours as f64 / theirs.max(1) as f64,
            bound,
            unit: "x",
        };
        let bound = if load.is_bound { Bound::AtLeast(3.0) } else { Bound::None };
        report.add(of("requests for a second of processor time", our_cpu, their_cpu, bound));
        report.add(of("requests in a second", our_wall, their_wall, Bound::None));
    }
    Ok(())
}

/// Returns how many requests were carried out in a second, and in a second of processor time of the
/// server.
fn measure(client: &mut Client, load: Load) -> Result<(f64, f64), Error> {
    let before = cpu_of(client.server)?;
    let start = Instant::now();
    let done = client.load(load, WINDOW, LEN)? as f64;
    let wall = start.elapsed().as_secs_f64();
    let cpu = cpu_of(client.server)? - before;
    Ok((done / wall, done / cpu.max(0.01)))
}

/// Returns the processor time of all threads of a process in seconds, to a hundredth.
fn cpu_of(process: i32) -> Result<f64, Error> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).map_err(Error::system(&path))?;
    // The name before may have blanks in it.
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks = fields.split(' ').skip(11).take(2).filter_map(|word| word.parse::<u64>().ok());
    Ok(ticks.sum::<u64>() as f64 / 100.0)
}

/// Opens a LUKS file, as `strongroom` would.
fn opened(image: &Path, passphrase: &Path) -> Result<OpenedVolume, Error> {
    let label = image.display();
    let file = File::open(image).map_err(Error::system(&label))?;
    let len = file.metadata().map_err(Error::system(&label))?.len();
    let mut head = vec![0; 4096];
    file.read_exact_at(&mut head, 0).map_err(Error::system(&label))?;
    let header = Header::parse(&head, len)?.header;
    let range = header.keyslot_area(0)?;
    let mut area = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut area, range.start).map_err(Error::system(&label))?;
    let bytes = std::fs::read(passphrase).map_err(Error::system(&passphrase.display()))?;
    let key = header.open_keyslot(0, &area, &Passphrase::new(bytes), &CostPolicy::default())?;
    let (version, uuid) = (header.version(), header.uuid().to_owned());
    let payload = header.payload(len)?;
    let encrypted = Some(EncryptedContents { version, uuid, payload, key });
    Ok(OpenedVolume { name: "image".to_owned(), backing: image.to_owned(), encrypted })
}

/// Our server, a process of `strongroom`.
struct Ours {
    address: String,
}

impl Ours {
    fn start(strongroom: &Path, volume: &OpenedVolume, socket: PathBuf) -> Result<Self, Error> {
        let address = socket.display().to_string();
        nbd::start(&attached::launcher(strongroom), volume, &address, &Options::default())?;
        Ok(Self { address })
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // Its files go with the folder in any case.
        let _ = nbd::stop(&self.address);
    }
}

/// QEMU's server.
struct Theirs(Child);

impl Theirs {
    fn start(
        program: &Path,
        image: &Path,
        passphrase: &Path,
        socket: &Path,
    ) -> Result<Self, Error> {
        let secret = format!("secret,id=s,file={}", passphrase.display());
        let options = format!(
            "driver=luks,key-secret=s,file.driver=file,file.filename={},file.locking=off",
            image.display()
        );
        let mut command = Command::new(program);
        command.args(["--persistent", "--shared=8", "--object", &secret, "--socket"]).arg(socket);
        command.args(["--image-opts", &options]).stdin(Stdio::null());
        println!("$ {command:?}");
        let child = command.spawn().map_err(Error::system(&program.display()))?;
        let theirs = Self(child);
        let deadline = Instant::now() + Duration::from_secs(30);
        while UnixStream::connect(socket).is_err() {
            if Instant::now() > deadline {
                return Err(Error::Wrong("qemu-nbd does not listen".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(theirs)
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        // It has ended already or ends now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const LOADS: [Load; 6] = [
    Load {
        name: "4 KiB reads, depth 1",
        kind: Kind::RandomReads,
        block: 4096,
        depth: 1,
        is_bound: true,
    },
    Load {
        name: "4 KiB reads, depth 16",
        kind: Kind::RandomReads,
        block: 4096,
        depth: 16,
        is_bound: true,
    },
    Load {
        name: "4 KiB writes, depth 1",
        kind: Kind::RandomWrites,
        block: 4096,
        depth: 1,
        is_bound: false,
    },
    Load {
        name: "4 KiB writes, depth 16",
        kind: Kind::RandomWrites,
        block: 4096,
        depth: 16,
        is_bound: false,
    },
    Load {
        name: "1 MiB reads in order",
        kind: Kind::Reads,
        block: 1 << 20,
        depth: 4,
        is_bound: false,
    },
    Load {
        name: "1 MiB writes in order",
        kind: Kind::Writes,
        block: 1 << 20,
        depth: 4,
        is_bound: false,
    },
];

/// The bytes that loads are put on.
const LEN: u64 = 512 << 20;

const WINDOW: Duration = Duration::from_secs(2);

const ROUNDS: usize = 3;
