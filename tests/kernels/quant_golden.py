"""Makes quant_golden.h: what gguf-py unpacks from fixed blocks, and packs from fixed floats.
usage: python quant_golden.py > quant_golden.h   (in an interpreter that has gguf and numpy)

Blocks and floats come from the generator that test_quant.c has as well; only hashes (FNV-1a, 64 bits, of the little-endian bytes) and
the first values are kept."""
from importlib.metadata import version

import numpy as np
from gguf import GGMLQuantizationType as Q, quants

BLOCKS = 64  # of 32 elements, or 8 of 256
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2],
          "Q5_K": [0, 2], "Q6_K": [208]}


class Draw:
    def __init__(self):
        self.state = 7

    def bits(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return self.state >> 32


def blocks(name):
    """Random bytes; the top bit of a half's exponent is cleared, so that scales are finite and below 2."""
    draw, size = Draw(), quants.GGML_QUANT_SIZES[Q[name]][1]
    count = BLOCKS if quants.GGML_QUANT_SIZES[Q[name]][0] == 32 else BLOCKS // 8
    data = np.array([draw.bits() & 255 for _ in range(count * size)], dtype=np.uint8).reshape(count, size)
    for at in HALVES[name]:
        data[:, at + 1] &= 0xBF
    return data


def floats():
    """Uniform in [-1, 1), each block of 32 at another power of two; then all equal, all zero, halves that round both ways."""
    draw = Draw()
    x = np.array([(draw.bits() - 2**31) / 2**31 for _ in range(32 * BLOCKS)], dtype=np.float32).reshape(BLOCKS, 32)
    x *= np.exp2(np.arange(BLOCKS, dtype=np.float32) % 40 - 20)[:, None]
    x[1], x[2] = -0.5, 0
    x[3] = (np.arange(32, dtype=np.float32) - 16) / 2
    x[3, 0] = 127
    return x.reshape(1, -1)


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data.tobytes():
        h = (h ^ b) * 0x100000001B3 % 2**64
    return h


print(f"/* tests/kernels/quant_golden.h -- made by quant_golden.py with gguf {version('gguf')}, numpy {version('numpy')}. */")
print("static const golden_read golden_reads[] = {")
for name in HALVES:
    with np.errstate(all="ignore"):
        y = quants.dequantize(blocks(name), Q[name]).astype("<f4")
    first = ", ".join(float(v).hex() + "f" for v in y.ravel()[:3])
    print(f"    {{DC_{name}, 0x{fnv(y):016x}u, {{{first}}}}},")
print("};\n\nstatic const golden_write golden_writes[] = {")
for name in ("Q8_0", "Q4_0", "F16", "BF16"):
    with np.errstate(over="ignore"):
        y = quants.quantize(floats(), Q[name])
    first = ", ".join(f"0x{b:02x}" for b in y.view(np.uint8).ravel()[:6])
    print(f"    {{DC_{name}, 0x{fnv(y):016x}u, {{{first}}}}},")
print("};")
