"""`autobackend calibrate` with a real engine, then `select`."""

import json
import os
import re
from pathlib import Path

import pytest

from selector.model.spec import ModelSpec
from tests.selector.commands.calling import MODEL, SDPA, program, run


@pytest.mark.engine
def test_calibrate_then_select(tmp_path: Path) -> None:
    from calibration.checkpoints.random_weights import write_random_checkpoint

    config = json.loads((ModelSpec.read(MODEL).folder / "config.json").read_text())
    small = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    small |= {"num_key_value_heads": 2, "head_dim": 8, "vocab_size": 512}
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.json").write_text(json.dumps({**config, **small}))
    model = tmp_path / "model"
    model.mkdir()
    write_random_checkpoint(tmp_path / "config", model)

    given = ["--cache", tmp_path / "cache.db", "--workload", "pp16:tg40:b2"]
    words = ["calibrate", model, *given, "--backends", SDPA, "--rounds", 1]
    # Locks of devices lie in the temporary folder: a calibration of the user's own is no reason to fail.
    apart = {**os.environ, "TMPDIR": str(tmp_path)}
    done = program(*words, env=apart)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[:2] == ["candidate", "launches"]
    assert done.stdout.splitlines()[1].split()[:2] == [SDPA, "1"]
    assert re.search(rf"^{SDPA} answers pp16:tg40:b2 in .+; nothing else was measured\.$", done.stdout, re.MULTILINE)
    assert re.search(r"^candidates +transformers:sdpa$", done.stderr, re.MULTILINE)
    assert re.search(
        r"^probing the machine, once, .+\nit reads .+ GB/s; multiplies .+; took .+ s", done.stderr, re.MULTILINE
    )
    assert f"Next: autobackend select {model}" in done.stderr
    assert run("select", model, *given).stdout == f"{SDPA}\n"

    again = json.loads(program(*words, "--json", env=apart).stdout)
    assert (again["measured"], again["reused"], again["unmeasured"]) == (0, 1, [])
    assert again["selections"][0]["candidate"] == SDPA
