"""What must stay small or flat: each proof gives its figure, and whether its bound holds.

All on memory, so that what is measured is the filesystem and not a disk.
"""

import json
import os
import pathlib
import random
import shutil
import statistics
import sys
import tempfile
import time

from common import mounted
from figures import fio
from filesystems import Envelopefs

# How much more something may cost that must not grow: the noise of a virtual machine.
FLAT = 1.5
# ... where the small one has an advantage that does not grow either: in a file of 1 MiB the entries of all blocks are in
# three pages, else each block far from the others takes a page of them. (On tmpfs alone, without any FUSE, it is 1.7.)
FLAT_BUT_A_PAGE = 2.0


class Scene:
    """A volume in memory, mounted."""

    def __enter__(self):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="envelopefs-bench-", dir="/dev/shm"))
        self.fs = Envelopefs("envelopefs")
        self.fs.make(self.work)
        self.fs.mount()
        return self

    def __exit__(self, *_):
        if mounted(self.fs.point):
            self.fs.umount()
        shutil.rmtree(self.work, ignore_errors=True)

    @property
    def mnt(self):
        return self.fs.mnt

    def resident(self, field="VmRSS"):
        """Resident bytes of the daemon; VmHWM is the most there were."""
        (pid,) = self.fs.daemons()
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) << 10


def memory(quick):
    """Resident memory while 8 jobs stream"""
    with Scene() as scene:
        jobs = ["--name=bench", f"--directory={scene.mnt}", "--numjobs=8", "--bs=1M", f"--size={16 if quick else 128}M"]
        fio(*jobs, "--rw=write")
        scene.fs.cold()
        fio(*jobs, "--rw=read")
        read = scene.resident("VmHWM")
        scene.fs.cold()
        fio(*jobs, "--rw=rw")
        most = max(read, scene.resident("VmHWM")) / (1 << 20)
    return most, "MiB at the most", 64


def inodes(quick):
    """Memory for each inode that the kernel knows"""
    folders, files = (50, 1000) if quick else (1000, 1000)
    with Scene() as scene:
        for folder in range(folders):
            _fill(scene.mnt / f"folder-{folder}", files)
        scene.fs.cold()
        before = scene.resident()
        known = sum(1 for top, _, names in os.walk(scene.mnt) for name in names if os.lstat(f"{top}/{name}"))
        assert known == folders * files, f"{known} files of {folders * files} are there"
        grown = (scene.resident() - before) / known
    return grown, f"bytes an inode ({known:,} known)", 500


def start(quick):
    """From the mount command to the first answer, with a key file"""
    with Scene() as scene:
        (scene.mnt / "file").write_bytes(b"x")
        times = []
        for _ in range(5 if quick else 25):
            scene.fs.umount()
            begin = time.monotonic()
            scene.fs.mount()
            assert (scene.mnt / "file").read_bytes() == b"x"
            times.append((time.monotonic() - begin) * 1e3)
    return statistics.median(times), "ms (median)", 50


def lookup(quick):
    """Cost of a lookup in a directory of many entries, against one of a thousand"""
    sizes = [1_000, 50_000 if quick else 1_000_000]
    with Scene() as scene:
        for size in sizes:
            _fill(scene.mnt / f"folder-{size}", size)
        costs = {size: [] for size in sizes}
        for turn in range(5):
            for size in sizes:
                names = [scene.mnt / f"folder-{size}" / _name(n) for n in random.Random(turn).sample(range(size), 1000)]
                scene.fs.cold()
                assert not os.path.lexists(names[0].parent / "none")  # the directory itself is open from here on
                costs[size].append(_each(names, os.lstat))
    return _grown("entries", costs, FLAT)


def read(quick):
    """Cost of a 4 KiB read in a sparse file of 1 TiB, against one of 1 MiB"""
    sizes = [1 << 20, 1 << 30, 1 << 40]
    with Scene() as scene:
        blocks = {size: random.Random(7).sample(range(size >> 12), 256) for size in sizes}
        for size in sizes:
            with open(scene.mnt / f"file-{size}", "wb") as file:
                file.truncate(size)
                for block in blocks[size]:
                    os.pwrite(file.fileno(), block.to_bytes(8, "big") * 512, block << 12)
        costs = {size: [] for size in sizes}
        for _ in range(3 if quick else 9):
            for size in sizes:
                scene.fs.cold()
                file = os.open(scene.mnt / f"file-{size}", os.O_RDONLY)
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)

                def one(block, file=file):
                    assert os.pread(file, 4096, block << 12)[:8] == block.to_bytes(8, "big")

                costs[size].append(_each(blocks[size], one))
                os.close(file)
    return _grown("bytes", costs, FLAT_BUT_A_PAGE)


def _name(number):
    return f"file-{number:07}"


def _fill(folder, files):
    """Empty files, made with one request each."""
    folder.mkdir()
    place = os.open(folder, os.O_RDONLY)
    try:
        for number in range(files):
            os.mknod(_name(number), 0o100644, dir_fd=place)
    finally:
        os.close(place)


def _each(things, work):
    """Microseconds that one takes, in the middle."""
    times = []
    for thing in things:
        begin = time.perf_counter_ns()
        work(thing)
        times.append((time.perf_counter_ns() - begin) / 1e3)
    return statistics.median(times)


def _grown(what, costs, bound):
    """How many times as much the costliest is, by the least of each size's samples, as the first."""
    best = {size: min(samples) for size, samples in costs.items()}
    small = next(iter(best.values()))
    told = ", ".join(f"{cost:.1f} µs at {size:,}" for size, cost in best.items())
    return max(best.values()) / small, f"times ({told} {what})", bound


PROOFS = {"memory": memory, "inodes": inodes, "start": start, "lookup": lookup, "read": read}


def main(settings):
    """Runs those that are asked for; 1 when a bound does not hold."""
    names = list(PROOFS) if settings.proofs == "all" else settings.proofs.split(",")
    if unknown := [name for name in names if name not in PROOFS]:
        sys.exit(f"no such proof: {', '.join(unknown)}")
    results = {}
    for name in names:
        value, unit, bound = PROOFS[name](settings.quick)
        holds = value < bound
        results[name] = {"value": value, "unit": unit, "bound": bound, "holds": holds}
        print(f"{name:<8} {PROOFS[name].__doc__}: {value:,.2f} {unit}; bound {bound}: {'holds' if holds else 'DOES NOT HOLD'}", flush=True)
    if settings.json:
        pathlib.Path(settings.json).write_text(json.dumps({"quick": settings.quick, "proofs": results}, indent=1) + "\n")
    return 0 if all(result["holds"] for result in results.values()) else 1
