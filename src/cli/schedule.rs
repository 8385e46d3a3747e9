//! `rotate --every`: systemd units that rotate and rewrap a volume from time to time.
//!
//! The timer looks once a day whether the current material is old enough: so a rotation by hand counts,
//! and a machine that was off makes up for it.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::args::RotateArgs;
use super::control::{self, MountStatus, Request};
use super::exit::{Exit, failure, usage};
use super::output;
use super::target::{self, Target};
use super::unlock::{self, Environment, KeystoreArgs, Source};
use crate::backing::Os;
use crate::volume::Volume;

/// Where the superuser's units are.
const SYSTEM_UNITS: &str = "/etc/systemd/system";

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// When the key material is so old: whole hours at the least.
    Time(Duration),
    /// No more.
    Never,
}

/// Reads `never`, or a time as of [`age`].
pub fn every(text: &str) -> Result<Every, String> {
    if text == "never" {
        return Ok(Every::Never);
    }
    match age(text) {
        Ok(time) if time.as_secs() >= 24 * 3600 => Ok(Every::Time(time)),
        _ => Err("a time of a day or more is expected, such as 90d or 12w, or never".to_owned()),
    }
}

/// Reads a time: digits and h, d or w.
pub fn age(text: &str) -> Result<Duration, String> {
    let units = [('h', 3600), ('d', 24 * 3600), ('w', 7 * 24 * 3600)];
    let expected = || "a time is expected, such as 36h, 90d or 12w".to_owned();
    let (unit, seconds) = units
        .into_iter()
        .find(|(unit, _)| text.ends_with(*unit))
        .ok_or_else(expected)?;
    let number: u64 = text
        .trim_end_matches(unit)
        .parse()
        .map_err(|_| expected())?;
    number
        .checked_mul(seconds)
        .filter(|seconds| (1..=100 * 365 * 24 * 3600).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| "the time is out of range".to_owned())
}

/// Makes, shows or removes the schedule of a volume.
pub fn run(every: Every, args: &RotateArgs, keystore: &KeystoreArgs) -> Result<Exit> {
    let (cipher_dir, volume_id) = volume_of(&args.target)?;
    let name = format!("envelopefs-rotate-{volume_id}");
    let env = Environment::real();
    let plan = match every {
        Every::Never => None,
        Every::Time(every) => Some(Plan {
            program: std::env::current_exe().context("finding this program's file")?,
            cipher_dir,
            every,
            max_rate: args.max_rate,
            keystore: absolute(unlock::keystore_path(keystore, &env)?)?,
            unlock: unlock::sources(keystore, &env)
                .into_iter()
                .map(Unlock::of)
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect(),
            system: env.root,
        }),
    };
    if args.print {
        let Some(plan) = plan else {
            return Err(usage("there is nothing to print for --every never"));
        };
        for (suffix, text) in plan.units()? {
            output::text_out(&format!("# {name}.{suffix}\n{text}\n"))?;
        }
        return Ok(Exit::Ok);
    }
    let dir = match &args.units {
        Some(dir) => dir.clone(),
        None => units_dir(&env)?,
    };
    let place = Place {
        systemctl: args.units.is_none(),
        user: !env.root,
        timer: format!("{name}.timer"),
        dir,
    };
    match plan {
        Some(plan) => place.install(&name, &plan),
        None => place.remove(&name),
    }
}

/// The cipher directory and the id of the volume that is meant.
fn volume_of(path: &Path) -> Result<(PathBuf, String)> {
    match target::resolve(path)? {
        Target::Mounted(point) => {
            let status: MountStatus = control::call(&point, &Request::Status)?;
            Ok((status.cipher_dir.into(), status.volume.volume_id))
        }
        Target::Unmounted(cipher_dir) => {
            let backing =
                Os::open(&cipher_dir).with_context(|| cipher_dir.display().to_string())?;
            let record =
                Volume::peek(&backing).map_err(|error| target::named(error, &cipher_dir))?;
            Ok((cipher_dir, record.volume_id.to_string()))
        }
    }
}

