"""What a LoRA step should take on an H100: each kernel's bytes and operations, the roofline, and what is expected of it.

usage: expected.py                        prints the tables that docs/gpu.md has
       expected.py --write docs/gpu.md    writes them there
       expected.py --check docs/gpu.md [PROGRAM]
           fails when they differ; with decant-emulated also when its bench counts other operations or bytes for the same shapes

Nothing here is measured. Bytes are operands read and results written, which is what crosses the card's memory when no cache helps; operations count
a multiply-add as two. A kernel takes the longer of bytes / (SHARE_OF_MEMORY * MEMORY) and operations / (its share * FLOPS), and LAUNCH for each
launch. The shares are what published kernels of the same kind reach, cuBLAS for products, FlashAttention-2 for attention with mma.sync; they
are the guess in this table. Other programs' figures are their own, published ones."""
import argparse
import json
import pathlib
import re
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


def seconds(flops, size, share="product", launches=1):
    return max(flops / (SHARE[share] * FLOPS), size / (SHARE_OF_MEMORY * MEMORY)) + launches * LAUNCH


class Step:
    """Rows of the table: name -> [launches, operations, bytes, roofline, seconds]; [calls, operations, bytes] by kind of step, as bench counts them."""

    def __init__(self):
        self.rows, self.kinds = {}, {}

    def add(self, name, flops, size, share="product", launches=1, kind=None, calls=1, detour=0):
        """detour: bytes of the implementation's own, which neither the roofline nor bench has."""
        row = self.rows.setdefault(name, [0, 0.0, 0.0, 0.0, 0.0])
        roof = max(flops / FLOPS, size / MEMORY)
        for i, x in enumerate((launches, flops, size + detour, roof, seconds(flops, size + detour, share, launches))):
            row[i] += x
        if kind:
            sums = self.kinds.setdefault(kind, [0, 0.0, 0.0])
            for i, x in enumerate((calls, flops, size)):
                sums[i] += x

    def total(self):
        return [sum(row[i] for row in self.rows.values()) for i in range(5)]


def linear(s, T, n_in, n_out, residual=False, dx=1, joint=False):
    """Forward and backward of one linear whose weight is frozen; activations, weights and what products read of A and B bf16, gradients fp32. dx: 0
    where nothing below is trained, 2 where it is added to what is there. `joint`: u, dA and what they add to dx are joint_deltas'."""
    base, low_in, low_out = 2.0 * T * n_in * n_out, 0 if joint else 2.0 * T * n_in * R, 2.0 * T * n_out * R
    weight, x, y, u, A, B = 2.0 * n_in * n_out, 2.0 * T * n_in, 2.0 * T * n_out, 2.0 * T * R, 2.0 * R * n_in, 2.0 * R * n_out
    alone = not joint
    s.add("products: y = x W'", base, weight + x + y + (3 * y if residual else 0), launches=2 if residual else 1, kind="linear")
    s.add("LoRA: u = x A', y += u B'", low_in + low_out, alone * (x + A + u) + u + B + 2 * y, launches=1 + alone, kind="linear", calls=0)
    if dx:
        s.add("products: dx = dy W", base, weight + y + dx * x, kind="linear_bwd", calls=0)
    both = alone and dx
    s.add("LoRA: dB, du, dA, dx += du A", (1 + (dx > 0)) * low_in + 2 * low_out,
          2 * y + (2 + alone) * u + 5 * B + alone * (x + 4 * A) + (u + A + 2 * x if both else 0), launches=2 + alone + (1 if both else 0), kind="linear_bwd")


def joint_deltas(s, T, n_in, n, dx):
    """u = x A' of n linears at once, dA, and what they add to dx."""
    x, u, A, low = 2.0 * T * n_in, 2.0 * T * n * R, 2.0 * n * R * n_in, 2.0 * T * n_in * n * R
    s.add("LoRA: u = x A', y += u B'", low, x + A + u, kind="joint")
    s.add("LoRA: dB, du, dA, dx += du A", low * (2 if dx else 1), u + x + 4 * A + (u + A + 2 * x if dx else 0), launches=2 if dx else 1, kind="joint_bwd")


