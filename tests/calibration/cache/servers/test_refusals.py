"""What a server that is away, refuses or lacks something leads to: one sentence and its mend, never a password."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.shared.postgresql import FAST, Server, running
from calibration.cache.cache import Cache
from calibration.errors import CacheDriverMissing, CacheError, CacheRefused, CacheUnreachable

ROOT = Path(__file__).resolve().parents[4]
SECRET = "v3ry-s3cret"


def refusal(url: str) -> CacheError:
    with pytest.raises(CacheError) as caught:
        Cache.open(url)
    assert SECRET not in str(caught.value)
    return caught.value


def test_a_wrong_password(postgresql: Server) -> None:
    error = refusal(postgresql.url("postgres", password=SECRET))
    assert type(error) is CacheRefused
    assert error.message == (
        f"the cache postgresql://autobackend:***@127.0.0.1:{postgresql.port}/postgres does not let autobackend in:"
        f' connection to server at "127.0.0.1", port {postgresql.port} failed: password authentication failed for user'
        ' "autobackend"'
    )
    assert error.mend == "correct the user and the password in its URL, or give the password in PGPASSWORD or ~/.pgpass"


def test_a_database_that_is_not_there(postgresql: Server) -> None:
    error = refusal(postgresql.url("nothere"))
    assert type(error) is CacheRefused
    assert error.message.endswith('failed: database "nothere" does not exist')
    assert error.mend == "make the database (createdb NAME), or correct the name at the end of its URL"


def test_an_address_where_nobody_answers() -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        error = refusal(f"postgresql://me:{SECRET}@127.0.0.1:{port}/x")
    assert type(error) is CacheUnreachable
    assert error.message == (
        f"the cache postgresql://me:***@127.0.0.1:{port}/x cannot be reached: connection to server at"
        f' "127.0.0.1", port {port} failed: Connection refused'
    )
    assert error.mend == (
        "see the host and the port in its URL, and whether the server runs and may be reached from here"
    )


def test_a_host_that_nobody_knows() -> None:
    error = refusal(f"postgresql://me:{SECRET}@no.such.host.invalid/x")
    assert type(error) is CacheUnreachable
    assert "cannot be reached: failed to resolve host 'no.such.host.invalid'" in error.message


def test_a_server_that_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        error = refusal(f"postgresql://me:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/x?connect_timeout=2")
    assert (type(error), "timeout expired" in error.message) == (CacheUnreachable, True)


def test_options_that_are_wrong(postgresql: Server) -> None:
    wrong = refusal(postgresql.url("postgres", sslmode="perhaps"))
    assert wrong.message.endswith('has a URL with an option that is wrong: invalid sslmode value: "perhaps"')
    assert (type(wrong), wrong.mend) == (CacheError, "correct it")
    unknown = refusal(postgresql.url("postgres", speed="high"))
    assert unknown.message.endswith('cannot be used: invalid connection option "speed"')
    assert unknown.mend == "see its URL and its server"


def test_without_psycopg() -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from calibration.cache.cache import Cache\n"
        "from calibration.errors import CacheError\n"
        "try:\n"
        f"    Cache.open('postgresql://me:{SECRET}@db/x')\n"
        "except CacheError as error:\n"
        "    print(type(error).__name__, error, sep='\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    kind, message, mend = done.stdout.splitlines()
    assert kind == CacheDriverMissing.__name__
    assert message.startswith("the cache postgresql://me:***@db/x needs psycopg, which is not installed here (")
    assert (mend, SECRET in done.stdout) == ("install it: pip install 'autobackend[postgresql]'", False)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path, Path]]:
    """A server with TLS, the certificate of its authority, and that of another one."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make certificates")
    folder = tmp_path_factory.mktemp("tls")

    def certificate(name: str) -> Path:
        """Signed by itself, for 127.0.0.1."""
        words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{name}.key", "-out", f"{name}.crt"]
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)
        return folder / f"{name}.crt"

    ours, other = certificate("ours"), certificate("other")
    files = {"server.crt": ours.read_bytes(), "server.key": ours.with_suffix(".key").read_bytes()}
    with running((*FAST, "ssl=on"), files=files) as server:
        yield server, ours, other


def test_options_of_tls_pass_through(tls: tuple[Server, Path, Path]) -> None:
    server, ours, other = tls
    with Cache.open(server.url("postgres", sslmode="verify-full", sslrootcert=str(ours))) as cache:
        used = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert [*cache._store.lookup(used, {})] == [(True,)]
    error = refusal(server.url("postgres", sslmode="verify-full", sslrootcert=str(other)))
    assert type(error) is CacheRefused
    assert "cannot be reached by TLS as its URL asks: " in error.message
    assert "certificate verify failed" in error.message
    missing = refusal(server.url("postgres", sslmode="verify-full", sslrootcert="/no/such/ca.crt"))
    assert 'root certificate file "/no/such/ca.crt" does not exist' in missing.message


def test_a_server_without_tls(postgresql: Server) -> None:
    error = refusal(postgresql.url("postgres", sslmode="require"))
    assert error.message.endswith("failed: server does not support SSL, but SSL was required")
    assert error.mend.startswith("see sslmode and sslrootcert in its URL: ")


def test_a_server_that_is_full(postgresql: Server, database: str) -> None:
    name, role = database.rpartition("/")[2], "one_at_most"
    postgresql.run(f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET}' CONNECTION LIMIT 1")
    Cache.open(database).close()
    postgresql.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}", database=name)
    url = postgresql.url(name, user=role, password=SECRET)
    try:
        with Cache.open(url):
            error = refusal(url)
        assert (type(error), "has no connection left: " in error.message) == (CacheUnreachable, True)
    finally:
        postgresql.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}", database=name)
