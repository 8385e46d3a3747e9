"""What is measured with: a source tree, a repository of it, a crate with all that it needs."""

import os
import pathlib
import random
import shutil
import subprocess
import tarfile
import tempfile

from common import REPO, TARGET, run

CACHE = TARGET / "bench"

# A small program over some crates of our own Cargo.lock: what cargo builds for it is of middling size.
CRATES = ["clap", "regex-syntax", "serde", "serde_json", "tokio", "tracing-subscriber"]


def _scratch():
    CACHE.mkdir(parents=True, exist_ok=True)
    return pathlib.Path(tempfile.mkdtemp(dir=CACHE))


def _kept(name, make):
    """The file `name` in the cache, made once by make(path); and the words about it that make() gave."""
    file, origin = CACHE / name, CACHE / f"{name}.origin"
    if not file.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        for left in CACHE.glob(f"{name}.new*"):  # by a run that was killed
            left.unlink()
        fresh = CACHE / f"{name}.new"
        origin.write_text(make(fresh) or "")
        os.rename(fresh, file)
    return file, origin.read_text() if origin.exists() else ""


def source_tree(quick):
    """A tar of the Linux source without drivers/ (or a part of it), or a synthetic one of the same shape; what it is."""
    return _kept("tree-quick.tar" if quick else "tree.tar", lambda archive: _make_tree(archive, quick))


def _make_tree(archive, quick):
    packed = sorted(pathlib.Path("/usr/src").glob("linux-source-*.tar.xz")) + sorted(CACHE.glob("**/linux-source-*.tar.xz"))
    if not packed:
        subprocess.run(["apt-get", "-q", "download", "linux-source-6.1"], cwd=CACHE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        for package in CACHE.glob("linux-source-*.deb"):
            run("dpkg-deb", "-x", package, CACHE / "package")
            package.unlink()
        packed = sorted(CACHE.glob("package/**/linux-source-*.tar.xz"))
    scratch = _scratch()
    try:
        if packed:
            origin = packed[-1].name.removesuffix(".tar.xz") + (", a part of it" if quick else ", without drivers/")
            run("tar", "xf", packed[-1], "-C", scratch, "--exclude=*/drivers/*")
            top = next(scratch.iterdir())
            parts = ["kernel", "mm", "fs", "lib", "net", "include/linux"] if quick else ["."]
            run("tar", "cf", archive, "-C", top, *parts)
        else:
            origin = "synthetic, of the Linux source's shape"
            _synthetic_tree(scratch, 8_800 if quick else 46_654)
            run("tar", "cf", archive, "-C", scratch, ".")
    finally:
        shutil.rmtree(scratch)
    with tarfile.open(archive) as tar:
        files = sum(1 for member in tar if member.isfile())
    return f"{origin}: {files} files, {os.path.getsize(archive) >> 20} MiB"


def _synthetic_tree(top, files):
    """Sizes log-normal about a median of 4 KiB (mean 12 KiB), 14 files a folder, folders up to 8 deep: as in the kernel's source."""
    rng = random.Random(61)
    words = [rng.randbytes(rng.randrange(2, 9)).hex().encode() for _ in range(2000)]
    folders = [top]
    for number in range(files):
        if number % 14 == 13:
            parent = rng.choice(folders[-200:] if rng.random() < 0.7 else folders)
            if len(parent.relative_to(top).parts) < 8:
                folders.append(parent / f"dir{number}")
                folders[-1].mkdir()
        size = min(int(rng.lognormvariate(8.3, 1.45)), 4 << 20)
        text = b" ".join(rng.choices(words, k=size // 8 + 1))[:size]
        (rng.choice(folders[-40:]) / f"file-{number}.c").write_bytes(text)


def repository(quick):
    """A git bundle of the source tree, in ten commits."""
    return _kept("repository-quick.bundle" if quick else "repository.bundle", lambda bundle: _make_repository(bundle, quick))[0]


def _make_repository(bundle, quick):
    scratch = _scratch()
    try:
        run("tar", "xf", source_tree(quick)[0], "-C", scratch)
        git = ["git", "-C", scratch, "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"]
        run(*git, "init", "-q", "-b", "main")
        parts = sorted(entry for entry in os.listdir(scratch) if entry != ".git")
        for turn in range(10):
            if chosen := parts[turn::10]:
                run(*git, "add", "--force", "--", *chosen)
                run(*git, "commit", "-q", "--no-verify", "-m", f"part {turn}")
        run(*git, "bundle", "create", "-q", bundle, "main")
    finally:
        shutil.rmtree(scratch)


def crate():
    """A tar of a crate with the sources of all its dependencies beside it: it builds without a network."""
    return _kept("crate.tar", _make_crate)[0]


def _make_crate(archive):
    scratch = _scratch()
    try:
        (scratch / "src").mkdir()
        (scratch / "src/main.rs").write_text("fn main() {}\n")
        features = {"clap": ["derive"], "serde": ["derive"], "tokio": ["rt-multi-thread", "net", "time", "sync", "io-util", "macros"]}
        lines = "".join(f'{name} = {{ version = "*", features = {features.get(name, [])!r} }}\n'.replace("'", '"') for name in CRATES)
        (scratch / "Cargo.toml").write_text(f'[workspace]\n[package]\nname = "bench"\nversion = "0.0.0"\nedition = "2024"\n[dependencies]\n{lines}')
        shutil.copy(REPO / "Cargo.lock", scratch)  # the versions that are here
        env = {k: v for k, v in os.environ.items() if not k.startswith("CARGO_TARGET")}
        try:
            config = run("cargo", "vendor", "-q", "--offline", "vendor", cwd=scratch, env=env)
        except RuntimeError:
            config = run("cargo", "vendor", "-q", "vendor", cwd=scratch, env=env)
        (scratch / ".cargo").mkdir()
        (scratch / ".cargo/config.toml").write_text(config)
        run("tar", "cf", archive, "-C", scratch, ".")
    finally:
        shutil.rmtree(scratch)
