"""The screens of `backends`: what is installed where, and how an installation goes."""

from collections.abc import Sequence

from selector.install.install import InstallPlanned
from selector.install.inventory import Listed
from selector.install.outcome import Failed, Installed, Outcome, Skipped
from selector.screens.text import age, columns, plural, seconds, size


def backends_screen(backends: Sequence[Listed], across: int | None = None) -> list[str]:
    """A line for each backend."""
    rows = [("backend", "package", "version", "devices", "here", "size", "verified", "variants", "python")]
    for listed in backends:
        venv = listed.venv if listed.uses_venv else None
        rows.append(
            (
                listed.backend.name,
                listed.package,
                listed.version or "not installed",
                " ".join(sorted(listed.devices)),
                "yes" if listed.runs_here else "no",
                size(venv.bytes) if venv else "-",
                f"{age(venv.verified.at)} in {seconds(venv.verified.seconds)}" if venv else "-",
                " ".join(variant.name for variant in listed.backend.variants),
                str(listed.installation.python) if listed.installation else "-",
            )
        )
    lines = columns(rows, "<<<<<><<<", across=across)
    for listed in backends:
        if listed.venv and not listed.uses_venv:
            lines.append(f"{listed.backend.name} has an environment that is not used: {listed.venv.folder}")
    return lines


def plan_screen(plan: InstallPlanned) -> list[str]:
    """What an installation is about to do."""
    requirements = plan.requirements
    about = f"about {size(requirements.bytes)}" if requirements.bytes else "of a size that is not known"
    packages = plural(len(requirements.pins), "package")
    return [
        f"{requirements.backend}: {packages} of {requirements.file.name} into {plan.root}",
        f"  {about}; {size(plan.free_bytes)} are free; Python {plan.version} of {plan.base}",
    ]


def outcome_screen(outcome: Outcome) -> str:
    """One sentence about one backend."""
    match outcome:
        case Installed(venv=venv, new=True):
            verified = venv.verified
            return (
                f"{venv.backend} {venv.version} is installed in {venv.folder}: {size(venv.bytes)}, made in"
                f" {seconds(venv.seconds)}; {verified.candidate} generated {plural(len(verified.tokens), 'token')}"
                f" ({' '.join(map(str, verified.tokens))}) with a tiny model"
            )
        case Installed(venv=venv):
            return f"{venv.backend} {venv.version} is installed already, in {venv.folder}: {size(venv.bytes)}"
        case Skipped():
            return f"{outcome.backend} is left out: {outcome.reason}"
        case Failed():
            return f"{outcome.backend} is not installed: {outcome.error.message}"
