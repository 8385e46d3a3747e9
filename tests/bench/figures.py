"""The figures: what is done in a mount, and how long it takes.

Each group is a generator that gives, in parts, figure -> (value, processor time).
"""

import glob
import json
import os
import pathlib
import shutil
import tempfile

from common import Meter, run

# Figure -> (unit, is more better, heading)
FIGURES = {
    "write": ("MB/s", True, "WRITE"), "read": ("MB/s", True, "READ"), "randread": ("op/s", True, "RR1"), "randread4": ("op/s", True, "RR4"),
    "randwrite": ("op/s", True, "RW"), "randwrite_fsync": ("op/s", True, "RWF"), "untar": ("s", False, "UNTAR"), "md5": ("s", False, "MD5"),
    "ls": ("s", False, "LS"), "find": ("s", False, "FIND"), "rm": ("s", False, "RM"),
    "md5_cold": ("s", False, "MD5C"), "ls_cold": ("s", False, "LSC"), "find_cold": ("s", False, "FINDC"),
    "clone": ("s", False, "CLONE"), "restic": ("s", False, "RESTIC"), "cargo": ("s", False, "CARGO"), "pgbench": ("tps", True, "PGBENCH"),
}
GROUPS = {
    "data": ["write", "read", "randread", "randread4", "randwrite", "randwrite_fsync"],
    "tree": ["untar", "md5", "ls", "find", "rm"],
    "cold": ["md5_cold", "ls_cold", "find_cold"],
    "apps": ["clone", "restic", "cargo", "pgbench"],
}
# What reads a tree.
READERS = {"md5": "find tree -type f -print0 | xargs -0 md5sum > /dev/null", "ls": "ls -lR tree > /dev/null", "find": "find tree > /dev/null"}
# Those that the mean over all is taken of.
ELEVEN = GROUPS["data"] + GROUPS["tree"]
# What processor time is counted for: each GiB moved, or the whole of it.
CPU_UNIT = {figure: "s/GiB" if figure in GROUPS["data"] else "s" for figure in FIGURES}
GIB = float(1 << 30)


def fio(*words):
    out = run("fio", "--output-format=json", "--ioengine=psync", "--fallocate=none", "--thread", "--group_reporting", *words)
    return json.loads(out[out.index("{"):])["jobs"][0]


def data(fs, only, settings):
    """Of one large file."""
    megabytes, found = settings.size, {}
    operations = megabytes * 64  # a quarter of the file's blocks, each at most once: no read is served from the page cache
    common = ["--name=bench", f"--filename={fs.mnt / 'file'}", "--randrepeat=1"]
    size, part = f"--size={megabytes}M", megabytes // 4

    def measured(figure, side, field, *words):
        if figure == "write":
            os.sync()  # always: the others read it
        elif figure in only:
            fs.cold()
        else:
            return
        with Meter(fs) as meter:
            job = fio(*common, *words)[side]
            if side == "write":
                os.sync()  # what is still under way is part of its price
        if figure in only:
            found[figure] = job[field] / (1e6 if field == "bw_bytes" else 1), meter.used(job["io_bytes"] / GIB)

    measured("write", "write", "bw_bytes", "--rw=write", "--bs=128k", size)
    measured("read", "read", "bw_bytes", "--rw=read", "--bs=128k", size)
    measured("randread", "read", "iops", "--rw=randread", "--bs=4k", size, f"--number_ios={operations}")
    measured("randread4", "read", "iops", "--rw=randread", "--bs=4k", "--numjobs=4", f"--size={part}M", f"--offset_increment={part}M",
             f"--number_ios={operations}")
    measured("randwrite", "write", "iops", "--rw=randwrite", "--bs=4k", size, f"--number_ios={operations}")
    measured("randwrite_fsync", "write", "iops", "--rw=randwrite", "--bs=4k", "--fsync=1", size,
             f"--number_ios={max(operations // 32, 200)}", "--runtime=30")
    yield found


def _timed(fs, figure, only, found, command, cold=False, cwd=None, **more):
    """Runs a command in the mount, and notes how long it takes."""
    if cold:
        fs.cold()
    else:
        os.sync()  # no one pays for what was written before
    words = ["sh", "-c", command] if isinstance(command, str) else command
    with Meter(fs) as meter:
        run(*words, cwd=cwd or fs.mnt, **more)
    if figure in only:
        found[figure] = meter.seconds, meter.used()


