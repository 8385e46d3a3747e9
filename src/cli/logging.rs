//! Where the log goes: the standard error, a file, or syslog.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use super::exit::usage;

/// Chooses what is logged, in the words of `tracing_subscriber::EnvFilter`.
pub const ENV_LOG: &str = "ENVELOPEFS_LOG";

/// The local syslog socket (journald listens on it as well).
const SYSLOG_SOCKET: &str = "/dev/log";
/// The facility "system daemons" of RFC 3164, section 4.1.1.
const FACILITY_DAEMON: u8 = 3;
/// Longest message, in bytes; the rest is cut.
const MESSAGE_MAX: usize = 8192;
/// How long a message may wait for a slow log: the mount is worth more than the message.
const SEND_TIMEOUT: Duration = Duration::from_millis(200);

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// The standard error, warnings only: for commands that run and end.
    Command,
    /// The standard error, with times: a mount in the foreground.
    Stderr,
    /// Appended to a file.
    File(PathBuf),
    /// The local syslog or journal.
    Syslog,
}

/// Starts the log of this process.
pub fn start(target: &LogTarget) -> Result<()> {
    let quiet = matches!(target, LogTarget::Command);
    let default = if quiet {
        LevelFilter::WARN
    } else {
        LevelFilter::INFO
    };
    let filter = EnvFilter::builder()
        .with_default_directive(default.into())
        .with_env_var(ENV_LOG)
        .from_env()
        .map_err(|error| usage(format!("{ENV_LOG}: {error}")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false);
    let started = match target {
        LogTarget::Command => builder
            .event_format(Plain)
            .with_writer(io::stderr)
            .try_init(),
        LogTarget::Stderr => builder.with_writer(io::stderr).try_init(),
        LogTarget::File(path) => builder.with_writer(Mutex::new(log_file(path)?)).try_init(),
        LogTarget::Syslog => {
            let syslog = Syslog::new(SYSLOG_SOCKET).context("making the syslog socket")?;
            builder
                .without_time()
                .with_level(false)
                .with_writer(syslog)
                .try_init()
        }
    };
    started.map_err(|error| anyhow::anyhow!("starting the log: {error}"))
}

/// An event as a command prints it: `envelopefs: warning: text`, as its errors look.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            _ => "debug",
        };
        write!(writer, "envelopefs: {level}: ")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

fn log_file(path: &Path) -> Result<std::fs::File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("opening the log {}", path.display()))
}

/// Sends panics to the log: a daemon's standard error is closed.
///
/// A panic's text can quote data, so that it goes no higher than debug; its place is logged always.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!("a thread panicked at {place}");
        tracing::debug!("{info}");
    }));
}

/// A datagram to the local syslog for each event, in the form of RFC 3164 (as syslog(3) writes it).
struct Syslog {
    socket: UnixDatagram,
    path: PathBuf,
    pid: u32,
}

impl Syslog {
    fn new(path: impl Into<PathBuf>) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        Ok(Self {
            socket,
            path: path.into(),
            pid: std::process::id(),
        })
    }

    fn send(&self, severity: u8, text: &[u8], now: SystemTime) {
        let priority = FACILITY_DAEMON * 8 + severity;
        let time = timestamp(now);
        let mut message = format!("<{priority}>{time} envelopefs[{}]: ", self.pid).into_bytes();
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        // One event is one line: a name that holds a newline can't forge another.
        message.extend(
            text.iter()
                .map(|byte| if *byte < b' ' { b' ' } else { *byte }),
        );
        message.truncate(MESSAGE_MAX);
        // By address, not connected: a log that was restarted is found again. Where there is none,
        // the message is lost; there is nobody to tell.
        let _ = self.socket.send_to(&message, &self.path);
    }
}

/// Writes events of one severity.
struct SyslogLine<'a> {
    syslog: &'a Syslog,
    severity: u8,
}

impl Write for SyslogLine<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.syslog.send(self.severity, text, SystemTime::now());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = SyslogLine<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        SyslogLine {
            syslog: self,
            severity: severity(Level::INFO),
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        SyslogLine {
            syslog: self,
            severity: severity(*meta.level()),
        }
    }
}

/// RFC 3164, section 4.1.1.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// `Mmm dd hh:mm:ss` in UTC. Logs on the same machine put their own time in its place.
fn timestamp(now: SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    let (_, month, day) = civil_from_days(day);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let month = MONTHS[(month - 1) as usize % 12];
    format!("{month} {day:2} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a number of days since 1970-01-01 (H. Hinnant, "chrono-compatible
/// low-level date algorithms").
pub fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests;