fn units_dir(env: &Environment<'_>) -> Result<PathBuf> {
    if env.root {
        return Ok(SYSTEM_UNITS.into());
    }
    let config = (env.var)("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.filter(|path| path.is_absolute()).or_else(|| {
        let home = (env.var)("HOME").filter(|home| !home.is_empty())?;
        Some(PathBuf::from(home).join(".config"))
    });
    config
        .map(|config| config.join("systemd/user"))
        .ok_or_else(|| usage("HOME is not set; --units says where the units go"))
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).with_context(|| path.display().to_string())
}

/// How the keystore is opened with nobody at a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unlock {
    /// systemd hands over this file.
    Credential(PathBuf),
    KeyFile(PathBuf),
}

impl Unlock {
    /// None for a person at a terminal: there will be none.
    fn of(source: Source) -> Result<Option<Self>> {
        Ok(match source {
            Source::PassphraseFile(path) | Source::Credential(path) => {
                Some(Self::Credential(absolute(path)?))
            }
            Source::KeyFile(path) => Some(Self::KeyFile(absolute(path)?)),
            Source::Terminal => None,
        })
    }
}

/// What the units say.
struct Plan {
    program: PathBuf,
    cipher_dir: PathBuf,
    every: Duration,
    max_rate: Option<NonZeroU32>,
    keystore: PathBuf,
    unlock: Vec<Unlock>,
    system: bool,
}

/// Protects the rest of the system from the unit; also for a user's.
const HARDENING: &str = "\
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX
SystemCallArchitectures=native
UMask=0077
LimitCORE=0
";

/// The same, where the system's manager starts it. Files of others are read and written; keys are locked
/// in memory.
const HARDENING_SYSTEM: &str = "\
CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_CHOWN CAP_IPC_LOCK
ProtectSystem=strict
ProtectHome=read-only
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
";

