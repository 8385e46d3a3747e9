"""The filesystems under test: each makes a volume in a folder, mounts it, unmounts it."""

import fcntl
import os
import re
import shutil
import struct
import subprocess
import time

from common import drop_caches, envelopefs, mounted, passthrough, processes, run, wait_mounted


class Filesystem:
    """A filesystem under test. `mnt` is where its users work, `point` where it is mounted."""

    # What its daemon is called.
    process = None
    # Only a disk has it.
    disk_only = False

    def __init__(self, name):
        self.name = name
        # Other users than root come in.
        self.others = False

    def make(self, work):
        self.work, self.cipher, self.point, self.secret = work, work / "cipher", work / "mnt", work / "secret"
        self.mnt = self.point
        self.cipher.mkdir()
        self.point.mkdir()
        self.secret.write_text("benchmark\n")
        self.init()

    def init(self):
        pass

    def umount(self):
        for _ in range(100):
            if subprocess.run(["umount", str(self.point)], stderr=subprocess.DEVNULL, check=False).returncode == 0:
                break
            if not mounted(self.point):
                break
            time.sleep(0.1)
        else:
            raise RuntimeError(f"{self.name}: {self.point} stays busy")
        self.wait_gone()

    def daemons(self):
        return processes([self.process], self.cipher) if self.process else []

    def wait_gone(self):
        """The daemon may still be writing: its end is waited for, so that it is not counted in the next figure."""
        for _ in range(200):
            if not self.daemons():
                return
            time.sleep(0.05)

    def cold(self):
        self.umount()
        drop_caches()
        self.mount()

    def end(self):
        """After the last unmount."""


class Plain(Filesystem):
    """No encryption: a bind mount, so that the steps are the same."""

    def mount(self):
        run("mount", "--bind", self.cipher, self.point)


def mount_words(fs):
    """What a mount of ours, or of the twin, is told by -o."""
    options = ",".join(filter(None, [fs.options, "allow_other" if fs.others else ""]))
    return ["-o", options] if options else []


class Envelopefs(Filesystem):
    process = "envelopefs"

    def __init__(self, name, binary="", options=""):
        super().__init__(name)
        self.binary, self.options = binary or envelopefs(), options

    def init(self):
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("ENVELOPEFS_")}
        key = self.work / "key"
        key.write_bytes(os.urandom(32))
        key.chmod(0o600)
        self.env.update(ENVELOPEFS_KEYSTORE=str(self.work / "keystore"), ENVELOPEFS_KEY_FILE=str(key))
        run(self.binary, "init", self.cipher, env=self.env)

    def mount(self):
        run(self.binary, "mount", self.cipher, self.point, "--log", self.work / "log", *mount_words(self), env=self.env)

    def umount(self):
        run(self.binary, "umount", self.point, env=self.env)


