"""What the measuring scripts share: commands, mounts, processor time."""

import os
import pathlib
import subprocess
import tempfile
import time

REPO = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target"))
TICKS = os.sysconf("SC_CLK_TCK")


def run(*words, **more):
    """Runs a command; its standard output. By way of files: a pipe would be kept open by a daemon that is left behind."""
    with tempfile.TemporaryFile("w+", errors="replace") as out, tempfile.TemporaryFile("w+", errors="replace") as err:
        status = subprocess.run([str(w) for w in words], stdin=more.pop("stdin", subprocess.DEVNULL), stdout=out, stderr=err, check=False, **more).returncode
        out.seek(0)
        err.seek(0)
        if status != 0:
            raise RuntimeError(f"{' '.join(map(str, words))}: exit {status}: {(err.read() or out.read())[-1000:]}")
        return out.read()


def built(name, *flags):
    """A program of this repository, built when it isn't named in the environment."""
    if name == "envelopefs" and "ENVELOPEFS" in os.environ:
        return os.environ["ENVELOPEFS"]
    run("cargo", "build", "--release", *flags, cwd=REPO)
    return str(TARGET / "release" / name)


def envelopefs():
    return built("envelopefs")


def passthrough():
    return built("examples/passthrough", "--example", "passthrough")


def mounted(point):
    """os.path.ismount doesn't see a bind mount."""
    return any(line.split()[4] == str(point) for line in open("/proc/self/mountinfo", errors="replace"))


def wait_mounted(point, process=None):
    for _ in range(200):
        if mounted(point):
            return
        if process and process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"{point} was not mounted")


def drop_caches():
    os.sync()  # what is dirty below can't be dropped, and would be read from memory
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")


def processes(names, mentions):
    """The processes by one of these names whose command line mentions something."""
    wanted, found = tuple(os.fsencode(n)[:15] for n in names), []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if pathlib.Path(entry.path, "comm").read_bytes().startswith(wanted) and \
                        os.fsencode(str(mentions)) in pathlib.Path(entry.path, "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass
    return found


def processor_time(pid):
    """Seconds of processor time that a process has used, with all its threads (io_uring's workers are among them)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def machine_time():
    """Seconds of processor time that the whole machine has used, for users, the kernel and interrupts."""
    user, nice, system, _idle, _iowait, irq, softirq = map(int, open("/proc/stat").readline().split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS


class Meter:
    """Processor time while something is measured: of a filesystem's daemons, and of the whole machine.

    What the kernel does for a filesystem of its own (fscrypt, plain files) is in the second alone, and so is what the
    measuring program uses itself: compare that one on a quiet machine only.
    """

    def __init__(self, fs):
        self.pids = fs.daemons()

    def __enter__(self):
        self.begin = time.monotonic()
        self.before, self.machine = self._daemons(), machine_time()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.begin
        self.machine = machine_time() - self.machine
        self.daemon = self._daemons() - self.before if self.pids else None

    def _daemons(self):
        total = 0.0
        for pid in self.pids:
            try:
                total += processor_time(pid)
            except OSError:
                pass
        return total

    def used(self, gib=1.0):
        """Processor seconds, for each GiB where that is given."""
        return {"daemon": None if self.daemon is None else self.daemon / gib, "machine": self.machine / gib}
