#!/usr/bin/env python3
"""A reader of envelopefs volumes, written from envelopefs-format(5) alone.

It shares no code with the program and needs nothing but Python 3.9: the
cryptography below is plain, slow, and by the standards' text. It proves that
the page says enough, and that the program does what the page says.

    format_reader.py keys KEYSTORE KEYFILE     the CMK materials, as JSON
    format_reader.py tree CIPHERDIR KEYS.json  what is in a volume, as JSON
    format_reader.py check DIR GOLDEN          both, for the golden volumes
"""

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import stat
import struct
import sys


class Damaged(Exception):
    """Bytes that the page doesn't allow, or that fail authentication."""


def need(condition, why):
    if not condition:
        raise Damaged(why)


# --- AES-256 (FIPS 197), encryption only: GCM, CTR and CMAC need no more -----------------------


def _tables():
    power, log = [0] * 256, [0] * 256
    x = 1
    for i in range(255):
        power[i], log[x] = x, i
        x ^= (x << 1) ^ (0x11B if x & 0x80 else 0)
        x &= 0xFF
    sbox = []
    for value in range(256):
        inverse = power[(255 - log[value]) % 255] if value else 0
        out = 0x63
        for turn in range(5):
            out ^= (inverse << turn | inverse >> (8 - turn)) & 0xFF
        sbox.append(out)
    first = []
    for s in sbox:
        double = (s << 1) ^ (0x11B if s & 0x80 else 0)
        first.append(double << 24 | s << 16 | s << 8 | (double ^ s))
    turned = [first]
    for _ in range(3):
        turned.append([word >> 8 | (word & 0xFF) << 24 for word in turned[-1]])
    return sbox, turned


SBOX, (T0, T1, T2, T3) = _tables()


class Aes256:
    def __init__(self, key):
        assert len(key) == 32
        words = list(struct.unpack(">8I", key))
        rcon = 1
        for i in range(8, 60):
            word = words[i - 1]
            if i % 8 == 0:
                word = (word << 8 | word >> 24) & 0xFFFFFFFF
            if i % 4 == 0:
                parts = word.to_bytes(4, "big")
                word = int.from_bytes(bytes(SBOX[part] for part in parts), "big")
            if i % 8 == 0:
                word ^= rcon << 24
                rcon <<= 1
            words.append(words[i - 8] ^ word)
        self.words = words

    def encrypt(self, block):
        k = self.words
        a, b, c, d = (x ^ y for x, y in zip(struct.unpack(">4I", block), k))
        for i in range(4, 56, 4):
            a, b, c, d = (
                T0[a >> 24] ^ T1[b >> 16 & 255] ^ T2[c >> 8 & 255] ^ T3[d & 255] ^ k[i],
                T0[b >> 24] ^ T1[c >> 16 & 255] ^ T2[d >> 8 & 255] ^ T3[a & 255] ^ k[i + 1],
                T0[c >> 24] ^ T1[d >> 16 & 255] ^ T2[a >> 8 & 255] ^ T3[b & 255] ^ k[i + 2],
                T0[d >> 24] ^ T1[a >> 16 & 255] ^ T2[b >> 8 & 255] ^ T3[c & 255] ^ k[i + 3],
            )
        out = []
        for i, (p, q, r, s) in enumerate(((a, b, c, d), (b, c, d, a), (c, d, a, b), (d, a, b, c))):
            word = SBOX[p >> 24] << 24 | SBOX[q >> 16 & 255] << 16
            word |= SBOX[r >> 8 & 255] << 8 | SBOX[s & 255]
            out.append(word ^ k[56 + i])
        return struct.pack(">4I", *out)


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


# --- GCM (SP 800-38D), SIV (RFC 5297), HKDF (RFC 5869), Argon2id is not needed here -------------