def layer(s, m, T, rows, pairs, first):
    """rows: behind attention; fewer in the last layer. Below the first layer's attention nothing is trained."""
    C, F, q, kv, H, K = m["C"], m["F"], m["H"] * m["D"], m["K"] * m["D"], m["H"], m["K"]
    for out, dx in ((q, 2), (kv, 2), (kv, 1)):
        linear(s, T, C, out, dx=0 if first else dx, joint=True)
    joint_deltas(s, T, C, 3, not first)
    linear(s, rows, q, C, residual=True)
    linear(s, rows, C, F, dx=2, joint=True)
    linear(s, rows, C, F, joint=True)
    joint_deltas(s, rows, C, 2, True)
    linear(s, rows, F, C, residual=True)
    for n, backward in ((T, not first), (rows, True)):
        for _ in range(2):
            norm(s, n, C)
        if backward:
            norm(s, n, C, backward=3)
    for heads in (H, K):
        for kind in ("rope", "rope_bwd"):
            s.add("rope, both ways", 0, 4.0 * T * heads * m["D"] + 4.0 * T, kind=kind)
    s.add("attention", 4.0 * pairs * q, 2.0 * T * (2 * q + 2 * kv) + 4.0 * T * H, "attention", kind="attn")
    s.add("attention, backward", 10.0 * pairs * q, 2.0 * T * (4 * q + 4 * kv) + 4.0 * T * H, "attention backward",
          launches=5 if H > K else 3, kind="attn_bwd", detour=8.0 * T * q if H > K else 0)  # dk and dv of each head, written and summed
    for _ in range(2):
        s.add("SwiGLU, made again in the backward", 0, 6.0 * rows * F, kind="glu")
    s.add("SwiGLU, backward", 0, 10.0 * rows * F, kind="glu_bwd")


def norm(s, rows, C, backward=0):
    """backward: 2, or 3 where it is added to what is there."""
    if backward:
        s.add("norms, backward", 0, 2.0 * rows * C * (1 + backward) + 4.0 * rows + 4.0 * C, kind="norm_bwd")
    else:
        s.add("norms, made again in the backward", 0, 4.0 * rows * C + 4.0 * rows + 4.0 * C, kind="norm")


