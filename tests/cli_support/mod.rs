//! A folder with a keystore and a volume, and the program run on them.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Exit codes, as the manual lists them.
pub const DAMAGE: i32 = 1;
pub const USAGE: i32 = 2;
pub const FAILURE: i32 = 3;
pub const WRONG_PASSPHRASE: i32 = 4;
pub const NO_SUCH_KEY: i32 = 5;
pub const KEY_DISABLED: i32 = 6;
pub const BUSY: i32 = 7;
pub const NOT_SUPPORTED: i32 = 8;

pub const BINARY: &str = env!("CARGO_BIN_EXE_envelopefs");

/// A temporary folder: `c` is for the cipher directory, `m` is an empty directory to mount on.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// With a key file, and no keystore yet.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("envelopefs-cli-")
            .tempdir()
            .unwrap();
        let place = Self { folder };
        fs::write(place.path("key"), [b'k'; 64]).unwrap();
        fs::create_dir(place.path("m")).unwrap();
        place
    }

    /// With a keystore and an empty volume.
    pub fn with_volume() -> Self {
        let place = Self::new();
        place.ok(["init", "c"]);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program, to be run in the folder with its keystore and without a terminal.
    pub fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("setsid");
        command.arg("--wait").arg(BINARY).args(words);
        self.surround(&mut command);
        command
    }

    /// Sets folder and environment.
    pub fn surround(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ENVELOPEFS_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.folder.path())
            .env_remove("CREDENTIALS_DIRECTORY")
            .env("ENVELOPEFS_KEYSTORE", self.path("keystore"))
            .env("ENVELOPEFS_KEY_FILE", self.path("key"))
            .stdin(Stdio::null());
    }

    pub fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Done {
        Done(self.command(words).output().unwrap())
    }

    /// Runs, must succeed, and gives the standard output.
    pub fn ok<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> String {
        self.run(words).success()
    }

    pub fn json<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> serde_json::Value {
        serde_json::from_str(&self.ok(words)).unwrap()
    }

    /// Mounts `c` on `m`, and gives the daemon's process id.
    pub fn mount(&self, words: &[&str]) -> u32 {
        let log = self.path("log");
        let fixed = ["mount", "c", "m", "--log", log.to_str().unwrap()];
        self.ok(fixed.iter().chain(words));
        assert!(self.is_mounted(), "mount returned before there was a mount");
        let status = self.json(["status", "m", "--json"]);
        u32::try_from(status["pid"].as_u64().unwrap()).unwrap()
    }

    pub fn is_mounted(&self) -> bool {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.contains(&format!(" {} ", self.path("m").display()))
    }

    /// All cipher files of the volume, its own control files left out.
    pub fn cipher_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut todo = vec![self.path("c")];
        while let Some(folder) = todo.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_name() == ".envelopefs" {
                    continue;
                }
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    todo.push(entry.path());
                } else if kind.is_file() {
                    found.push(entry.path());
                }
            }
        }
        found
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_mounted() {
            // A test failed half-way: the folder must not be deleted through the mount.
            let _ = Command::new("umount")
                .arg("-l")
                .arg(self.path("m"))
                .status();
        }
    }
}

/// How a run ended.
pub struct Done(pub Output);

impl Done {
    pub fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    #[track_caller]
    pub fn success(self) -> String {
        assert!(
            self.0.status.success(),
            "{:?}: {}",
            self.0.status,
            self.stderr()
        );
        self.stdout()
    }

    /// Must have ended with this code and a message that holds `text`.
    #[track_caller]
    pub fn fails(self, code: i32, text: &str) {
        assert_eq!(self.code(), Some(code), "{}", self.stderr());
        assert!(self.stderr().contains(text), "{}", self.stderr());
    }
}

/// Waits until something is so.
#[track_caller]
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process is there and no zombie.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status();
    assert!(status.unwrap().success());
}

/// Changes one byte of a file.
pub fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}