class Gcm:
    def __init__(self, key):
        self.aes = Aes256(key)
        value = int.from_bytes(self.aes.encrypt(bytes(16)), "big")
        self.shifted = []  # H times x^i
        for _ in range(128):
            self.shifted.append(value)
            value = value >> 1 ^ (0xE1 << 120 if value & 1 else 0)

    def _ghash(self, aad, cipher):
        total = 0
        sizes = struct.pack(">QQ", 8 * len(aad), 8 * len(cipher))
        for part in (aad, cipher, sizes):
            for at in range(0, len(part), 16):
                block = part[at : at + 16].ljust(16, b"\0")
                bits = format(total ^ int.from_bytes(block, "big"), "0128b")
                total = 0
                for bit, value in zip(bits, self.shifted):
                    if bit == "1":
                        total ^= value
        return total.to_bytes(16, "big")

    def open(self, nonce, tag, aad, cipher):
        mask = self.aes.encrypt(nonce + b"\0\0\0\1")
        right = xor(mask, self._ghash(aad, cipher))
        need(hmac.compare_digest(right, tag), "a GCM tag is wrong")
        stream = b"".join(
            self.aes.encrypt(nonce + struct.pack(">I", 2 + i))
            for i in range((len(cipher) + 15) // 16)
        )
        return xor(cipher, stream)


class Siv:
    def __init__(self, key):
        assert len(key) == 64
        self.mac, self.ctr = Aes256(key[:32]), Aes256(key[32:])
        self.k1 = self._double(self.mac.encrypt(bytes(16)))
        self.k2 = self._double(self.k1)

    @staticmethod
    def _double(block):
        value = int.from_bytes(block, "big") << 1
        return (value & (1 << 128) - 1 ^ (0x87 if value >> 128 else 0)).to_bytes(16, "big")

    def _cmac(self, data):
        last = (len(data) - 1) // 16 * 16 if data else 0
        tail = data[last:]
        tail = xor(tail, self.k1) if len(tail) == 16 else xor((tail + b"\x80").ljust(16, b"\0"), self.k2)
        state = bytes(16)
        for at in range(0, last, 16):
            state = self.mac.encrypt(xor(state, data[at : at + 16]))
        return self.mac.encrypt(xor(state, tail))

    def open(self, headers, sealed):
        need(len(sealed) >= 16, "a SIV ciphertext is too short")
        iv, cipher = sealed[:16], sealed[16:]
        start = int.from_bytes(iv, "big") & ~(1 << 63 | 1 << 31)
        stream = b"".join(
            self.ctr.encrypt(((start + i) % (1 << 128)).to_bytes(16, "big"))
            for i in range((len(cipher) + 15) // 16)
        )
        plain = xor(cipher, stream)
        d = self._cmac(bytes(16))
        for header in headers:
            d = xor(self._double(d), self._cmac(header))
        if len(plain) >= 16:
            last = plain[:-16] + xor(plain[-16:], d)
        else:
            last = xor(self._double(d), (plain + b"\x80").ljust(16, b"\0"))
        need(hmac.compare_digest(self._cmac(last), iv), "a SIV tag is wrong")
        return plain


def HMAC(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def HKDF(key, salt, info, length):
    extracted = HMAC(salt or bytes(32), key)
    out, last, count = b"", b"", 1
    while len(out) < length:
        last = HMAC(extracted, last + info + bytes([count]))
        out, count = out + last, count + 1
    return out[:length]


def from_base64url(text):
    need(b"=" not in text and len(text) % 4 != 1, "no base64url")
    data = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    need(to_base64url(data) == text, "no canonical base64url")
    return data


def to_base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


# --- WRAPPED KEYS, KEYSTORE --------------------------------------------------------------------


def canonical(context):
    out = b""
    for key, value in sorted((k.encode(), v.encode()) for k, v in context.items()):
        out += struct.pack("<I", len(key)) + key + struct.pack("<I", len(value)) + value
    return out


class Materials:
    """The CMK materials: {key id: {material id: secret}}, all in hexadecimal."""

    def __init__(self, keys):
        self.secrets = {}
        for key, materials in keys.items():
            multi_region = key.startswith("mrk-")
            id = bytes.fromhex(key.removeprefix("mrk-").replace("-", ""))
            for material, secret in materials.items():
                name = (id, multi_region, bytes.fromhex(material)[:8])
                self.secrets[name] = bytes.fromhex(secret)

    def unwrap(self, blob, context):
        need(59 <= len(blob) <= 58 + 4096, "the length of a blob")
        need(blob[0] == 1 and blob[1] & ~1 == 0, "the version and flags of a blob")
        prefix, salt = blob[:26], blob[26:42]
        material = self.secrets.get((blob[2:18], blob[1] == 1, blob[18:26]))
        need(material is not None, "a blob is under material that is not given")
        fixed = b"envelopefs kms wrap v1" + b"\0" + salt + prefix + bytes.fromhex("00000160")
        derived = HMAC(material, b"\0\0\0\1" + fixed) + HMAC(material, b"\0\0\0\2" + fixed)
        key, nonce = derived[:32], derived[32:44]
        return Gcm(key).open(nonce, blob[-16:], blob[:42] + canonical(context), blob[42:-16])


def keystore_materials(keystore, key_file):
    """The materials in a keystore that a key file opens."""
    sql = sqlite3.connect(f"file:{keystore}/keystore.db?mode=ro", uri=True)

    def opened(key, sealed, aad):
        return Gcm(key).open(sealed[:12], sealed[-16:], aad.encode(), sealed[12:-16])

    with open(key_file, "rb") as file:
        contents = file.read()
    root = None
    query = "SELECT id, salt, sealed_root FROM protectors WHERE kind = 'key-file'"
    for id, salt, sealed in sql.execute(query):
        key = HKDF(HMAC(salt, contents), b"", b"envelopefs key file protector v1", 32)
        root = opened(key, sealed, f"protectors|{id}|1")
    need(root is not None, "no key file opens this keystore")
    values = HKDF(root, b"", b"envelopefs keystore values v1", 32)
    keys = {}
    for key, generation, id, sealed in sql.execute("SELECT key, generation, id, sealed FROM materials"):
        secret = opened(values, sealed, f"materials|{key}/{id.hex()}|{generation}")
        keys.setdefault(key, {})[id.hex()] = secret.hex()
    sql.close()
    return keys


# --- CONTROL DIRECTORY -------------------------------------------------------------------------


class Record:
    """The body of a volume record."""

    def __init__(self, data):
        need(data[:8] == b"ENVLPVOL" and data[8:10] == b"\1\0", "the version of the volume record")
        length = struct.unpack("<I", data[12:16])[0]
        need(data[10:12] == b"\0\0" and len(data) == 16 + length + 32, "the volume record")
        self.body, self.at = data[16:-32], 0
        self.covered, self.mac = data[:-32], data[-32:]
        self.generation = self.integer()
        self.volume_id = self.take(16)
        need(self.integer() & ~1 == 0, "unknown features")
        self.names = self.integer()
        need(self.names in (0, 1), "an unknown encoding of names")
        created = self.integer()
        self.created = created // 2 if created % 2 == 0 else -(created // 2) - 1
        self.volume_keys = [self.take(self.integer()) for _ in range(self.integer())]
        need(self.at == len(self.body) and self.volume_keys, "the body of the volume record")

    def take(self, count):
        piece = self.body[self.at : self.at + count]
        need(len(piece) == count, "the volume record is cut short")
        self.at += count
        return piece

    def integer(self):
        first = self.take(1)[0]
        if first < 251:
            return first
        need(first <= 253, "an integer of the volume record")
        return int.from_bytes(self.take({251: 2, 252: 4, 253: 8}[first]), "little")


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


class Volume:
    def __init__(self, root, materials):
        self.root, self.materials = os.fsencode(root), materials
        self.control = os.path.join(self.root, b".envelopefs")
        self.record = self._record()
        key = lambda label, length: HKDF(self.names_key, b"", label, length)
        self.entry_name = Siv(key(b"envelopefs 1 entry name", 64))
        self.target = Gcm(key(b"envelopefs 1 symlink target", 32))
        self.xattr_name = Siv(key(b"envelopefs 1 xattr name", 64))
        self.xattr_value = Gcm(key(b"envelopefs 1 xattr value", 32))
        self.epoch, self.crashed = self._mark()
        self.journal = self._journal() if self.epoch in self.crashed else {}

    def _record(self):
        records = []
        for name in (b"volume.a", b"volume.b"):
            try:
                records.append(Record(read_file(os.path.join(self.control, name))))
            except (OSError, Damaged):
                pass  # torn while it was written: the other one counts
        for record in sorted(records, key=lambda record: -record.generation):
            try:
                return self._opened(record)
            except Damaged:
                pass
        raise Damaged("no volume record is authentic")

    def _opened(self, record):
        context = {"envelopefs:volume-id": record.volume_id.hex()}
        volume_key = self.materials.unwrap(record.volume_keys[0], context)
        self.record_key = HKDF(volume_key, record.volume_id, b"envelopefs record", 32)
        self.names_key = HKDF(volume_key, record.volume_id, b"envelopefs names", 32)
        self.journal_key = HKDF(volume_key, record.volume_id, b"envelopefs journal", 32)
        right = HMAC(self.record_key, record.covered)
        need(hmac.compare_digest(right, record.mac), "the MAC of the volume record")
        return record

    # --- MARK, JOURNAL ---

    def _mark(self):
        """The epoch, and the epochs that crashed, the one in use among them."""
        text = read_file(os.path.join(self.control, b"mark"))
        for word in (b"clean\n", b"in use\n"):
            if text == word + HMAC(self.record_key, b"mark" + word):
                return 0, []
        found = None
        for start in (0, 512):
            mark = text[start : start + 512]
            if len(mark) < 512 or mark[:8] != b"ENVLPMRK":
                continue
            version, in_use, journal, count, epoch, generation = struct.unpack("<HBBIQQ", mark[8:32])
            end = 32 + 8 * count
            if version == 1 and count <= 32 and mark[end : end + 32] == HMAC(self.record_key, b"mark" + mark[:end]):
                if found is None or generation > found[0]:
                    crashed = list(struct.unpack(f"<{count}Q", mark[32:end]))
                    found = generation, epoch, crashed + [epoch] * in_use, journal and in_use
        need(found is not None, "the mark")
        self.journaled = found[3]
        return found[1], found[2]

    def _journal(self):
        """What the records say of each file: lists of (offset, bytes) and of resizes, in order."""
        if not self.journaled:
            return {}
        text = read_file(os.path.join(self.control, b"journal"))
        key = Gcm(HKDF(self.journal_key, self.record.volume_id + struct.pack("<Q", self.epoch), b"envelopefs journal epoch", 32))

        def authentic(data):
            try:
                key.open(data[-28:-16], data[-16:], data[:-28], b"")
                return True
            except Damaged:
                return False

        headers = [text[at : at + 108] for at in (0, 512)]
        headers = [h for h in headers if h[:8] == b"ENVLPJNL" and h[32:40] == struct.pack("<Q", self.epoch) and authentic(h)]
        need(headers, "the journal's header")
        tail, sequence, length = struct.unpack("<QQQ", max(headers, key=lambda h: h[40:48][::-1])[48:72])
        records, at = [], tail
        while True:
            for at in (at, 4096):
                head = text[at : at + 80]
                if len(head) == 80 and head[:4] == b"EJR1" and struct.unpack("<QQ", head[16:32]) == (sequence, self.epoch):
                    end = at + struct.unpack("<I", head[8:12])[0]
                    if end <= length and authentic(text[at:end]):
                        break
            else:
                break
            records.append(text[at:end])
            at, sequence = end, sequence + 1
        files = {}
        for record in records:
            kind, resize, count = struct.unpack("<BBH", record[4:8])
            steps = files.setdefault(record[32:48], [])
            if kind == 2:
                steps.clear()
            if kind != 1:
                continue
            body = 80 + 16 * count + struct.unpack("<H", record[12:14])[0]
            for i in range(count):
                offset, size = struct.unpack("<QI", record[80 + 16 * i : 92 + 16 * i])
                steps.append((offset, record[body : body + size]))
                body += size
            steps.append((resize, struct.unpack("<Q", record[56:64])[0]) if resize else (0, b""))
        return files

    def _replayed(self, cipher):
        """A cipher file with the journal's records over it."""
        cipher = bytearray(cipher)
        for where, what in self.journal.get(bytes(cipher[16:32]), []):
            if isinstance(what, int):
                if where == 2:
                    del cipher[what:]
                cipher += bytes(max(0, what - len(cipher)))
            else:
                cipher += bytes(max(0, where + len(what) - len(cipher)))
                cipher[where : where + len(what)] = what
        return bytes(cipher)

    # --- CIPHER FILES ---

    def read(self, path):
        cipher = self._replayed(read_file(path))
        length = len(cipher)
        if length == 0:
            return b""
        need(length >= 1056, "a file is cut inside its header")
        static = cipher[:64]
        need(static[:16] == b"ENVLPFS\0" + b"\1\0\1\0" + bytes(4), "the static part of a header")
        need(static[32:] == bytes(32), "the static part of a header")
        content = self._content_keys(cipher, static)
        state = cipher[960:1024]
        try:
            content["current"].open(state[36:48], state[48:], b"state" + state[:36], b"")
        except Damaged:
            need("previous" in content, "the state of a file")
            content["previous"].open(state[36:48], state[48:], b"state" + state[:36], b"")
        size, flags, _, epoch = struct.unpack("<QIIQ", state[:24])
        need(flags & ~1 == 0 and state[24:36] == bytes(12), "the state of a file")
        doubtful = epoch in self.crashed and epoch != 0

        def block(index, entry, kind, data):
            generation, flag, _ = struct.unpack("<BBH", entry[28:])
            need(flag == kind and generation in content, "an entry")
            aad = struct.pack("<Q", index) + entry[28:]
            return content[generation].open(entry[:12], entry[12:28], aad, data)

        if length <= 4096:
            right = length - 1056
            plain = block(0, cipher[1024:1056], 1, cipher[1056:])
        else:
            right = self._size(length)
            sparse = flags & 1 or doubtful
            plain = b""
            for index in range((right + 4095) // 4096):
                entry_at, data_at = self._place(index)
                entry = cipher[entry_at : entry_at + 32]
                count = min(4096, right - 4096 * index)
                if entry == bytes(32):
                    need(sparse, "an entry is missing")
                    plain += bytes(count)
                else:
                    plain += block(index, entry, 0, cipher[data_at : data_at + count])
        need(size == right or self.crashed, "the size of a file")
        return plain

    @staticmethod
    def _size(length):
        if length <= 397312:
            return length - 4096
        r = length - 397312
        return 4096 * (96 + 128 * (r // 528384)) + max(0, r % 528384 - 4096)

    @staticmethod
    def _place(i):
        if i < 96:
            return 1024 + 32 * i, 4096 * (1 + i)
        g, p = (i - 96) // 128, (i - 96) % 128
        e = 397312 + 528384 * g
        return e + 32 * p, e + 4096 * (1 + p)

    def _content_keys(self, cipher, static):
        """The content keys by generation, the current one, and the previous one if there is one."""
        file_id, volume_id = static[16:32], self.record.volume_id
        context = {"envelopefs:volume-id": volume_id.hex(), "envelopefs:file-id": file_id.hex()}
        slots = []
        for at in (64, 512):
            slot = cipher[at : at + 448]
            if slot != bytes(448):
                slots.append((struct.unpack("<Q", slot[:8])[0], slot))
        for _, slot in sorted(slots, reverse=True):
            try:
                return self._slot_keys(slot, static, file_id, context)
            except Damaged:
                pass  # torn while it was written: the other one counts
        raise Damaged("no envelope slot is authentic")

    def _slot_keys(self, slot, static, file_id, context):
        volume_id = self.record.volume_id
        count, at = slot[8], 16
        need(1 <= count <= 4 and slot[9:16] == bytes(7), "an envelope slot")
        header_key, content = None, {}
        for _ in range(count):
            generation, role, n = struct.unpack("<BBH", slot[at : at + 4])
            need(role in (1, 2) and at + 4 + n <= 416, "a wrapped key")
            data_key = self.materials.unwrap(slot[at + 4 : at + 4 + n], context)
            keys = HKDF(data_key, volume_id + file_id, b"envelopefs file 1", 64)
            content[generation] = Gcm(keys[:32])
            if role == 1:
                content["current"], header_key = content[generation], keys[32:]
            else:
                content["previous"] = content[generation]
            at += 4 + n
        need(header_key and slot[at:416] == bytes(416 - at), "an envelope slot")
        right = HMAC(header_key, b"slot" + volume_id + static + slot[:416])
        need(hmac.compare_digest(right, slot[416:]), "the MAC of an envelope slot")
        return content

    # --- NAMES, SYMLINK TARGETS, EXTENDED ATTRIBUTES ---

    def name(self, directory, id, stored):
        """The plaintext name of an entry; None when it isn't one."""
        if self.record.names == 1:
            if not stored.startswith(b".envelopefs"):
                return stored
            rest = stored.removeprefix(b".envelopefs.u.")
            return None if rest == stored else b".envelopefs" + rest
        text = stored
        if stored.startswith(b".envelopefs.l."):
            hash = stored.removeprefix(b".envelopefs.l.")
            text = os.readlink(os.path.join(directory, b".envelopefs.n." + hash))
            need(to_base64url(hashlib.sha256(text).digest()) == hash, "the hash of a name")
        elif stored.startswith(b".envelopefs"):
            return None
        return self.entry_name.open([id], from_base64url(text))

    def sealed(self, key, aad, data):
        need(len(data) >= 28, "sealed bytes are cut short")
        return key.open(data[:12], data[12:28], aad, data[28:])

    def symlink(self, path):
        text = os.readlink(path)
        if text.startswith(b"@") and len(text) == 41:
            with_length = int(text[33:])
            text = read_file(os.path.join(self.control, b"targets", text[1:33]))
            target = self.sealed(self.target, b"", from_base64url(text))
            need(len(target) == with_length, "the length of a symlink's target")
            return target
        need(len(text) % 4 != 1, "the length of a symlink's text")
        return self.sealed(self.target, b"", from_base64url(text))

    def xattrs(self, path):
        found = {}
        for stored in map(os.fsencode, os.listxattr(path, follow_symlinks=False)):
            namespace, dot, rest = stored.partition(b".")
            namespace += dot
            if namespace not in (b"user.", b"trusted.", b"security."):
                continue
            if not rest.startswith(b"envelopefs."):
                continue
            text = rest.removeprefix(b"envelopefs.")
            data = os.getxattr(path, stored, follow_symlinks=False)
            if text.startswith(b"h."):
                plain = self.sealed(self.xattr_value, b"\0" + stored, data)
                name, value = plain[1 : 1 + plain[0]], plain[1 + plain[0] :]
            else:
                name = namespace + self.xattr_name.open([namespace], from_base64url(text))
                value = self.sealed(self.xattr_value, name, data)
            found[name.decode("latin-1")] = value.hex()
        return found

    def tree(self):
        """Everything in the volume: {path: what it is}; a character of a path is a byte."""
        entries = {}
        left = [(self.root, b"", bytes(16))]
        while left:
            directory, prefix, id = left.pop()
            for stored in os.listdir(directory):
                name = self.name(directory, id, stored)
                if name is None:
                    continue
                below, path = os.path.join(directory, stored), prefix + name
                mode = os.lstat(below).st_mode
                entry = {"size": 0}
                if stat.S_ISDIR(mode):
                    entry["kind"] = "dir"
                    inner = bytes(16)
                    if self.record.names == 0:
                        inner = from_base64url(os.readlink(os.path.join(below, b".envelopefs.dir")))
                    left.append((below, path + b"/", inner))
                elif stat.S_ISREG(mode):
                    plain = self.read(below)
                    entry = {"kind": "file", "size": len(plain)}
                    entry["sha256"] = hashlib.sha256(plain).hexdigest()
                elif stat.S_ISLNK(mode):
                    target = self.symlink(below)
                    entry = {"kind": "symlink", "size": len(target)}
                    entry["target"] = target.decode("latin-1")
                else:
                    entry["kind"] = "fifo" if stat.S_ISFIFO(mode) else "other"
                xattrs = self.xattrs(below)
                if xattrs:
                    entry["xattrs"] = xattrs
                entries[path.decode("latin-1")] = entry
        return entries


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def check(directory, golden):
    keys = load(os.path.join(golden, "keys.json"))
    found = keystore_materials(os.path.join(directory, "keystore"), os.path.join(directory, "key-file"))
    need(found == keys, "the keystore holds other materials than keys.json")
    for name, right in load(os.path.join(golden, "expected.json")).items():
        tree = Volume(os.path.join(directory, name), Materials(keys)).tree()
        for path in sorted(right.keys() | tree.keys()):
            if right.get(path) != tree.get(path):
                sys.exit(f"{name}: {path!r}: expected {right.get(path)}, found {tree.get(path)}")
        print(f"{name}: {len(tree)} entries are right")


def main(arguments):
    verb = arguments[:1]
    if verb == ["keys"] and len(arguments) == 3:
        print(json.dumps(keystore_materials(*arguments[1:]), indent=2, sort_keys=True))
    elif verb == ["tree"] and len(arguments) == 3:
        volume = Volume(arguments[1], Materials(load(arguments[2])))
        print(json.dumps(volume.tree(), indent=2, sort_keys=True))
    elif verb == ["check"] and len(arguments) == 3:
        check(*arguments[1:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
