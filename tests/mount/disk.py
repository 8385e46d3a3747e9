"""A disk with a volatile write cache, whose power can be cut.

`Disk` is a block device (a loop device over a file that a small FUSE server in this module serves). What is
written lies in the cache until the filesystem on it asks for a flush, as on a real disk. `cut()` gives the image
that a power cut leaves at that moment: all that was flushed, and of the rest any sectors, each write on its own.
The load goes on meanwhile, so one run gives many images.
"""

import atexit
import ctypes
import errno
import json
import os
import pathlib
import random
import select
import struct
import subprocess
import sys
import time

SECTOR, PAGE = 512, 4096
_running = []


class Disk:
    """The device; `folder` holds its images and is on tmpfs or a fast disk."""

    def __init__(self, folder, mib):
        self.folder = folder
        self.mib = mib
        folder.mkdir()
        (folder / "mnt").mkdir()
        self.server = subprocess.Popen([sys.executable, __file__, str(folder), str(mib << 20)], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True)
        _running.append(self)
        assert self.server.stdout.readline() == "ready\n"
        self.device = attach(folder / "mnt" / "disk")

    def cut(self, image, seed):
        """Cuts the power, within a moment, when some writes are in the cache: writes what is left to `image`.

        Returns how many writes were not flushed, and how many sectors of them are lost.
        """
        print(json.dumps([str(image), seed]), file=self.server.stdin, flush=True)
        return json.loads(self.server.stdout.readline())

    def close(self):
        """Takes the device away; what is on it must be unmounted."""
        if self not in _running:
            return
        _running.remove(self)
        subprocess.run(["losetup", "-d", self.device], stderr=subprocess.DEVNULL, check=False)
        self.server.stdin.close()
        try:
            self.server.wait(10)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()
        subprocess.run(["umount", "-l", str(self.folder / "mnt")], stderr=subprocess.DEVNULL, check=False)


def attach(image):
    """A loop device for an image."""
    return subprocess.run(["losetup", "-f", "--show", str(image)], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


# Registered on import, so that it comes after the harness has unmounted everything.
@atexit.register
def _tidy():
    for disk in list(_running):
        disk.close()


# --- the server: the kernel's FUSE protocol, as far as one file needs it

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE = 1, 2, 3, 4, 14, 15, 16, 17, 18
FSYNC, FLUSH, INIT, INTERRUPT, BATCH_FORGET = 20, 25, 26, 36, 42
MAX_WRITE = 1 << 20
BIG_WRITES, MAX_PAGES = 1 << 5, 1 << 22


class Server:
    def __init__(self, folder, size):
        self.size = size
        self.now = self.image(folder / "now.img")  # all that was written
        self.safe = self.image(folder / "safe.img")  # all that was flushed
        self.cache = []  # (offset, bytes) that was written since
        self.fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self.fuse},rootmode=40000,user_id=0,group_id=0".encode()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"disk", os.fsencode(folder / "mnt"), b"fuse.disk", 0, options):
            raise OSError(ctypes.get_errno(), "mount")

    def image(self, path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(fd, self.size)
        return fd

    def attr(self, node):
        mode, size = (0o40755, 0) if node == 1 else (0o100600, self.size)
        return struct.pack("<6Q10I", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, PAGE, 0)

    def flush(self):
        for at, data in self.cache:
            os.pwrite(self.safe, data, at)
        self.cache.clear()

    def answer(self, opcode, node, body):
        """A request's answer; None where there is none."""
        if opcode == INIT:
            return struct.pack("<4I2H2I2H8I", 7, 31, 1 << 17, BIG_WRITES | MAX_PAGES, 64, 48, MAX_WRITE, 1, MAX_WRITE // PAGE, *[0] * 9)
        if opcode == LOOKUP:
            if body.rstrip(b"\0") != b"disk":
                raise OSError(errno.ENOENT, "")
            return struct.pack("<4Q2I", 2, 0, 3600, 3600, 0, 0) + self.attr(2)
        if opcode in (GETATTR, SETATTR):
            return struct.pack("<Q2I", 3600, 0, 0) + self.attr(node)
        if opcode == OPEN:
            return struct.pack("<Q2I", 1, 0, 0)
        if opcode == READ:
            at, size = struct.unpack_from("<QI", body, 8)
            return os.pread(self.now, size, at)
        if opcode == WRITE:
            at, size = struct.unpack_from("<QI", body, 8)
            data = bytes(body[40:40 + size])
            os.pwrite(self.now, data, at)
            self.cache.append((at, data))
            return struct.pack("<2I", size, 0)
        if opcode == FSYNC:
            self.flush()
            return b""
        if opcode == STATFS:
            return struct.pack("<5Q4I24x", 0, 0, 0, 0, 0, PAGE, 255, PAGE, 0)
        if opcode in (FLUSH, RELEASE):
            return b""
        if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
            return None
        raise OSError(errno.ENOSYS, "")

    def serve(self):
        """One request."""
        try:
            request = os.read(self.fuse, MAX_WRITE + PAGE)
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                return True
            return False  # unmounted
        _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
        try:
            data, error = self.answer(opcode, node, memoryview(request)[40:].obj[40:]), 0
        except OSError as e:
            data, error = b"", -e.errno
        if data is not None:
            os.write(self.fuse, struct.pack("<IiQ", 16 + len(data), error, unique) + data)
        return True

    def cut(self, image, rng):
        subprocess.run(["cp", "--sparse=always", f"/proc/self/fd/{self.safe}", image], check=True, pass_fds=[self.safe])
        share = rng.choice([0, 0.1, 0.5, 0.5, 0.9, 1])
        grain = rng.choice([SECTOR, PAGE])
        lost = 0
        fd = os.open(image, os.O_WRONLY)
        for at, data in self.cache:
            for place in range(0, len(data), grain):
                if rng.random() < share:
                    os.pwrite(fd, data[place:place + grain], at + place)
                else:
                    lost += grain // SECTOR
        os.close(fd)
        return [len(self.cache), lost]

    def run(self):
        poll = select.poll()
        poll.register(self.fuse, select.POLLIN)
        poll.register(0, select.POLLIN)
        wanted = None  # an image, how many writes in the cache it waits for, until when
        while True:
            for fd, _ in poll.poll(10):
                if fd == self.fuse:
                    if not self.serve():
                        return
                else:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    image, seed = json.loads(line)
                    rng = random.Random(seed)
                    wanted = (image, rng, rng.randrange(16), time.monotonic() + 0.3)
            if wanted and (len(self.cache) >= wanted[2] or time.monotonic() > wanted[3]):
                print(json.dumps(self.cut(*wanted[:2])), flush=True)
                wanted = None


if __name__ == "__main__":
    server = Server(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
    print("ready", flush=True)
    server.run()
