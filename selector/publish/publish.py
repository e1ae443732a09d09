"""publish(): what this host has measured, as a file in results/hosts, and the pages of all hosts with a file there."""

import json
from collections.abc import Sequence
from pathlib import Path

from calibration.cache.cache import Cache
from calibration.errors import CacheError
from calibration.registry import all_backends
from calibration.whole_file import write_whole
from selector import context as contexts
from selector.host.spec import HostSpec
from selector.predict.limits.probe import probe_of
from selector.publish.hosts.host_file import HostResults, content_of, read
from selector.publish.matrix.matrix import matrix
from selector.publish.pages.html import html
from selector.publish.pages.markdown import host_markdown, markdown


def publish(cache: Cache, out: Path, *, host: HostSpec | None = None, now: float | None = None) -> list[Path]:
    """Write hosts/HOST.json of this host, and the pages of all hosts whose files are in `out`.

    The pages are matrix.md (a summary), matrix.html (everything) and for each host hosts/HOST.md.

    Returns:
        The paths written.

    Raises:
        CacheError: nothing was measured here or there, a host's file cannot be read, or `out` cannot be written.
    """
    import time

    here = host or contexts.DEFAULT.host()
    outcomes = list(cache.all(host=here.identifier))
    folder = out / "hosts"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        if outcomes:
            probe = probe_of(here.identifier, cache)
            content = content_of(here, outcomes, time.time() if now is None else now, probe=probe)
            written.append(_write(folder / f"{here.identifier}.json", json.dumps(content, indent=1) + "\n"))
        hosts = sorted((read(path) for path in folder.glob("*.json")), key=lambda h: (h.device, h.host))
        if not hosts:
            raise CacheError(
                f"nothing was measured on this host; the cache is {cache.location}",
                "measure something first: autobackend calibrate shape:smollm2-135m",
            )
        return [*written, *_write_pages(out, hosts)]
    except OSError as error:
        raise CacheError(f"{out} cannot be written: {error.strerror}", "name another folder with --out") from error


def _write_pages(out: Path, hosts: Sequence[HostResults]) -> list[Path]:
    order = [f"{name}:{v.name}" for name, backend in all_backends().items() for v in backend.variants]
    all_hosts = matrix(hosts, order)
    return [
        _write(out / "matrix.md", markdown(all_hosts)),
        _write(out / "matrix.html", html(all_hosts)),
        *(_write(out / "hosts" / f"{host.host}.md", host_markdown(all_hosts, host)) for host in all_hosts.hosts),
    ]


def _write(path: Path, text: str) -> Path:
    write_whole(path, text, mode=0o644)
    return path