impl Plan {
    /// Suffix and text of each unit.
    fn units(&self) -> Result<[(&'static str, String); 2]> {
        Ok([("service", self.service()?), ("timer", self.timer()?)])
    }

    fn service(&self) -> Result<String> {
        let cipher_dir = word(self.cipher_dir.as_os_str())?;
        let mut text = format!(
            "[Unit]\n\
             Description=Rotate the key of an envelopefs volume and rewrap it\n\
             Documentation=man:envelopefs-rotate(1)\n\
             RequiresMountsFor={cipher_dir}\n\
             \n\
             [Service]\n\
             Type=oneshot\n"
        );
        for credential in &self.unlock {
            if let Unlock::Credential(path) = credential {
                let path = plain(path.as_os_str())?;
                let _ = writeln!(text, "LoadCredential={}:{path}", unlock::CREDENTIAL);
            }
        }
        let hours = self.every.as_secs() / 3600;
        self.exec(&mut text, &["rotate", "--if-older", &format!("{hours}h")])?;
        match self.max_rate {
            Some(rate) => {
                let rate = rate.to_string();
                self.exec(&mut text, &["rewrap", "--if-needed", "--max-rate", &rate])?;
            }
            None => self.exec(&mut text, &["rewrap", "--if-needed"])?,
        }
        text.push_str("Nice=19\nIOSchedulingClass=idle\n");
        text.push_str(HARDENING);
        if self.system {
            text.push_str(HARDENING_SYSTEM);
            let keystore = word(self.keystore.as_os_str())?;
            let _ = writeln!(text, "ReadWritePaths={cipher_dir} -{keystore}");
        }
        Ok(text)
    }

    /// One command line of the service.
    fn exec(&self, text: &mut String, words: &[&str]) -> Result<()> {
        let mut line = vec![word(self.program.as_os_str())?];
        line.extend(words.iter().map(|&word| word.to_owned()));
        let flag = |name: &str, path: &Path| {
            let mut flag = OsString::from(name);
            flag.push(path);
            command_word(&flag)
        };
        line.push(flag("--keystore=", &self.keystore)?);
        for unlock in &self.unlock {
            if let Unlock::KeyFile(path) = unlock {
                line.push(flag("--key-file=", path)?);
            }
        }
        line.push("--".to_owned());
        line.push(command_word(self.cipher_dir.as_os_str())?);
        let _ = writeln!(text, "ExecStart={}", line.join(" "));
        Ok(())
    }

    fn timer(&self) -> Result<String> {
        let cipher_dir = plain(self.cipher_dir.as_os_str())?;
        let days = self.every.as_secs() / (24 * 3600);
        Ok(format!(
            "[Unit]\n\
             Description=Look whether the key of the envelopefs volume {cipher_dir} is older than {days} days\n\
             Documentation=man:envelopefs-rotate(1)\n\
             \n\
             [Timer]\n\
             OnCalendar=daily\n\
             RandomizedDelaySec=1h\n\
             Persistent=true\n\
             \n\
             [Install]\n\
             WantedBy=timers.target\n"
        ))
    }
}

/// A text as it stands in a unit file: its `%` are no specifiers.
fn plain(text: &OsStr) -> Result<String> {
    let shown = || text.to_string_lossy().into_owned();
    match text.to_str() {
        Some(text) if !text.chars().any(char::is_control) => Ok(text.replace('%', "%%")),
        _ => Err(failure(
            Exit::NotSupported,
            format!("{}: a unit file can't name this", shown()),
        )),
    }
}

/// One word of a list in a unit file.
fn word(text: &OsStr) -> Result<String> {
    let plain = plain(text)?;
    let is_simple = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-=:%+@,".contains(byte);
    if plain.as_bytes().iter().all(is_simple) {
        return Ok(plain);
    }
    Ok(format!(
        "\"{}\"",
        plain.replace('\\', "\\\\").replace('"', "\\\"")
    ))
}

/// One word of a command line, where `$` begins a variable.
fn command_word(text: &OsStr) -> Result<String> {
    Ok(word(text)?.replace('$', "$$"))
}

/// Where units go.
struct Place {
    dir: PathBuf,
    timer: String,
    /// Whether the manager is told.
    systemctl: bool,
    /// Whether it is the user's own.
    user: bool,
}

impl Place {
    fn install(&self, name: &str, plan: &Plan) -> Result<Exit> {
        std::fs::create_dir_all(&self.dir).with_context(|| self.dir.display().to_string())?;
        for (suffix, text) in plan.units()? {
            let path = self.dir.join(format!("{name}.{suffix}"));
            std::fs::write(&path, text).with_context(|| path.display().to_string())?;
            output::text_out(&format!("wrote {}\n", path.display()))?;
        }
        if plan.unlock.is_empty() {
            eprintln!(
                "envelopefs: nobody will be there to type a passphrase: the schedule works while the \
                 volume is mounted; for other times give --passphrase-file or --key-file as well"
            );
        }
        if self.systemctl {
            self.tell(&["daemon-reload"])?;
            self.tell(&["enable", "--now", &self.timer])?;
            output::text_out(&format!("enabled {}\n", self.timer))?;
        }
        Ok(Exit::Ok)
    }

    fn remove(&self, name: &str) -> Result<Exit> {
        let paths = ["timer", "service"].map(|suffix| self.dir.join(format!("{name}.{suffix}")));
        if !paths.iter().any(|path| path.exists()) {
            output::text_out("there is no schedule\n")?;
            return Ok(Exit::Ok);
        }
        if self.systemctl {
            self.tell(&["disable", "--now", &self.timer])?;
        }
        for path in &paths {
            match std::fs::remove_file(path) {
                Ok(()) => output::text_out(&format!("removed {}\n", path.display()))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
        }
        if self.systemctl {
            self.tell(&["daemon-reload"])?;
        }
        Ok(Exit::Ok)
    }

    /// Runs systemctl.
    fn tell(&self, words: &[&str]) -> Result<()> {
        let mut line = vec!["systemctl"];
        line.extend(self.user.then_some("--user"));
        line.extend(words);
        let shown = line.join(" ");
        let status = Command::new(line[0]).args(&line[1..]).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                let message = format!(
                    "`{shown}` failed ({status}); the units are in {}",
                    self.dir.display()
                );
                Err(failure(Exit::Failure, message))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let message = format!(
                    "there is no systemctl here, so `{shown}` could not be run; have cron(8) or another \
                     scheduler run daily what ExecStart= says in {}",
                    self.dir.display()
                );
                Err(failure(Exit::NotSupported, message))
            }
            Err(error) => Err(error).context(shown),
        }
    }
}

#[cfg(test)]
mod tests;
