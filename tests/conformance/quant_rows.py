"""Row readers and writers against gguf-py, bit for bit. usage: quant_rows.py KERNEL_TOOL

Reading: every readable type, a million random elements with finite scales. Writing: Q8_0, Q4_0, F16, BF16 from floats over many powers of
two, ties and equal blocks included."""
import sys

import judges

judges.enter("numpy", "gguf")

import subprocess

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q, quants

TOOL = sys.argv[1]
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2],
          "Q5_K": [0, 2], "Q6_K": [208]}
rng = np.random.default_rng(3)
np.seterr(all="ignore")


def tool(*args, data):
    return subprocess.run([TOOL, *map(str, args)], input=data.tobytes(), stdout=subprocess.PIPE, check=True).stdout


def same(what, got, want):
    differ = np.flatnonzero(got != want)
    assert differ.size == 0, f"{what}: {differ.size} differ, the first at {differ[0]}: {got[differ[0]]} for {want[differ[0]]}"
    print(f"{what}: {got.size} equal")


def random_rows(name):
    block, size = gguf.GGML_QUANT_SIZES[Q[name]]
    rows = rng.integers(0, 256, ((1 << 20) // block, size), dtype=np.uint8)
    for at in HALVES.get(name, []):
        rows[:, at + 1] &= 0xBF
    if name in ("F16", "BF16"):
        values = rows.view("<u2")
        exponent = 0x7C00 if name == "F16" else 0x7F80
        values[(values & exponent) == exponent] = 0
    return rows


def floats():
    x = rng.uniform(-1, 1, (1 << 15, 32)).astype(np.float32)
    x *= np.exp2(rng.integers(-24, 15, (x.shape[0], 1))).astype(np.float32)
    x[::100] = 0
    x[1::100] = x[1::100, :1]
    x[2::100] = (rng.integers(-254, 255, x[2::100].shape) / 2).astype(np.float32)
    x[2::100, 0] = 127
    return x.reshape(1, -1)


for features in (0, 1):
    for name in ["F16", "BF16", *HALVES]:
        rows = random_rows(name)
        want = quants.dequantize(rows.view("<f2") if name == "F16" else rows, Q[name]).astype("<f4").ravel()
        got = np.frombuffer(tool("read", name, want.size, features, data=rows), dtype="<u4")
        same(f"read {name} path {features}", got, want.view("<u4"))
    x = floats()
    for name in ("Q8_0", "Q4_0", "F16", "BF16"):
        want = quants.quantize(x, Q[name]).view(np.uint8).ravel()
        same(f"write {name} path {features}", np.frombuffer(tool("write", name, x.size, features, data=x), dtype=np.uint8), want)