def head(s, C, V, M, chunk):
    """Logits, loss, and back to the hidden rows, by chunks; the gradient of the logits is fp32 and becomes bf16 for the product."""
    n = max(1, chunk // (4 * V))
    chunks = -(-M // n)
    weight, logits, hidden = chunks * 2.0 * V * C, 4.0 * M * V, 2.0 * M * C
    s.add("head: logits", 2.0 * M * V * C, weight + hidden + logits, launches=chunks, kind="head")
    s.add("loss and its gradient, in place", 0, 2 * logits, launches=chunks, kind="head")
    s.add("head: back to the hidden rows", 2.0 * M * V * C, weight + logits + hidden, launches=2 * chunks, kind="head", detour=logits)
    return n


def parameters(m):
    C, F, q, kv = m["C"], m["F"], m["H"] * m["D"], m["K"] * m["D"]
    return m["L"] * R * ((C + q) + 2 * (C + kv) + (q + C) + 2 * (C + F) + (F + C))


def step(m, T, document, chunk=CHUNK):
    s = Step()
    M, C, L, q = T - T // document, m["C"], m["L"], m["H"] * m["D"]
    pairs = T // document * document * (document + 1) / 2
    for i in range(L):
        layer(s, m, T, M if i == L - 1 else T, pairs, i == 0)
    norm(s, M, C)
    norm(s, M, C, backward=2)
    for width in (q, C):
        s.add("rows with a loss, there and back", 0, 4.0 * M * width + 4.0 * M, kind="gather")
        s.add("rows with a loss, there and back", 0, 6.0 * M * width + 4.0 * M + 2.0 * T * width, launches=2, kind="gather_bwd")
    n = head(s, C, m["V"], M, chunk)
    s.add("embedding", 0, 4.0 * T * C + 4.0 * T, kind="embed")
    s.add("AdamW and the norm of the gradients", 0, 32.0 * parameters(m), launches=3, kind="update")
    s.add("gradients zeroed, A and B narrowed", 0, 10.0 * parameters(m), launches=2)
    return s, n


# ---- the page ----

def thousands(x):
    return f"{x:,.0f}"


def table(name, m):
    s, n = step(m, TOKENS, DOCUMENT)
    lines = [f"### {name}", "", f"{TOKENS:,} tokens a step in documents of {DOCUMENT:,}, r = {R} on all linears, {parameters(m) / 1e6:.1f} million parameters.", "",
             "| kernel | launches | GFLOP | MB | at the roofline, µs | expected, µs | of the step | bound by |", "|---|---|---|---|---|---|---|---|"]
    total = s.total()
    for row, (launches, flops, size, roof, took) in s.rows.items():
        bound = "launches" if launches * LAUNCH > took / 2 else "arithmetic" if flops / FLOPS > size / MEMORY else "memory"
        lines.append(f"| {row} | {thousands(launches)} | {thousands(flops / 1e9) if flops else ''} | {thousands(size / 1e6)} | {thousands(roof * 1e6)} | "
                     f"{thousands(took * 1e6)} | {100 * took / total[4]:.0f} % | {bound} |")
    lines.append(f"| **all** | {thousands(total[0])} | {thousands(total[1] / 1e9)} | {thousands(total[2] / 1e6)} | {thousands(total[3] * 1e6)} | "
                 f"**{thousands(total[4] * 1e6)}** | | |")
    narrow, rows = step(m, TOKENS, DOCUMENT, 64 << 20)
    lines += ["", f"Expected: {total[4] * 1e3:.1f} ms a step, **{thousands(TOKENS / total[4])} tokens a second**, {100 * total[1] / total[4] / FLOPS:.0f} % of the card's bf16 "
              f"rate. The head works in chunks of {n:,} rows (256 MiB of logits); with {rows:,} rows, as a CPU's caches want it, a step would be "
              f"{narrow.total()[4] * 1e3:.1f} ms.", ""]
    return lines


def head_alone(C, V, M):
    s = Step()
    head(s, C, V, M, CHUNK)
    return s.total()


def like_for_like(C, teacher, V, M):
    """Student's head trained, teacher's logits made beside: what Liger's row does, with a dense divergence in place of JSD."""
    took = head_alone(C, V, M)[4]
    chunks = -(-M // (CHUNK // (4 * V)))
    parts = [(2.0 * M * V * teacher, chunks * 2.0 * V * teacher + 4.0 * M * V + 2.0 * M * teacher),  # the teacher's logits
             (2.0 * M * V * C, chunks * 8.0 * V * C + 2.0 * M * V + 2.0 * M * C),  # dW in fp32, added to by each chunk
             (0.0, 4.0 * M * V)]  # the loss reads the teacher's logits too
    for flops, size in parts:
        took += seconds(flops, size, launches=chunks)
    return took


def shares(name):
    s, _ = step(MODELS[name], TOKENS, DOCUMENT)
    total = s.total()[4]
    return {row: 100 * took / total for row, (*_, took) in s.rows.items()}, s.total()


def comparisons():
    ours, whole = head_alone(2048, 128256, 8192)[4] * 1e3, like_for_like(2048, 4096, 128256, 8192) * 1e3
    lora = {name: sum(v for row, v in shares(name)[0].items() if row.startswith("LoRA")) for name in MODELS}
    rate = {name: 100 * shares(name)[1][1] / shares(name)[1][4] / FLOPS for name in MODELS}
    # GPT-2 1.5B: operations a token of all its weights' training, and of LoRA's; causal attention forward is 2 L C T, 3.5 times that with its backward.
    small, large = MODELS
    attention = 3.5 * 2 * 48 * 1600 * 1024
    llmc = 1048576 / 2.80 / 8
    llmc_rate, lora_tokens = 100 * llmc * (6 * 1.56e9 + attention) / FLOPS, rate[large] / 100 * FLOPS / (4 * 1.56e9 + attention)
    return [
        "| work | published | expected of decant | what makes the difference |", "|---|---|---|---|",
        f"| Liger: head and distillation loss, chunked JSD, forward and backward; H100, 8,192 rows, V = 128,256, student 2,048 wide, teacher 4,096 | 60.7 ms, 11.1 GB (torch: "
        f"213 ms, 68.9 GB) | {ours:.1f} ms from stored targets with a frozen head; the same work, teacher beside and head trained: {whole:.1f} ms (KL, decant has no JSD) | "
        "Ahead by leaving work out: the teacher's logits come from the store, not from a product (8.6 of 21.5 TFLOP), and LoRA's head has no weight gradient (4.3 TFLOP). For "
        "the same work the gain is the guess of 65 % for products, where Liger reaches 36 %, and is worth no more than that guess |",
        f"| Liger: fused_linear_jsd, both 4,096 wide, 8,192 rows | 183 ms, 8.7 GB (torch: 195 ms, 56.4 GB) | {like_for_like(4096, 4096, 128256, 8192) * 1e3:.1f} ms | Its logits are one "
        "fp32 buffer of all rows; decant's are a chunk of 256 MiB that the loss overwrites with the gradient |",
        "| Unsloth: LoRA step | no figure for these models; its README claims twice the speed of HF with FlashAttention-2 and 70 % less memory (8B, 4 bits, H100) | the tables above | "
        "The same savings: no weight gradient of the base, norms and gated products made again, gradients where values were. **Not ahead** in the LoRA products: "
        f"Unsloth's are fused into one hand-written backward; decant's read x once for q, k and v and once for gate and up, and y anew, {lora[small]:.0f} % of {small}'s expected step and "
        f"{lora[large]:.0f} % of {large}'s |",
        f"| llm.c: GPT-2 1.5B, all weights, 8 H100, 1,048,576 tokens in 2.80 s | {thousands(llmc)} tokens a second and card, {llmc_rate:.0f} % of the bf16 rate | {large} with LoRA "
        f"uses {rate[large]:.0f} %, {small} {rate[small]:.0f} %; a LoRA step of that GPT-2 at {large}'s share would be {thousands(lora_tokens)} tokens a second | Other work: a frozen base needs "
        "4 operations a parameter and token in place of 6, and no optimizer over it; that alone is the lead. By use of the card decant is **behind**: LoRA's products, and at a width "
        "of 576 all of them, are bound by memory |",
        ""]


def page():
    lines = [f"Assumed of an H100 SXM: {FLOPS / 1e12:.0f} TFLOP/s in bf16 without sparsity, {MEMORY / 1e12:.2f} TB/s. Of these products reach {100 * SHARE['product']:.0f} %, attention "
             f"{100 * SHARE['attention']:.0f} % and {100 * SHARE['attention backward']:.0f} % backward, memory {100 * SHARE_OF_MEMORY:.0f} %; a launch costs {LAUNCH * 1e6:.1f} µs. Gradients of "
             "parameters are zeroed, summed and applied once a step. MB are what crosses memory when no cache helps, detours of the implementation (dk and dv by heads of q, "
             "logits' gradients unpacked to bf16) included; the roofline is without them.", ""]
    for name, m in MODELS.items():
        lines += table(name, m)
    lines += ["### Beside published figures", ""] + comparisons()
    return "\n".join(lines)


# ---- against bench ----

def kernels(T, rows):
    """bench's rows of single kernels on a card: pattern -> (operations, bytes)."""
    C, F, V, H, K, D, n = 576, 1536, 49152, 9, 3, 64, 1 << 20
    found = {}
    for what, n_in, n_out in (("q o", C, C), ("k v", C, K * D), ("gate up", C, F), ("down", F, C)):
        found[f"{what} .*(y = x W'|dx = dy W)$"] = 2.0 * T * n_in * n_out, 2.0 * (T * n_in + n_in * n_out + T * n_out)
        found[f"{what} .*dW = dy' x$"] = 2.0 * T * n_in * n_out, 2.0 * (T * n_in + T * n_out) + 8.0 * n_in * n_out
    found["head .*"] = 2.0 * rows * C * V, 2.0 * (rows * C + C * V) + 4.0 * rows * V
    found["u = x A'.*"] = 2.0 * T * C * R, 2.0 * T * (C + R) + 2.0 * C * R
    found["y \\+= u B'.*"] = 2.0 * T * F * R, 2.0 * T * (2 * F + R) + 2.0 * F * R
    found["du = dy B.*"] = 2.0 * T * F * R, 2.0 * T * (F + R) + 2.0 * F * R
    found["dB \\+= dy' u.*"] = 2.0 * T * F * R, 2.0 * T * (F + R) + 8.0 * F * R
    found["dA \\+= du' x.*"] = 2.0 * T * C * R, 2.0 * T * (C + R) + 8.0 * C * R
    found["dx \\+= du A.*"] = 2.0 * T * C * R, 2.0 * T * (2 * C + R) + 2.0 * C * R
    found["V 49152 .*"] = 0, 8.0 * rows * V
    found["norm of 576 .*forward"] = 0, 4.0 * T * C
    found["norm of 576 .*backward"] = 0, 6.0 * T * C
    found["rope, 9 .*"] = 0, 4.0 * T * H * D
    found["SwiGLU .*forward"] = 0, 6.0 * T * F
    found["SwiGLU .*backward"] = 0, 10.0 * T * F
    found["embedding.*"] = 0, 4.0 * T * C
    found["AdamW"] = 0, 28.0 * n / 4
    return found


def check_counts(program):
    """bench's own step: one document, six layers with --quick; every kind of step, and every kernel alone."""
    T = 32
    done = subprocess.run([program, "bench", "--quick", "--json", "--device", "cuda", "--tokens", str(T)], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)["rows"]
    m = dict(MODELS["SmolLM2-135M"], L=6)
    s, _ = step(m, T, T)
    wrong, n = [], 0

    def compare(what, ours, theirs):
        nonlocal n
        n += 1
        if any(abs(a - b) > 1e-9 * max(abs(a), abs(b)) for a, b in zip(ours, theirs)):
            wrong.append(f"{what}: here {', '.join(f'{x:.0f}' for x in ours)}; bench {', '.join(f'{x:.0f}' for x in theirs)}")

    theirs = {}
    for row in rows:
        counts = row.get("flops", 0), row.get("bytes", 0)
        if row["group"].endswith("kind of operation"):
            name, calls = re.match(r"(\w+) +(\d+) calls", row["name"]).groups()
            theirs[name] = int(calls), *counts
        elif row["name"] == "head and loss":
            compare("head and loss", s.kinds["head"][1:], counts)
        elif row["name"] == "norm, clipping, AdamW":
            compare("update", s.kinds["update"][1:], counts)
        else:
            for pattern, ours in kernels(T, T).items():
                if re.fullmatch(pattern, row["name"]):
                    compare(row["name"], ours, counts)
    for kind in sorted((s.kinds.keys() | theirs.keys()) - {"head", "update"}):
        compare(kind, s.kinds.get(kind, (0, 0, 0)), theirs.get(kind, (0, 0, 0)))
    print("\n".join(wrong) if wrong else f"expected: {n} counts of operations and bytes as decant bench has them")
    return bool(wrong)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", type=pathlib.Path)
    parser.add_argument("--check", type=pathlib.Path)
    parser.add_argument("program", nargs="?")
    o = parser.parse_args()
    if not o.write and not o.check:
        print(page())
        return 0
    path = o.write or o.check
    text = path.read_text()
    begin, end = "<!-- bench/expected.py writes this -->\n", "<!-- to here -->"
    before, rest = text.split(begin)
    made = before + begin + page() + end + rest.split(end)[1]
    if o.write:
        path.write_text(made)
        return 0
    if made != text:
        print(f"{path} is not what bench/expected.py says now: bench/expected.py --write {path}")
        return 1
    return check_counts(o.program) if o.program else 0


sys.exit(main())
