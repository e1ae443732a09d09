"""A URL's password is in nothing that is shown, whatever the URL looks like."""

import pytest

from calibration.cache.servers.address import Address
from calibration.errors import CacheError

ODD = (
    "write it as postgresql://USER:PASSWORD@HOST:PORT/NAME; of a password's characters @ is %40, : is %3A, / is %2F,"
    " ? is %3F and # is %23"
)


@pytest.mark.parametrize(
    ("text", "shown", "url"),
    [
        ("postgresql://me:geheim@db:5432/x", "postgresql://me:***@db:5432/x", "me:geheim@db:5432/x"),
        ("postgres://me:geheim@db/x", "postgresql://me:***@db/x", "me:geheim@db/x"),
        ("postgresql+psycopg://me@db/x", "postgresql://me@db/x", "me@db/x"),
        ("postgresql://db", "postgresql://db", "db"),
        ("postgresql:///x?host=/run/postgresql", "postgresql:///x?host=/run/postgresql", "/x?host=/run/postgresql"),
        ("postgresql://me:@[::1]:5432/x", "postgresql://me:***@[::1]:5432/x", "me:@[::1]:5432/x"),
        (
            "postgresql://db/x?user=me&password=geheim&sslpassword=auch&passfile=/etc/pass&sslmode=verify-full",
            "postgresql://db/x?user=me&password=***&sslpassword=***&passfile=/etc/pass&sslmode=verify-full",
            "db/x?user=me&password=geheim&sslpassword=auch&passfile=/etc/pass&sslmode=verify-full",
        ),
    ],
)
def test_what_is_shown_and_what_connects(text: str, shown: str, url: str) -> None:
    address = Address.parse(text)
    assert (address.shown, address.url) == (shown, f"postgresql+psycopg://{url}")
    assert "geheim" not in repr(address)
    assert Address.parse(address.url) == address


def test_the_parts_of_it() -> None:
    address = Address.parse("postgresql://m%65:ge%40heim@db/x?sslmode=require&connect_timeout=3")
    assert (address.user, address.dialect) == ("me", "postgresql")
    assert sorted(address.options) == ["connect_timeout", "sslmode"]
    assert address.without_secrets('"ge@heim", "ge%40heim", "gehe"') == '"***", "***", "gehe"'
    assert Address.parse("postgresql://db/x?user=you").user == "you"
    assert Address.parse("postgresql://me:ab@db/x").without_secrets("about") == "about"


@pytest.mark.parametrize(
    "rest",
    [
        "me:gehe@im@db/x",
        "me:gehe/im@db/x",
        "me:geh/5432@im/x",
        "me:gehe?im@db/x",
        "me:gehe#im@db/x",
        "me:gehe:im@db:im/x",
        "me@db:geheim/x",
        "me:geheim@[::1/x",
        "db/x#geheim",
        "db/x?geheim",
    ],
)
def test_one_that_cannot_be_read_is_not_repeated(rest: str) -> None:
    with pytest.raises(CacheError) as caught:
        Address.parse(f"postgresql://{rest}")
    assert (caught.value.message, caught.value.mend) == ("the cache postgresql://... is no URL that can be read", ODD)


@pytest.mark.parametrize(
    ("text", "message", "mend"),
    [
        (
            "mysql://me:geheim@db/x",
            "the cache mysql://... is of a database that autobackend does not use",
            "name a file, or a PostgreSQL database: postgresql://USER:PASSWORD@HOST:PORT/NAME",
        ),
        (
            "postgresql+asyncpg://me:geheim@db/x",
            "the cache postgresql+asyncpg://... names the driver asyncpg; autobackend uses psycopg",
            "write it as postgresql://USER:PASSWORD@HOST:PORT/NAME",
        ),
    ],
)
def test_another_database_or_driver(text: str, message: str, mend: str) -> None:
    with pytest.raises(CacheError) as caught:
        Address.parse(text)
    assert (caught.value.message, caught.value.mend) == (message, mend)
