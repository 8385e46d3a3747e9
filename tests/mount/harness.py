"""What every script under tests/mount shares: volumes, mounts, cases, and tidying up after them.

A script is a list of functions marked `@case`. Their parameters say what they need:
`d` is a fresh folder in the script's one shared mount, `work` a fresh plain folder in which the case
makes volumes of its own. `main()` runs them (or those named on the command line), prints a line for
each and ends with 'N passed, N failed'. Whatever happens, mounts, daemons, loop devices and
temporary files of this script (and only of this script) are gone when it ends.
"""

import atexit
import contextlib
import fcntl
import gc
import inspect
import json
import os
import pathlib
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

REPO = pathlib.Path(__file__).resolve().parents[2]
# As root, so that other users and the kernel's own permission checks take part.
OPTIONS = "allow_other,default_permissions,suid,dev"
# $ENVELOPEFS_TEST_TRANSPORT: which way the kernel's requests come, in every mount that the harness makes.
TRANSPORT = os.environ.get("ENVELOPEFS_TEST_TRANSPORT", "auto")
NOBODY, DAEMON = (65534, 65534), (1, 1)  # uid, gid: both exist on every Debian

_cases = []
_volumes = []
_loops = []
_children = []
_work = None
_parent = None


def binary():
    """The program under test: $ENVELOPEFS, else the release build."""
    if "ENVELOPEFS" in os.environ:
        return os.environ["ENVELOPEFS"]
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target"))
    return str(target / "release" / "envelopefs")


def in_memory():
    """Puts the cipher directories on /dev/shm: for scripts that sync so often that a disk would be all they measure."""
    global _parent
    _parent = "/dev/shm" if os.path.ismount("/dev/shm") else None


def work_root():
    """This script's own folder, under $TMPDIR or /tmp."""
    global _work
    if _work is None:
        _work = pathlib.Path(tempfile.mkdtemp(prefix="envelopefs-test-", dir=_parent))
        _work.chmod(0o755)  # other users of the tests must get through to the mounts
        atexit.register(_tidy)
    return _work


def run(*words, ok=True, input=None, timeout=300, **more):
    """Runs a command; its output as text. With ok=True a failure of the command fails the case."""
    done = subprocess.run([str(w) for w in words], input=input, timeout=timeout, text=True, errors="surrogateescape",
                          stdin=None if input is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, **more)
    if ok and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done


def spawn(*words, **more):
    """Starts a command that is ended with the script at the latest."""
    child = subprocess.Popen([str(w) for w in words], stdin=more.pop("stdin", subprocess.DEVNULL), **more)
    _children.append(child)
    return child


def wait_for(what, condition, seconds=20.0):
    """Waits until condition() is true; fails the case when it isn't within `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def drop_caches(what):
    """Has the kernel forget what it caches, see proc_sys_vm(5). By way of forget_caches(), or within caches_kept()."""
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text(str(what))


@contextlib.contextmanager
def caches_kept():
    """Meanwhile no other script has the kernel forget what it caches: they run two at a time."""
    with open(__file__) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def forget_caches(what=3):
    with caches_kept():
        drop_caches(what)


def alive(pid):
    """Whether a process runs, with any of its threads; not when it is a zombie that init is slow to reap."""
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            if task.read_text().rpartition(")")[2].split()[0] not in "ZX":
                return True
        except OSError:
            continue
    return False


def errno_of(call, *args, **named):
    """The errno with which the call fails; 0 when it succeeds."""
    try:
        call(*args, **named)
    except OSError as e:
        return e.errno
    return 0


def expect(errno, call, *args, **named):
    """The call must fail with this errno (or one of these)."""
    wanted = errno if isinstance(errno, (tuple, list, set)) else (errno,)
    got = errno_of(call, *args, **named)
    name = lambda n: os.strerror(n) if n else "success"
    assert got in wanted, f"{getattr(call, '__name__', call)}{args}: {name(got)} instead of {' or '.join(map(name, wanted))}"


def as_user(who, call, *args, groups=()):
    """Runs call(*args) in a child process under another uid and gid; its value or exception comes back."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            os.setgroups(list(groups))
            os.setresgid(who[1], who[1], who[1])
            os.setresuid(who[0], who[0], who[0])
            try:
                answer = (True, call(*args))
            except BaseException as e:  # noqa: BLE001 (it is handed to the parent)
                answer = (False, e)
            os.write(writer, pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    good, value = pickle.loads(data)
    if good:
        return value
    raise value


def mounts():
    """Mount point -> (type, source, options) of this namespace."""
    found = {}
    for line in pathlib.Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        left, right = line.split(" - ", 1)
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), left.split()[4])
        kind, source, options = right.split(" ", 2)
        found[point] = (kind, source, left.split()[5] + "," + options)
    return found