def tree(fs, only, settings):
    """Of a tree, and then, when it is asked for more, that of its removal."""
    found = {}
    (fs.mnt / "tree").mkdir()
    _timed(fs, "untar", only, found, f"tar xf {settings.archive} -C tree")
    for figure, command in READERS.items():
        if figure in only:
            _timed(fs, figure, only, found, command)
    yield found
    found = {}
    if "rm" in only:
        _timed(fs, "rm", only, found, "rm -rf tree")
    yield found


def cold(fs, only, settings):
    """Of the same tree where nothing is cached: the filesystem is mounted anew for each."""
    found = {}
    (fs.mnt / "tree").mkdir()
    run("tar", "xf", settings.archive, "-C", fs.mnt / "tree")
    for figure, command in READERS.items():
        if f"{figure}_cold" in only:
            _timed(fs, f"{figure}_cold", only, found, command, cold=True)
    yield found


def apps(fs, only, settings):
    """Of programs at work in the mount. Each is given by itself: not every filesystem can do all."""
    if {"clone", "restic"} & only:
        found = {}
        _timed(fs, "clone", only, found, ["git", "clone", "-q", "-b", "main", settings.repository, "clone"])
        yield found
    if "restic" in only:
        found, repository = {}, pathlib.Path(tempfile.mkdtemp(prefix="envelopefs-bench-restic-", dir="/dev/shm"))
        try:
            env = {**os.environ, "RESTIC_PASSWORD": "benchmark", "RESTIC_REPOSITORY": str(repository), "RESTIC_CACHE_DIR": str(repository / "cache")}
            run("restic", "init", "-q", env=env)
            _timed(fs, "restic", only, found, ["restic", "backup", "-q", "clone"], cold=True, env=env)
        finally:
            shutil.rmtree(repository)
        yield found
    if "cargo" in only:
        found = {}
        (fs.mnt / "crate").mkdir()
        run("tar", "xf", settings.crate, "-C", fs.mnt / "crate")
        env = {k: v for k, v in os.environ.items() if not k.startswith("CARGO_TARGET")}
        _timed(fs, "cargo", only, found, ["cargo", "build", "-q", "--offline"], cold=True, cwd=fs.mnt / "crate", env=env)
        yield found
    if "pgbench" in only:
        yield {"pgbench": _pgbench(fs, settings.quick)}


def _pgbench(fs, quick):
    """A PostgreSQL cluster in the mount, 4 clients: transactions a second. Its sockets are elsewhere: their path would be too long."""
    binaries = pathlib.Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
    cluster, sockets = fs.mnt / "pg", pathlib.Path(tempfile.mkdtemp(prefix="envelopefs-bench-pg-", dir="/tmp"))
    cluster.mkdir(mode=0o700)
    for folder in (cluster, sockets):
        shutil.chown(folder, "postgres", "postgres")
    env = {"PATH": f"{binaries}:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PGHOST": str(sockets), "PGUSER": "postgres"}

    def pg(program, *words):
        return run(binaries / program, *words, cwd="/", env=env, user="postgres", group="postgres", extra_groups=[])

    def server(action, *words):
        pg("pg_ctl", "-D", cluster, "-w", "-t", "60", "-l", sockets / "log", *words, action)

    try:
        pg("initdb", "-D", cluster, "-A", "trust", "-U", "postgres", "--no-sync")
        server("start", "-o", f"-c unix_socket_directories={sockets} -c listen_addresses= -c shared_buffers=64MB")
        try:
            pg("pgbench", "-i", "-q", "-s", "2" if quick else "20", "postgres")
            with Meter(fs) as meter:
                said = pg("pgbench", "-c", "4", "-j", "2", "-T", "5" if quick else "20", "postgres")
        finally:
            server("stop", "-m", "fast")
    finally:
        shutil.rmtree(sockets, ignore_errors=True)
    line = next(line for line in said.splitlines() if line.startswith("tps"))
    return float(line.split()[2]), meter.used()