class Passthrough(Filesystem):
    """The plaintext twin: the same front end over a plain directory. Its options are those of a mount that it knows."""

    process = "passthrough"

    def __init__(self, name, binary="", options=""):
        super().__init__(name)
        self.binary, self.options = binary or passthrough(), options

    def mount(self):
        with open(self.work / "log", "a") as log:
            child = subprocess.Popen([self.binary, *mount_words(self), self.cipher, self.point],
                                     stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.child = child
        wait_mounted(self.point, child)

    def wait_gone(self):
        self.child.wait(60)


class Gocryptfs(Filesystem):
    process = "gocryptfs"

    def init(self):
        run("gocryptfs", "-q", "-init", "-scryptn", "10", "-passfile", self.secret, self.cipher)

    def mount(self):
        run("gocryptfs", "-q", "-nosyslog", *(["-allow_other"] if self.others else []), "-passfile", self.secret, self.cipher, self.point)


class Securefs(Filesystem):
    process = "securefs"

    def init(self):
        run("securefs", "create", "--rounds", "1", "--pass", "benchmark", self.cipher)

    def mount(self):
        others = ["-o", "allow_other,default_permissions"] if self.others else []
        run("securefs", "mount", "-b", *others, "--log", self.work / "log", "--pass", "benchmark", self.cipher, self.point)
        wait_mounted(self.point)


class Encfs(Filesystem):
    process = "encfs"

    def init(self):
        self.mount()
        self.umount()

    def mount(self):
        with open(self.secret) as secret:
            run("encfs", "--standard", "--stdinpass", *(["--public"] if self.others else []), self.cipher, self.point, stdin=secret)


class Cryfs(Filesystem):
    process = "cryfs"

    def init(self):
        self.env = {**os.environ, "CRYFS_FRONTEND": "noninteractive", "CRYFS_NO_UPDATE_CHECK": "true",
                    "CRYFS_LOCAL_STATE_DIR": str(self.work / "state")}

    def mount(self):
        with open(self.secret) as secret:
            run("cryfs", *(["-o", "allow_other"] if self.others else []), self.cipher, self.point, stdin=secret, env=self.env)


class Fscrypt(Filesystem):
    """The kernel's own: an encrypted directory (AES-256-XTS, names AES-256-CBC-CTS) of an ext4 in an image file.

    No daemon, no authentication. The loop device goes round the page cache, so that nothing is cached twice.
    """

    disk_only = True
    # include/uapi/linux/fscrypt.h
    ADD_KEY, SET_POLICY = 0xC0506617, 0x800C6613
    BY_IDENTIFIER, V2, XTS, CTS, PAD_32 = 2, 2, 1, 4, 3
    IMAGE = 12 << 30

    def init(self):
        self.key, self.loop = os.urandom(64), None
        image = self.cipher / "image"
        with open(image, "wb") as file:
            file.truncate(self.IMAGE)
        run("mkfs.ext4", "-q", "-O", "encrypt", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        self.loop = run("losetup", "--find", "--show", "--direct-io=on", image).strip()
        self.mnt = self.point / "encrypted"
        self._mount()
        self.mnt.mkdir()
        policy = struct.pack("=BBBB4x16s", self.V2, self.XTS, self.CTS, self.PAD_32, self._add_key())
        folder = os.open(self.mnt, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, self.SET_POLICY, policy)
        finally:
            os.close(folder)
        self.umount()

    def _mount(self):
        run("mount", self.loop, self.point)

    def mount(self):
        self._mount()
        self._add_key()

    def _add_key(self):
        """Gives the filesystem the key, for as long as it is mounted; what the kernel calls it."""
        argument = bytearray(struct.pack("=II32sII32s", self.BY_IDENTIFIER, 0, b"", len(self.key), 0, b"") + self.key)
        folder = os.open(self.point, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, self.ADD_KEY, argument, True)
        finally:
            os.close(folder)
        return bytes(argument[8:24])

    @staticmethod
    def cipher_in_use():
        """What the kernel encrypts with: without the processor's AES instructions (a driver such as aes-fixed-time) it is slow."""
        blocks = [block for block in open("/proc/crypto").read().split("\n\n") if re.search(r"^name +: xts\(aes\)$", block, re.M)]
        best = max(blocks, key=lambda block: int(re.search(r"^priority +: (\d+)$", block, re.M)[1]), default="driver : ?")
        return re.search(r"^driver +: (.+)$", best, re.M)[1]

    def end(self):
        if self.loop:
            run("losetup", "--detach", self.loop)
            self.loop = None


PEERS = {"gocryptfs": Gocryptfs, "securefs": Securefs, "encfs": Encfs, "cryfs": Cryfs, "fscrypt": Fscrypt}
# Peers of an ordinary run, and their packages.
USUAL = ["gocryptfs", "securefs", "encfs"]


def by_name(word):
    """The filesystem that NAME or NAME=BINARY[,OPTIONS] stands for: a peer, plain, passthrough..., else envelopefs."""
    name, _, rest = word.partition("=")
    if name in PEERS:
        return PEERS[name](name)
    if name == "plain":
        return Plain(name)
    program, _, options = rest.partition(",")
    kind = Passthrough if name.startswith("passthrough") else Envelopefs
    return kind(name, program, options)


def available(name):
    return name == "fscrypt" or name not in PEERS or shutil.which(name) is not None
