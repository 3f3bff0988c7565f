//! `cargo xtask demo`: from a fresh machine to a server that answers SSH, with the stock client, in one command.
//!
//! - [`place`]  the network namespace that stands for the host, and its way out
//! - [`server`] what the stock client is asked for, and the wait for SSH

mod place;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{guest, packages, process, python, tree};
use place::Place;

/// Limit: the build, the image and the disks of the demo fit in this.
const SPACE_GB: u64 = 4;
/// The outside world of the demo; the addresses are reserved for documentation.
const EXTERNAL: [&str; 6] = [
    "--external-cidr",
    "203.0.113.0/24",
    "--external-range",
    "203.0.113.150,203.0.113.199",
    "--external-gateway",
    "203.0.113.1",
];

#[derive(Args)]
pub struct Choice {
    /// Stop the demo and remove every trace of it
    #[arg(long)]
    down: bool,
    /// Use this machine's own network instead of a network namespace
    #[arg(long)]
    on_host: bool,
    /// Where the cloud keeps its things (target/demo/cloud when every user may enter it)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Where the demo keeps what it made.
struct Stage {
    /// What the demo has to remember.
    state: PathBuf,
    data_dir: PathBuf,
    program: PathBuf,
    place: Place,
}

pub fn run(choice: &Choice) -> Result<bool> {
    let state = tree::target().join("demo");
    fs::create_dir_all(&state)?;
    let stage = Stage {
        data_dir: data_dir(choice, &state)?,
        program: tree::target().join("release/ferrostack"),
        place: Place::new(choice.on_host || fs::exists(state.join("on-host"))?),
        state,
    };
    if choice.down {
        stage.down()?
    } else {
        stage.up(choice)?
    }
    Ok(true)
}

/// The place from the last time, the one that is asked for, or a folder that every user may enter: the program gives
/// up its rights, and guests never had any.
fn data_dir(choice: &Choice, state: &Path) -> Result<PathBuf> {
    let note = state.join("data-dir");
    if let Some(chosen) = &choice.data_dir {
        return std::path::absolute(chosen).with_context(|| format!("the data directory {}", chosen.display()));
    }
    if let Ok(last) = fs::read_to_string(&note) {
        return Ok(PathBuf::from(last.trim()));
    }
    use std::os::unix::fs::PermissionsExt;
    let open = |folder: &Path| fs::metadata(folder).is_ok_and(|it| it.permissions().mode() & 0o001 != 0);
    let reachable = state.ancestors().all(open);
    Ok(if reachable { state.join("cloud") } else { PathBuf::from("/var/lib/ferrostack-demo") })
}

impl Stage {
    fn up(&self, choice: &Choice) -> Result<()> {
        let started = Instant::now();
        step("look at this machine", || self.look())?;
        let needs = [packages::BUILD, packages::HOST, packages::GUEST, packages::PYTHON];
        step("install what is missing from the distribution", || packages::ensure(&needs))?;
        step("build the program", || {
            let arguments = ["build", "--quiet", "--release", "--package", "ferrostack"];
            process::must(process::cargo().args(arguments), "cargo build --release").map(|_| ())
        })?;
        let image = step("build the guest image", guest::image)?;
        let clients = step("install the stock client", python::clients)?;

        let boot = Instant::now();
        fs::write(self.state.join("data-dir"), self.data_dir.display().to_string())?;
        if choice.on_host {
            fs::write(self.state.join("on-host"), "")?;
        }
        step("make the host's network", || self.place.make())?;
        step("start the cloud", || self.start())?;
        step("make networks, flavors, a key and an image", || self.populate(&image))?;
        let server = step("boot a server", || server::boot(self, &clients))?;
        step("wait until it answers SSH", || server.wait(self))?;
        println!("\nfrom the start of the cloud to the prompt: {:.1} s", boot.elapsed().as_secs_f64());
        println!("all of it: {:.1} s", started.elapsed().as_secs_f64());
        server.introduce(self, &clients)
    }

    fn look(&self) -> Result<()> {
        if !process::is_root() {
            bail!(
                "the demo makes network namespaces and bridges, and needs root\nrun it again with: sudo -E cargo xtask demo"
            );
        }
        let disk = process::must(Command::new("df").args(["--output=avail", "-BG", "."]), "df")?;
        let free = disk.last().and_then(|it| it.trim().trim_end_matches('G').parse::<u64>().ok());
        if free.is_some_and(|free| free < SPACE_GB) {
            bail!("less than {SPACE_GB} GB are free here\nmake room, or set CARGO_TARGET_DIR to a larger disk");
        }
        if !Path::new("/dev/net/tun").exists() {
            bail!("there is no /dev/net/tun, so guests cannot have a network\nload the module: modprobe tun");
        }
        self.place.look()
    }

    /// A verb of the program, about the demo's cloud.
    fn ferrostack(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).arg("--data-dir").arg(&self.data_dir);
        command
    }

    fn start(&self) -> Result<()> {
        let mut up = self.ferrostack("up");
        up.arg("--detach").args(self.place.arguments());
        process::must(&mut up, "ferrostack up").map(|_| ())
    }

    fn populate(&self, image: &Path) -> Result<()> {
        let mut init = self.ferrostack("init-runonce");
        init.arg("--image").arg(image).args(EXTERNAL);
        process::must(&mut init, "ferrostack init-runonce").map(|_| ())
    }

    fn down(&self) -> Result<()> {
        step("stop the cloud and remove what it made", || {
            if !self.program.exists() || !self.data_dir.exists() {
                return Ok(());
            }
            process::must(self.ferrostack("down").arg("--purge"), "ferrostack down --purge").map(|_| ())
        })?;
        step("remove the host's network", || self.place.remove())?;
        step("remove the files of the demo", || {
            for folder in [&self.data_dir, &self.state] {
                if folder.exists() {
                    fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
                }
            }
            Ok(())
        })
    }
}

/// One line per step: what it does, and how long that took.
fn step<T>(what: &str, mut work: impl FnMut() -> Result<T>) -> Result<T> {
    use std::io::Write;
    print!("{what:<50} ");
    let _ = std::io::stdout().flush();
    let started = Instant::now();
    let done = work();
    match &done {
        Ok(_) => println!("{:>6.1} s", started.elapsed().as_secs_f64()),
        Err(_) => println!("failed after {:.1} s", started.elapsed().as_secs_f64()),
    }
    done.with_context(|| format!("could not {what}"))
}
