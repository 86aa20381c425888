"""decant bench --json: every op of a LoRA step is there, every figure is finite and positive, and figures that follow from one another do.

python3 tests/e2e/bench.py [PROGRAM] [--device=NAME]: with --quick and 32 tokens, which an emulated card does in half a minute."""
import json
import math
import re
import sys

from common import check, main, succeed

DEVICE = next((a.split("=")[1] for a in sys.argv if a.startswith("--device=")), "cpu")
TOKENS = 32
# Shared by the float that JSON prints with 17 digits.
EXACT = 1e-9

ROWS = [r"^q o .*y = x W'$", r"^k v .*dx = dy W$", r"^gate up .*y = x W'$", r"^down .*dx = dy W$", r"^head .*y = x W'$", r"^head .*dx = dy W$",
        r"^u = x A'", r"^y \+= u B'", r"^du = dy B", r"^dB \+= dy' u", r"^dA \+= du' x", r"^dx \+= du A", r"^BF16 +64 rows", r"^Q4_0 +one row",
        r"tokens +forward$", r"tokens +backward$", r"^V 49152 +cross-entropy$", r"^V 151936 .*50 draws$", r"^norm .*forward$", r"^norm .*backward$",
        r"^rope, 9 heads", r"^SwiGLU .*forward$", r"^SwiGLU .*backward$", r"^embedding", r"^AdamW$", r"^norm of the gradients$", r"^head and loss$",
        r"^whole", r"^linear +\d+ calls", r"^linear_bwd", r"^attn +\d", r"^attn_bwd", r"^norm +\d", r"^norm_bwd", r"^rope +\d", r"^rope_bwd", r"^glu +\d",
        r"^glu_bwd", r"^embed +\d"]


def same(a, b, what):
    check(abs(a - b) <= EXACT * abs(b), f"{what}: {a} and {b}")


def numbers(value):
    if isinstance(value, dict):
        for x in value.values():
            yield from numbers(x)
    elif isinstance(value, list):
        for x in value:
            yield from numbers(x)
    elif isinstance(value, (int, float)):
        yield value


def check_row(row, bench):
    name = f"{row['group']}: {row['name']}"
    if row["name"] not in ("forward", "backward"):
        check("flops" in row or "bytes" in row, f"{name}: neither operations nor bytes")
    ceiling = 0
    for count, rate, share, peak in (("flops", "gflops", "of_peak", "peak_gflops"), ("bytes", "gbytes_per_second", "of_memory", "read_gbytes_per_second")):
        check((count in row) == (rate in row) == (share in row), f"{name}: {count}, {rate}, {share} are not together")
        if count in row:
            same(row[rate] * 1e9 * row["seconds"], row[count], f"{name}: {rate} times seconds is {count}")
            same(row[share] * bench[peak], row[rate], f"{name}: {share} of {peak} is {rate}")
            ceiling = max(ceiling, row[share])
    if ceiling:
        same(row["of_ceiling"], ceiling, f"{name}: of_ceiling is the larger share")


def check_step(bench):
    step = bench["step"]
    same(step["forward"] + step["head_and_loss"] + step["backward"] + step["update"], step["seconds"], "the parts of a step")
    same(step["tokens_per_second"] * step["seconds"], TOKENS, "tokens a second")
    parts = {row["name"].split(":")[0]: row for row in bench["rows"] if row["group"].startswith("a LoRA step")}
    kinds = [row for row in bench["rows"] if row["group"].endswith("kind of operation")]
    same(sum(row.get("flops", 0) for row in kinds) + parts["head and loss"]["flops"], parts["whole"]["flops"], "operations of the step")
    # The update reads and writes 32 bytes a parameter; zeroing its gradient is 4 more.
    update = parts["norm, clipping, AdamW"]["bytes"] / 32 * 36
    same(sum(row["bytes"] for row in kinds) + parts["head and loss"]["bytes"] + update, parts["whole"]["bytes"], "bytes of the step")


def every_figure():
    bench = json.loads(succeed("bench", "--quick", "--json", f"--tokens={TOKENS}", f"--device={DEVICE}", cwd=".", timeout=900).out)
    card = DEVICE.startswith("cuda")
    check(bench["tokens"] == TOKENS and bench["compute"] == ("BF16" if card else "F32"), f"computes {bench['tokens']} tokens in {bench['compute']}")
    for x in numbers(bench):
        check(math.isfinite(x) and x > 0, f"{x} among the figures")
    if not card:
        same(bench["fp32_gflops"], bench["peak_gflops"], "a CPU's own type is fp32")
    for row in bench["rows"]:
        check_row(row, bench)
    names = [row["name"] for row in bench["rows"]]
    for wanted in ROWS:
        check(any(re.search(wanted, name) for name in names), f"no row is like {wanted}")
    check_step(bench)
    print(f"        {len(names)} rows on {bench['device']}")


main([every_figure])
