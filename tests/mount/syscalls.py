"""System calls that Python has no face for, and the errno numbers' short names."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
_libc.utimensat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int]
_libc.syncfs.argtypes = [ctypes.c_int]
_libc.linkat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]

AT_FDCWD = -100
NOREPLACE, EXCHANGE = 1, 2
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 1, 2, 8, 0x10, 0x20
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


class _Timespec(ctypes.Structure):
    _fields_ = [("secs", ctypes.c_int64), ("nanos", ctypes.c_int64)]


def _checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def fallocate(fd, mode, offset, length):
    """fallocate(2)."""
    _checked(_libc.fallocate(fd, mode, offset, length))


def renameat2(old, new, flags):
    """renameat2(2) of two paths."""
    _checked(_libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def utimensat(path, atime, mtime, follow=True):
    """utimensat(2); each time is (seconds, nanoseconds) or (0, UTIME_NOW / UTIME_OMIT)."""
    times = (_Timespec * 2)(_Timespec(*atime), _Timespec(*mtime))
    _checked(_libc.utimensat(AT_FDCWD, os.fsencode(path), ctypes.byref(times), 0 if follow else 0x100))


def syncfs(fd):
    """syncfs(2)."""
    _checked(_libc.syncfs(fd))


def link_fd(fd, new):
    """linkat(2) of an open file that has no name, as O_TMPFILE makes it."""
    _checked(_libc.linkat(AT_FDCWD, os.fsencode(f"/proc/self/fd/{fd}"), AT_FDCWD, os.fsencode(new), 0x400))
