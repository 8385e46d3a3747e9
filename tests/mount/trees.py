"""An awkward tree to back up, and an exact comparison of two trees."""

import hashlib
import os
import random
import stat
import subprocess

from syscalls import utimensat


def make(root, odd_bytes=True):
    """Fills `root` with what backup tools get wrong. odd_bytes=False: names in UTF-8 only."""
    rng = random.Random(7)
    at = lambda *names: os.path.join(os.fsencode(root), *names)

    def put(path, content, mode=0o644):
        with open(path, "wb") as f:
            f.write(content)
        os.chmod(path, mode)
        return path

    for n in (0, 1, 3040, 3041, 4096, 4097, 100_000, 1_234_567):
        put(at(b"size-%d" % n), rng.randbytes(n))
    put(at(b"text"), b"the same line\n" * 20_000)
    os.makedirs(at(b"a", b"b", b"c", b"empty"))
    for i in range(200):
        put(at(b"a", b"small-%d" % i), rng.randbytes(rng.randrange(2000)), mode=0o600 + i % 64)
    put(at(b"n" * 255), b"a long name")
    os.mkdir(at("ö".encode() * 100))
    put(at("ö".encode() * 100, "日本語".encode()), b"unicode")
    put(at(b"new\nline and 'quotes\" and \\ and $x"), b"odd")
    put(at(b" leading and trailing "), b"odd")
    if odd_bytes:
        put(at(b"not-utf8-\xff\xfe\x80"), b"odd")
        os.symlink(b"\xff\xfe", at(b"link-\xff"))
    # hard links: in one folder, across folders, of a symlink and of a fifo
    os.link(at(b"size-100000"), at(b"hard-1"))
    os.link(at(b"size-100000"), at(b"a", b"b", b"hard-2"))
    os.symlink(b"a/small-1", at(b"link"))
    os.symlink(b"nowhere/at/all", at(b"dangling"))
    os.symlink(b"x" * 1000, at(b"long-link"))
    os.symlink(b"a", at(b"link-to-folder"))
    os.mkfifo(at(b"fifo"), 0o640)
    os.mknod(at(b"null"), 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(at(b"block"), 0o660 | stat.S_IFBLK, os.makedev(7, 200))
    # sparse files: a hole at the front, in the middle, at the end, all hole
    for name, size, marks in ((b"sparse-front", 5 << 20, [(5 << 20) - 100]), (b"sparse-middle", 9 << 20, [0, (9 << 20) - 10]),
                              (b"sparse-end", 5 << 20, [4096]), (b"sparse-all", 3 << 20, [])):
        with open(at(name), "wb") as f:
            f.truncate(size)
            for where in marks:
                os.pwrite(f.fileno(), b"data" * 2, where)
    # owners, modes, attributes, ACLs
    for i, (uid, gid) in enumerate([(65534, 65534), (1, 1), (1234, 4321), (4_000_000_000, 3_000_000_000)]):
        os.chown(put(at(b"owned-%d" % i), b"x", 0o640), uid, gid)
    for bits in (0o4755, 0o2755, 0o1777, 0o000, 0o444):
        put(at(b"mode-%o" % bits), b"x", bits)
    os.mkdir(at(b"sticky"))
    os.chmod(at(b"sticky"), 0o1777)
    os.mkdir(at(b"setgid"))
    os.chmod(at(b"setgid"), 0o2775)
    attributed = put(at(b"attributes"), b"x")
    os.setxattr(attributed, "user.comment", b"a comment")
    os.setxattr(attributed, "user.binary", bytes(range(256)))
    os.setxattr(attributed, "user.empty", b"")
    os.setxattr(at(b"a"), "user.of.a.folder", b"yes")
    put(at(b"acl"), b"x", 0o640)
    subprocess.run(["setfacl", "-m", "u:65534:rw,g:1:r", at(b"acl")], check=True)
    subprocess.run(["setfacl", "-m", "u:1:rx", "-d", "-m", "u:65534:rwx", at(b"a", b"b")], check=True)
    put(at(b"a", b"b", b"inherited-acl"), b"x")
    # old, odd and future times; folders last, for their entries' making changes them
    stamps = [(0, 0), (-86400 * 365, 0), (1_000_000_000, 123_456_789), (4_000_000_000, 1), (951_782_400, 999_999_999)]
    for i, (path, _, _) in enumerate(sorted(walk(root), key=lambda e: (-len(e[1]), e[1]))):
        utimensat(path, (1_600_000_000 + i, 5), stamps[i % len(stamps)], follow=False)


def walk(root):
    """(path, name relative to the root, lstat) of everything below `root` and of `root` itself."""
    root = os.fsencode(root)
    yield root, b".", os.lstat(root)
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            yield path, os.path.relpath(path, root), os.lstat(path)


def describe(root, ignore=()):
    """Name -> all that must be equal in a faithful copy. `ignore` leaves out fields that a tool can't keep."""
    inodes = {}
    described = {}
    for path, name, found in walk(root):
        if not stat.S_ISDIR(found.st_mode):
            inodes.setdefault(found.st_ino, []).append(name)
    for path, name, found in walk(root):
        kind = stat.S_IFMT(found.st_mode)
        fields = {"kind": kind, "mode": found.st_mode, "owner": (found.st_uid, found.st_gid), "mtime": found.st_mtime_ns}
        if kind == stat.S_IFREG:
            fields["size"] = found.st_size
            digest = hashlib.sha256()
            with open(path, "rb") as f:
                while piece := f.read(1 << 20):
                    digest.update(piece)
            fields["content"] = digest.hexdigest()
            fields["sparse"] = found.st_size > 1 << 20 and found.st_blocks * 512 < found.st_size // 2
        elif kind == stat.S_IFLNK:
            fields["target"] = os.readlink(path)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            fields["device"] = found.st_rdev
        if kind != stat.S_IFDIR:
            fields["links"] = sorted(inodes[found.st_ino])
        fields["xattrs"] = {a: os.getxattr(path, a, follow_symlinks=False) for a in os.listxattr(path, follow_symlinks=False)
                            if a.startswith(("user.", "system.posix_acl"))}
        described[name] = {k: v for k, v in fields.items() if k not in ignore}
    return described


def compare(one, other, ignore=(), allow=lambda name, field, one, other: False):
    """Fails with the first differences between two trees."""
    a, b = describe(one, ignore), describe(other, ignore)
    differences = [f"only in {one}: {n!r}" for n in sorted(a.keys() - b.keys())] + [f"only in {other}: {n!r}" for n in sorted(b.keys() - a.keys())]
    for name in sorted(a.keys() & b.keys()):
        for field in a[name].keys() | b[name].keys():
            if a[name].get(field) != b[name].get(field) and not allow(name, field, a[name].get(field), b[name].get(field)):
                differences.append(f"{name!r}: {field}: {a[name].get(field)!r} became {b[name].get(field)!r}")
    assert not differences, f"{len(differences)} differences:\n  " + "\n  ".join(differences[:12])
    assert len(a) > 200