def keystore_env(work):
    """Environment with a keystore of its own in `work`, unlocked by a key file."""
    key = work / "keystore.key"
    if not key.exists():
        key.write_bytes(os.urandom(32))
        key.chmod(0o600)
    env = {k: v for k, v in os.environ.items() if not k.startswith("ENVELOPEFS_")}
    return {**env, "ENVELOPEFS_KEYSTORE": str(work / "keystore"), "ENVELOPEFS_KEY_FILE": str(key), "LC_ALL": "C.UTF-8"}


class Volume:
    """A volume in a folder of its own: cipher directory, mount point, keystore, the daemon's log."""

    def __init__(self, work, *init, name="volume", env=None, cipher=None):
        self.cipher = cipher or work / f"{name}.cipher"
        self.mnt = work / f"{name}.mnt"
        self.log = work / f"{name}.log"
        self.env = env or keystore_env(work)
        self.may_panic = False
        _volumes.append(self)
        self.cipher.mkdir(exist_ok=True)
        self.mnt.mkdir(exist_ok=True)
        if init != (None,):
            self.cli("init", self.cipher, *init)

    def cli(self, *words, ok=True, **more):
        """Runs `envelopefs WORDS` against this volume's keystore."""
        return run(binary(), *words, ok=ok, env=self.env, **more)

    def json(self, *words):
        return json.loads(self.cli(*words, "--json").stdout)

    def mount(self, *words, options=OPTIONS, mnt=None, ok=True):
        done = self.cli("mount", self.cipher, mnt or self.mnt, "--log", self.log, "-o", f"transport={TRANSPORT},{options}", *words, ok=ok, cwd="/")
        if done.returncode == 0:
            assert str(mnt or self.mnt) in mounts(), "mount returned before there was a mount"
        return self if ok else done

    def mounted(self):
        return str(self.mnt) in mounts()

    def umount(self, ok=True):
        """Unmounts and waits for the daemon, so that the next step finds everything on disk."""
        pids = self.daemons()
        done = self.cli("umount", self.mnt, ok=ok)
        if done.returncode == 0:
            wait_for("the daemon ends after umount", lambda: not any(map(alive, pids)), 30)
        return done

    def remount(self, *words, **named):
        self.umount()
        return self.mount(*words, **named)

    def daemons(self):
        """Process ids of the daemons that serve this volume."""
        found, wanted = [], {os.fsencode(str(self.cipher)), os.fsencode(str(self.mnt))}
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            try:  # the name first: to read the command line of a process that is stuck in a dead mount is to be stuck too
                if not pathlib.Path(entry.path, "comm").read_bytes().startswith((b"envelopefs", b"mount")):
                    continue
                if wanted & set(pathlib.Path(entry.path, "cmdline").read_bytes().split(b"\0")):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def kill(self):
        """kill -9 of the daemon and removal of the dead mount."""
        pids = self.daemons()
        assert pids, "no daemon found to kill"
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for("the killed daemon is gone", lambda: not any(map(alive, pids)), 10)
        subprocess.run(["umount", "-l", str(self.mnt)], check=True)

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def clean(self):
        """The volume must pass fsck (unmounted)."""
        self.cli("fsck", self.cipher, timeout=600)

    def close(self):
        """Unmounts; a panic in the log is a failure even where the caller saw none."""
        if self.mounted():
            self.umount()
        if not self.may_panic:
            assert "panicked at" not in self.log_text(), f"the daemon panicked:\n{self.log_text()[-3000:]}"


def loop_ext4(work, mib, name="small"):
    """A small ext4 on a loop device; returns its mount point."""
    image, point = work / f"{name}.img", work / f"{name}.ext4"
    with open(image, "wb") as f:
        f.truncate(mib << 20)
    run("mkfs.ext4", "-q", "-F", "-m", "0", "-e", "remount-ro", image)
    device = run("losetup", "-f", "--show", image).stdout.strip()
    _loops.append((device, point))
    point.mkdir()
    run("mount", "-t", "ext4", device, point)
    return point


