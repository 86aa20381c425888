"""What a LoRA step should take on an H100: each kernel's bytes and operations, the roofline, and what is expected of it.

usage: expected.py                        prints the tables that docs/gpu.md has
       expected.py --write docs/gpu.md    writes them there
       expected.py --check docs/gpu.md [DECANT]
           fails when they differ; with a program also when its bench counts other operations for the same step

Nothing here is measured. Bytes are what must cross the card's memory when no cache helps; operations count a multiply-add as two. A kernel takes
the longer of bytes / (SHARE_OF_MEMORY * MEMORY) and operations / (its share * FLOPS), and LAUNCH besides. The shares are what published kernels of the
same kind reach, cuBLAS for products, FlashAttention-2 for attention with mma.sync; they are the guess in this table."""
import argparse
import json
import pathlib
import subprocess
import sys

FLOPS, MEMORY = 989e12, 3.35e12  # H100 SXM: bf16 without sparsity, HBM3
SHARE_OF_MEMORY, LAUNCH = 0.85, 1.5e-6
SHARE = {"product": 0.65, "attention": 0.40, "attention backward": 0.30}
R = 16
CHUNK = 256 << 20  # bytes of logits, kernels/dev_cuda.cu

MODELS = {
    "SmolLM2-135M": dict(C=576, F=1536, L=30, H=9, K=3, D=64, V=49152),
    "Llama-3.2-1B": dict(C=2048, F=8192, L=16, H=32, K=8, D=64, V=128256),
}
TOKENS, DOCUMENT = 8192, 2048


class Step:
    """Rows of the table: name -> [calls, operations, bytes, seconds]; operations by kind of step, as bench counts them."""

    def __init__(self):
        self.rows, self.kinds = {}, {}

    def add(self, name, flops, size, share="product", calls=1, kind=None):
        seconds = max(flops / (SHARE[share] * FLOPS), size / (SHARE_OF_MEMORY * MEMORY)) + calls * LAUNCH
        row = self.rows.setdefault(name, [0, 0.0, 0.0, 0.0])
        for i, x in enumerate((calls, flops, size, seconds)):
            row[i] += x
        if kind:
            self.kinds[kind] = self.kinds.get(kind, 0) + flops

    def seconds(self):
        return sum(row[3] for row in self.rows.values())


def linear(s, T, n_in, n_out, residual=False):
    """Forward and backward of one linear whose weight is frozen; activations and weights bf16, A and B and their gradients fp32."""
    base, low_in, low_out = 2.0 * T * n_in * n_out, 2.0 * T * n_in * R, 2.0 * T * n_out * R
    weight = 2.0 * n_in * n_out
    s.add("products: y = x W'", base, weight + 2.0 * T * (n_in + n_out) + (4.0 * T * n_out if residual else 0), kind="linear")
    s.add("LoRA: u = x A', y += u B'", low_in + low_out, 2.0 * T * n_in + 4.0 * T * n_out + 4.0 * T * R, calls=4, kind="linear")
    s.add("products: dx = dy W", base, weight + 2.0 * T * (n_in + n_out), kind="linear_bwd")
    s.add("LoRA: du, dA, dB, dx += du A", 2 * low_in + 2 * low_out, 4.0 * T * n_out + 6.0 * T * n_in + 10.0 * T * R, calls=6, kind="linear_bwd")


def layer(s, m, T, rows, pairs):
    """rows: behind attention; fewer in the last layer."""
    C, F, q, kv = m["C"], m["F"], m["H"] * m["D"], m["K"] * m["D"]
    for n, out in ((T, q), (T, kv), (T, kv)):
        linear(s, n, C, out)
    linear(s, rows, q, C, residual=True)
    linear(s, rows, C, F)
    linear(s, rows, C, F)
    linear(s, rows, F, C, residual=True)
    s.add("norms, made again in the backward", 0, 2 * 4.0 * (T + rows) * C, calls=4)
    s.add("norms, backward", 0, 8.0 * (T + rows) * C, calls=2)
    s.add("rope, both ways", 0, 2 * 4.0 * T * (q + kv), calls=4)
    s.add("attention", 4.0 * pairs * q, 2.0 * T * (2 * q + 2 * kv), "attention", kind="attn")
    s.add("attention, backward", 10.0 * pairs * q, 2.0 * T * (4 * q + 4 * kv), "attention backward", calls=3, kind="attn_bwd")
    s.add("SwiGLU, made again in the backward", 0, 2 * 6.0 * rows * F, calls=2)
    s.add("SwiGLU, backward", 0, 10.0 * rows * F)


