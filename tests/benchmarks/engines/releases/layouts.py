"""Small files in the form of those that an engine's releases have."""

from benchmarks.engines.releases.metadata import METADATA

PLAIN = {METADATA: "Metadata-Version: 2.1\nName: engine\n"}

SUPPORTED_MODELS = """
from engine import get_logger
SUPPORTED_ARCHS = dict(
    # the first
    LlamaForCausalLM='llama',
    OtherForCausalLM=False,
)
def is_supported(arch):
    return arch in SUPPORTED_ARCHS or arch == 'ElsewhereForCausalLM'
"""
CONVERTER = """
def get_tm_config(quant_method, other):
    if quant_method == 'awq':
        assert other == 'gemm'
    elif quant_method in ('gptq', 'fp8'):
        pass
    else:
        assert 0
"""
MODULE_MAP = """
PATH = 'engine.models'
MODULE_MAP = dict()
ASCEND_MODULE_MAP = dict()
MODULE_MAP.update({
    'LlamaForCausalLM': f'{PATH}.llama.LlamaForCausalLM',
})
MODULE_MAP.update({'Qwen3ForCausalLM':
    f'{PATH}.qwen3.Qwen3ForCausalLM'})
ASCEND_MODULE_MAP.update({'NpuForCausalLM': f'{PATH}.npu.Npu'})
"""
REMOVED = "REMOVED_MODEL_MAP = {\n    'QWenLMHeadModel': 'Qwen',\n}\n"
LINEAR = """
def build_linear(quant_config):
    quant_method = quant_config['quant_method']
    if quant_method == 'awq':
        return 1
    if quant_method == 'smooth_quant':
        return 2
"""
CONFIG = """
class QuantizationConfig:
    @classmethod
    def from_config(cls, quant_config):
        quant_method = quant_config['quant_method']
        if quant_method == 'awq':
            pass
        elif quant_method == 'fp8':
            pass
"""
