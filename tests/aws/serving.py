"""What every script under tests/aws shares: Amazon's own clients in a venv, and a running `envelopefs serve`.

The clients come from PyPI into $ENVELOPEFS_TEST_TOOLS/aws (target/tools/aws). The script starts itself anew with that Python.
"""

import contextlib
import fcntl
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

REPO = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tests" / "mount"))
CLIENTS = ["awscli==1.46.3", "boto3==1.44.5", "botocore==1.44.5", "aws-encryption-sdk==4.0.7", "aws-cryptographic-material-providers==1.11.3"]


def _with_clients():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target"))
    venv = pathlib.Path(os.environ.get("ENVELOPEFS_TEST_TOOLS", target / "tools")) / "aws"
    python, mark = venv / "bin" / "python3", venv / "installed"
    venv.parent.mkdir(parents=True, exist_ok=True)
    lock = open(venv.parent / "aws.lock", "w")  # two scripts may start at once; the lock goes with the process image
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not mark.exists() or mark.read_text() != "\n".join(CLIENTS):
        print("installing", *CLIENTS, flush=True)
        if subprocess.run([sys.executable, "-m", "venv", "--clear", venv], stdout=subprocess.DEVNULL).returncode:
            subprocess.run("apt-get -q update && apt-get -qy install --no-install-recommends python3-venv", shell=True, check=True,
                           stdout=subprocess.DEVNULL)
            subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *CLIENTS], check=True)
        mark.write_text("\n".join(CLIENTS))
    if pathlib.Path(sys.prefix).resolve() != venv.resolve():
        os.execv(python, [str(python), *sys.argv])


_with_clients()

import boto3  # noqa: E402
import botocore.config  # noqa: E402
import botocore.exceptions  # noqa: E402
from harness import binary, keystore_env, run, spawn, wait_for, work_root  # noqa: E402

ACCOUNT = "111122223333"
REGION = "us-east-1"
# Never the machine's own credentials, files or proxies.
for _name in [n for n in os.environ if n.startswith("AWS_") or n.lower().endswith("_proxy")]:
    del os.environ[_name]
os.environ.update(AWS_CONFIG_FILE="/dev/null", AWS_SHARED_CREDENTIALS_FILE="/dev/null", AWS_EC2_METADATA_DISABLED="true",
                  AWS_PAGER="", AWS_MAX_ATTEMPTS="1")


class Server:
    """A keystore and a server of its own."""

    def __init__(self, work, *words, network=True, **env):
        self.work = work
        self.env = {**keystore_env(work), **env}
        self.socket = work / "kms.sock"
        if not (work / "keystore").exists():
            self.cli("keystore", "init", "--account-id", ACCOUNT, "--region", REGION)
        self.words = ["--socket", self.socket, *(["--listen", "127.0.0.1:0"] if network else []), *words]
        self.start()

    def start(self):
        self.log = open(self.work / "serve.log", "ab")
        self.child = spawn(binary(), "serve", *self.words, env=self.env, stdout=subprocess.PIPE, stderr=self.log)
        line = self.child.stdout.readline().decode()
        assert line.startswith("serving on "), f"{line!r}\n{self.log_text()}"
        places = line.removeprefix("serving on ").strip().split(" and ")
        self.url = next((p for p in places if p.startswith("http")), None)

    def stop(self, sig=signal.SIGTERM):
        self.child.send_signal(sig)
        return self.child.wait(20)

    def log_text(self):
        return (self.work / "serve.log").read_text(errors="replace")

    def cli(self, *words, ok=True, **more):
        return run(binary(), *words, ok=ok, env=self.env, **more)

    def json(self, *words):
        return json.loads(self.cli(*words).stdout)

    def access_key(self, user=None):
        """(id, secret) of a new access key."""
        made = self.json("keystore", "access-key", "create", *(["--user", user] if user else []), "--json")["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]

    def client(self, user=None, region=REGION, service="kms", key=None):
        """A boto3 client; None is the account root."""
        key = key or self.access_key(user)
        config = botocore.config.Config(retries={"max_attempts": 0}, connect_timeout=10, read_timeout=30,
                                        max_pool_connections=20, parameter_validation=False)
        session = boto3.session.Session(aws_access_key_id=key[0], aws_secret_access_key=key[1], region_name=region)
        return session.client(service, endpoint_url=self.url, config=config, verify=getattr(self, "ca", None))

    def aws(self, key, region=REGION):
        """The AWS command line, in this process: `aws(...)(words)` gives exit code, standard output and error."""
        def call(*words):
            from awscli.clidriver import create_clidriver
            env = {"AWS_ACCESS_KEY_ID": key[0], "AWS_SECRET_ACCESS_KEY": key[1], "AWS_DEFAULT_REGION": region}
            os.environ.update(env)
            out, err = _Buffer(), _Buffer()
            try:
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                    code = create_clidriver().main([*map(str, words), "--endpoint-url", self.url])
            finally:
                for name in env:
                    del os.environ[name]
            return code, out.getvalue(), err.getvalue()
        return call


class _Buffer(io.StringIO):
    """The command line wants to write bytes too."""

    @property
    def buffer(self):
        owner = self

        class Bytes(io.BytesIO):
            def write(self, data):
                owner.write(data.decode())
                return len(data)
        return Bytes()


def shell(server, key, script, work, region=REGION):
    """Runs a script as somebody types it, with `aws` in the path and pointed at the server."""
    bin_dir = pathlib.Path(sys.executable).parent
    (work / "bin").mkdir(exist_ok=True)
    wrapper = work / "bin" / "aws"
    wrapper.write_text(f'#!/bin/sh\nexec "{bin_dir}/python3" "{bin_dir}/aws" --endpoint-url "{server.url}" "$@"\n')
    wrapper.chmod(0o755)
    env = {**server.env, **{k: v for k, v in os.environ.items() if k.startswith("AWS_")}, "PATH": f"{work}/bin:{os.environ['PATH']}",
           "AWS_ACCESS_KEY_ID": key[0], "AWS_SECRET_ACCESS_KEY": key[1], "AWS_DEFAULT_REGION": region}
    return run("bash", "-euo", "pipefail", "-c", script, cwd=work, env=env).stdout


def refused(call, code=None, status=None, text=None, **parameters):
    """The call must be refused with this exception; its message."""
    try:
        call(**parameters)
    except botocore.exceptions.ClientError as e:
        found, message = e.response["Error"]["Code"], e.response["Error"].get("Message", "")
        assert code is None or found in ([code] if isinstance(code, str) else code), f"{found}: {message}, not {code}"
        got = e.response["ResponseMetadata"]["HTTPStatusCode"]
        assert status is None or got == status, f"{got}, not {status}"
        assert text is None or text in message, message
        return message
    raise AssertionError(f"not refused: {getattr(call, '__name__', call)} {parameters}")


_shared = None


def shared():
    """One server for all cases of a script that don't need their own."""
    global _shared
    if _shared is None or _shared.child.poll() is not None:
        _shared = Server(pathlib.Path(tempfile.mkdtemp(prefix="serve-", dir=work_root())))
        _shared.root_key = _shared.access_key()
        _shared.root = _shared.client(key=_shared.root_key)
    return _shared