def step(m, T, document, chunk=CHUNK, targets=True):
    s = Step()
    M, C, V = T - T // document, m["C"], m["V"]
    pairs = T // document * document * (document + 1) / 2
    for i in range(m["L"]):
        layer(s, m, T, M if i == m["L"] - 1 else T, pairs)
    n = max(1, chunk // (4 * V))
    chunks = -(-M // n)
    s.add("head: logits", 2.0 * M * V * C, chunks * 2.0 * V * C + 4.0 * M * V, calls=chunks)
    s.add("loss and its gradient, in place", 0, 8.0 * M * V, calls=chunks)
    s.add("head: back to the hidden rows", 2.0 * M * V * C, chunks * 2.0 * V * C + 8.0 * M * V, calls=2 * chunks)
    s.add("embedding", 0, 4.0 * T * C)
    parameters = m["L"] * R * (3 * C + 2 * m["K"] * m["D"] + m["H"] * m["D"] + (m["H"] * m["D"] + C) + 2 * (C + m["F"]) + (m["F"] + C))
    s.add("AdamW, norm of the gradients, their zeroing", 0, 40.0 * parameters, calls=4)
    return s, n


def thousands(x):
    return f"{x:,.0f}"


def table(name, m):
    s, n = step(m, TOKENS, DOCUMENT)
    lines = [f"### {name}, {TOKENS:,} tokens a step in documents of {DOCUMENT:,}, r = {R} on all linears", "",
             "| kernel | launches | GFLOP | MB | at the roofline, µs | expected, µs | bound by |", "|---|---|---|---|---|---|---|"]
    for row, (calls, flops, size, seconds) in s.rows.items():
        roof = max(flops / FLOPS, size / MEMORY)
        bound = "arithmetic" if flops / FLOPS > size / MEMORY else "memory"
        lines.append(f"| {row} | {thousands(calls)} | {thousands(flops / 1e9) if flops else ''} | {thousands(size / 1e6)} | {thousands(roof * 1e6)} | "
                     f"{thousands(seconds * 1e6)} | {bound} |")
    total = [sum(row[i] for row in s.rows.values()) for i in range(4)]
    roof = sum(max(flops / FLOPS, size / MEMORY) for _, flops, size, _ in s.rows.values())
    lines.append(f"| **all** | {thousands(total[0])} | {thousands(total[1] / 1e9)} | {thousands(total[2] / 1e6)} | {thousands(roof * 1e6)} | "
                 f"**{thousands(total[3] * 1e6)}** | |")
    narrow, rows = step(m, TOKENS, DOCUMENT, 32 << 20)
    lines += ["", f"Expected: {total[3] * 1e3:.1f} ms a step, **{thousands(TOKENS / total[3])} tokens a second**; the head works in chunks of {n} rows (256 MiB of logits); "
              f"with {rows} rows, as a CPU's caches want it, it would be {narrow.seconds() * 1e3:.1f} ms.", ""]
    return lines


def tables():
    lines = []
    for name, m in MODELS.items():
        lines += table(name, m)
    return "\n".join(lines)


def check_counts(program):
    """bench's own step: 512 tokens in one document, six layers with --quick."""
    done = subprocess.run([program, "bench", "--quick", "--json", "--device", "cpu"], capture_output=True, text=True, check=True)
    rows = {row["name"].split()[0]: row for row in json.loads(done.stdout)["rows"] if row["group"].endswith("kind of operation")}
    s, _ = step(dict(MODELS["SmolLM2-135M"], L=6), 512, 512)
    wrong = []
    for kind, flops in s.kinds.items():
        theirs = rows[kind]["gflops"] * rows[kind]["seconds"] * 1e9
        print(f"{kind:12} {flops / 1e9:9.3f} GFLOP here, {theirs / 1e9:9.3f} counted by bench")
        if abs(theirs / flops - 1) > 1e-3:
            wrong.append(kind)
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", type=pathlib.Path)
    parser.add_argument("--check", type=pathlib.Path)
    parser.add_argument("program", nargs="?")
    o = parser.parse_args()
    if not o.write and not o.check:
        print(tables())
        return 0
    path = o.write or o.check
    text = path.read_text()
    begin, end = "<!-- bench/expected.py writes this -->\n", "<!-- to here -->"
    before, rest = text.split(begin)
    made = before + begin + tables() + end + rest.split(end)[1]
    if o.write:
        path.write_text(made)
        return 0
    if made != text:
        print(f"{path} is not what bench/expected.py says now: bench/expected.py --write {path}")
        return 1
    if o.program and (wrong := check_counts(o.program)):
        print("counted otherwise by decant bench:", *wrong)
        return 1
    return 0


sys.exit(main())