def loop_device(point):
    """The loop device that loop_ext4 mounted there."""
    return next(device for device, where in _loops if where == point)


def with_mount_helper():
    """Runs the rest of the script in a mount namespace of its own, in which mount(8) finds the helpers in /sbin.

    Nothing is installed on the machine: an overlay (or a copy in memory) covers /usr/sbin, in the namespace only.
    """
    _start_anew_in("--mount", "--propagation", "private")
    # Copies of what other tests have mounted would keep their disks in use until this script ends.
    for point in [p for p in mounts() if "/envelopefs-test-" in p]:
        subprocess.run(["umount", "-l", point], stderr=subprocess.DEVNULL, check=False)
    cover = pathlib.Path(tempfile.mkdtemp(prefix="envelopefs-sbin-"))
    atexit.register(cover.rmdir)
    run("mount", "-t", "tmpfs", "none", cover)
    atexit.register(subprocess.run, ["umount", "-l", str(cover)], check=False)
    for folder in ("upper", "work", "copy"):
        (cover / folder).mkdir()
    if run("mount", "-t", "overlay", "none", "-o", f"lowerdir=/usr/sbin,upperdir={cover}/upper,workdir={cover}/work", "/usr/sbin", ok=False).returncode:
        run("cp", "-a", "/usr/sbin/.", cover / "copy")
        run("mount", "--bind", cover / "copy", "/usr/sbin")
    for name in ("mount.envelopefs", "mount.fuse.envelopefs"):
        pathlib.Path("/usr/sbin", name).unlink(missing_ok=True)
        os.symlink(os.path.realpath(binary()), f"/usr/sbin/{name}")


def with_own_ipc():
    """Runs the rest of the script in an IPC namespace of its own: shared memory of databases that it kills goes with it."""
    _start_anew_in("--ipc")


def _start_anew_in(*namespace):
    """Starts this script anew under unshare(1) with these arguments, unless that is where it is."""
    if "ENVELOPEFS_TEST_NAMESPACE" not in os.environ:
        os.execvpe("unshare", ["unshare", *namespace, "--", sys.executable, *sys.argv],
                   {**os.environ, "ENVELOPEFS_TEST_NAMESPACE": "1", "ENVELOPEFS": binary()})


def case(function=None, *, timeout=120):
    """Marks a test case. After `timeout` seconds its mounts are aborted and it has failed."""
    def mark(f):
        _cases.append((f, timeout))
        return f
    return mark(function) if function else mark


def _abort_mounts():
    root = str(_work)
    for point in [p for p in mounts() if p.startswith(root + "/")]:
        subprocess.run(["umount", "-f", "-l", point], stderr=subprocess.DEVNULL, check=False)


def _tidy():
    for child in _children:
        if child.poll() is None:
            child.kill()
            child.wait()
    for volume in _volumes:
        try:
            if volume.mounted():
                subprocess.run(["umount", str(volume.mnt)], stderr=subprocess.DEVNULL, timeout=20, check=False)
            if volume.mounted():
                subprocess.run(["umount", "-f", "-l", str(volume.mnt)], stderr=subprocess.DEVNULL, timeout=20, check=False)
            end = time.monotonic() + 5
            while (pids := volume.daemons()) and time.monotonic() < end:
                time.sleep(0.05)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        except (OSError, subprocess.TimeoutExpired) as e:
            print(f"tidying up {volume.mnt}: {e}", file=sys.stderr)
    for device, point in _loops:
        subprocess.run(["umount", str(point)], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["losetup", "-d", device], stderr=subprocess.DEVNULL, check=False)
    _abort_mounts()
    for left in [p for p in mounts() if p.startswith(str(_work) + "/")]:
        print(f"left mounted: {left}", file=sys.stderr)
        return  # never delete through a mount
    shutil.rmtree(_work, ignore_errors=True)


