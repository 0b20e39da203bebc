"""The fastest number format that the hardware computes natively."""

from typing import Literal

import torch


def fastest_precision() -> Literal["bf16-mixed", "32-true"]:
    """Return bf16-mixed on CUDA from Ampere on and on CPUs with AMX or AVX-512 BF16, 32-true elsewhere.

    bf16 keeps float32's range, so no loss scaling is needed; on a CPU without these instructions it is emulated and
    slower than float32.
    """
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if torch.backends.mps.is_available():
        return "32-true"
    capabilities = torch.cpu.get_capabilities()
    return "bf16-mixed" if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else "32-true"
