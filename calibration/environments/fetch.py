"""Fetches what only an engine's source distribution has, and puts it beside an interpreter."""

import json
from pathlib import Path
from typing import IO

from calibration.environments.distributions import beside_folder
from calibration.environments.lifeline import Guarded
from calibration.environments.pip import PipFailed, Say, variables
from calibration.environments.source_files import SourceFiles
from calibration.errors import InstallError

_KEPT_LINES = 400


def fetch(
    python: Path, files: SourceFiles, package: str, version: str, *, temporary: Path, log: IO[str], say: Say
) -> None:
    """Put the files of a version into the folder beside an interpreter, in place of those of another version.

    Args:
        python: the interpreter; its own pip finds the source distribution.
        package: the distribution that they are part of.
        version: of it.
        temporary: an existing folder for what is downloaded.
        log: takes all that is printed.
        say: is told what is being done.

    Raises:
        InstallError: nobody noted the hash of this version.
        PipFailed: no network, no such source distribution, another content; with the reason.
        OSError: the interpreter cannot be started.
    """
    version = version.partition("+")[0]  # what a build adds to it
    sha256 = files.sha256(version)
    if sha256 is None:
        raise InstallError(files.unknown(package, version), f'pip install "{package}=={files.versions[-1]}"')
    order = {
        "distribution": package, "version": version, "sha256": sha256, "folder": files.folder,
        "patterns": files.patterns, "name": files.name, "destination": str(beside_folder(python, files.name)),
    }  # fmt: skip
    program = Path(__file__).with_name("source_archive.py")
    what = f"fetching {files.name} {version}"
    say(what, f"{files.takes}, from the source distribution of {package}")
    log.write(f"$ {python} -I {program} {json.dumps(order)}\n")
    lines: list[str] = []
    with Guarded([str(python), "-I", str(program), json.dumps(order)], variables=variables(temporary)) as running:
        for line in running.lines():
            log.write(line + "\n")
            log.flush()
            lines.append(line)
        code = running.wait()
    if code:
        raise PipFailed(lines[-_KEPT_LINES:], code)