class _Watchdog:
    """Ends what hangs: a call into a dead mount can't be interrupted from Python, but its mount can be aborted."""

    def __init__(self, name, seconds):
        self.fired = False
        self.timers = [threading.Timer(seconds, self.abort), threading.Timer(seconds + 30, self.give_up, [name])]

    def abort(self):
        self.fired = True
        for child in _children:
            if child.poll() is None:
                child.kill()
        _abort_mounts()

    @staticmethod
    def give_up(name):
        print(f"  FAILED {name}: hangs even with its mounts aborted; giving up the script\n0 passed, 1 failed", flush=True)
        _tidy()
        os._exit(1)

    def __enter__(self):
        for timer in self.timers:
            timer.daemon = True
            timer.start()
        return self

    def __exit__(self, *_):
        for timer in self.timers:
            timer.cancel()


def _told(error):
    """An exception with the script's lines that led to it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    way = "".join(f"{pathlib.Path(f.filename).name}:{f.lineno}: {f.line}\n" for f in frames[:2])
    return "\n".join(line[:600] for line in (way + "".join(traceback.format_exception_only(error))).splitlines()) + "\n"


def _close_left_open():
    """A failed case may leave descriptors behind; they would keep the mount busy for all that follow."""
    gc.collect()
    for entry in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{entry}").startswith(str(_work) + "/"):
                os.close(int(entry))
        except OSError:
            pass


def _run_case(function, timeout, shared):
    """One case; None, or the text of its failure."""
    wants = inspect.signature(function).parameters
    before = len(_volumes)
    named, folder = {}, None
    with _Watchdog(function.__name__, timeout) as dog:
        try:
            if "d" in wants:
                named["d"] = pathlib.Path(tempfile.mkdtemp(prefix="case-", dir=shared().mnt))
                named["d"].chmod(0o755)
            if "v" in wants:
                named["v"] = shared()
            if "work" in wants:
                folder = pathlib.Path(tempfile.mkdtemp(prefix=function.__name__[:20] + "-", dir=work_root()))
                folder.chmod(0o755)
                named["work"] = folder
            function(**named)
            for volume in _volumes[before:]:
                if volume is not _shared:
                    volume.close()
        except BaseException as e:  # noqa: BLE001 (also a timeout's ENOTCONN)
            text = _told(e)
            logs = "".join(v.log_text()[-1000:] for v in ([_shared] if _shared else []) + _volumes[before:] if v.mnt)
            return (f"timed out after {timeout} s\n" if dog.fired else "") + text + (f"--- log of the daemon\n{logs}" if logs else "")
        finally:
            os.chdir("/")
            _close_left_open()
    if folder and not any(p.startswith(str(folder) + "/") for p in mounts()):
        shutil.rmtree(folder, ignore_errors=True)
    return f"took longer than {timeout} s" if dog.fired else None


_shared = None


def main():
    """Runs the script's cases; the exit status is 0 when all passed."""
    global _shared
    if os.geteuid() != 0:
        sys.exit("these tests need root (other users, device nodes, mounts)")
    if not os.access(binary(), os.X_OK):
        sys.exit(f"{binary()} is missing: cargo build --release, or set ENVELOPEFS")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.umask(0o022)
    script = pathlib.Path(sys.argv[0]).name
    chosen = [c for c in _cases if not sys.argv[1:] or c[0].__name__ in sys.argv[1:]]
    unknown = set(sys.argv[1:]) - {c[0].__name__ for c in _cases}
    if unknown:
        sys.exit(f"{script}: no such case: {', '.join(sorted(unknown))}")

    def shared():
        global _shared
        if _shared is None:
            folder = work_root() / "shared"
            folder.mkdir(exist_ok=True)
            _shared = Volume(folder).mount()
        elif not _shared.mounted():  # an earlier case broke it
            _shared.mount()
        return _shared

    passed = failed = 0
    for function, timeout in chosen:
        begin = time.monotonic()
        failure = _run_case(function, timeout, shared)
        took = time.monotonic() - begin
        if failure is None:
            passed += 1
            print(f"  ok     {script} {function.__name__} ({took:.1f} s)", flush=True)
        else:
            failed += 1
            print(f"  FAILED {script} {function.__name__} ({took:.1f} s)\n    " + failure.replace("\n", "\n    "), flush=True)
    if _shared:
        try:
            _shared.close()
            _shared.clean()
            print(f"  ok     {script} (shared volume: clean unmount, fsck)", flush=True)
            passed += 1
        except BaseException:  # noqa: BLE001
            failed += 1
            print(f"  FAILED {script} (shared volume: clean unmount, fsck)\n{traceback.format_exc()}", flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed or not passed else 0)
