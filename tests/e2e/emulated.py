"""The whole program with `device: cuda`, on the emulated card: every stage beside the CPU's, a kill, two ranks.

python3 tests/e2e/emulated.py [PROGRAM] [--quickstart]: decant-emulated, in which both devices are; or, on a machine with a card, decant with CUDA.

Where the bounds come from. The card's activations are bf16: storing one rounds it by at most u = 2^-9, about eight are stored one behind another in a
layer, and roundings add up like a random walk, so that with L layers hidden states, logits and gradients are off by a share of about
e = u sqrt(8 L) = 0.8 % (L = 2).
- A token's loss is off by about e times the spread of its logits (below 1 in these toys), a mean over n tokens by sqrt(n) less: five
  times that is the bound. Seen: an eighth of it.
- AdamW divides by a gradient's size. An element's step is off by e / |g| of itself, at most by twice itself; over normally distributed g the
  mean square of that is 3.2 e, so an adapter's B, which begins at 0, is off by at most sqrt(3.2 e) = 16 %. Seen: 2 %. A wrong sign or
  a missing term scores about 100 %.
- A gradient's norm is off by 2 e at most. Seen: a sixth of it; with a gated unit's backward that forgets the slope: twice the bound."""
import json
import math
import signal
import sys
import time

from common import PROGRAM, ROOT, Folder, check, differing, environment, main, make_data, start, succeed, write_recipe
from trained import distance, metrics, no_mpi, ranks_agree, tensors



def off(layers):
    return 2**-9 * math.sqrt(8 * layers)


def same_losses(a, b, stage, e):
    """Worst of |difference| / bound over the steps; grad_norm is a norm of something that is off by e."""
    worst = 0
    check(len(a) == len(b) and a, f"{stage}: {len(a)} and {len(b)} steps")
    for x, y in zip(a, b):
        n = x["trained_tokens"]
        check(n == y["trained_tokens"], f"{stage}, step {x['step']}: {n} and {y['trained_tokens']} trained tokens")
        for key in ("loss", "ce"):
            share = abs(x[key] - y[key]) / (5 * e / math.sqrt(n))
            check(share <= 1, f"{stage}, step {x['step']}: {key} {x[key]} on the CPU, {y[key]} on the card, {share:.1f} times the bound")
            worst = max(worst, share)
        share = abs(x["grad_norm"] / y["grad_norm"] - 1) / (2 * e)
        check(share <= 1, f"{stage}, step {x['step']}: gradient norm {x['grad_norm']} on the CPU, {y['grad_norm']} on the card")
    return worst


def adapter_B(out, stage):
    found = tensors(out / stage / "adapter/adapter_model.safetensors")
    return {name: x for name, x in found.items() if "lora_B" in name}


def same_trainings(folder, e, adapters):
    for stage in ("teacher/train", "train", "train/control"):
        worst = same_losses(metrics(folder / "cpu", stage)[0], metrics(folder / "card", stage)[0], stage, e)
        print(f"        {stage}: losses within {worst:.2f} of the bound")
    for stage in adapters:
        whole, one = distance(adapter_B(folder / "cpu", stage), adapter_B(folder / "card", stage))
        check(whole <= math.sqrt(3.2 * e), f"{stage}: B differs by {whole:.3f}")
        print(f"        {stage}: B differs by {whole:.3f}, that of one linear at most by {one:.3f}", flush=True)


def quickstart():
    """configs/quickstart.yaml itself, with fewer steps and without its questions, which an emulated card answers at a word a second."""
    fewer = ("teacher.train.max_steps=12", "train.max_steps=8", "train.repeats=1", "eval.generate=[]")
    with Folder() as folder:
        for device, out in (("cpu", "cpu"), ("cuda", "card")):
            succeed("run", ROOT / "configs/quickstart.yaml", f"output_dir={out}", f"device={device}", *fewer, cwd=folder, timeout=1500)
        # The teacher's targets alone teach here, and it has learnt next to nothing: a gradient q - p of near equals, whose error is no share of it.
        same_trainings(folder, off(3), ("train/control",))
        for name in ("card-Q8_0", "card-Q4_0"):
            check((folder / f"card/export/{name}.gguf").is_file(), f"no {name}")


def every_stage():
    """Teacher from scratch, targets, distillation, control, merge, exports, evaluation."""
    with Folder() as folder:
        write_recipe(folder, "cpu.json", output_dir="cpu", device="cpu")
        write_recipe(folder, "card.json", output_dir="card", device="cuda")
        succeed("run", "cpu.json", cwd=folder)
        done = succeed("run", "card.json", cwd=folder, timeout=600)
        check(CARDS[0].split(",")[0] in done.err, "the first line does not name the card", done.err)
        same_trainings(folder, off(2), ("train", "train/control"))
        in_fp32(folder)
        killed(folder)


def in_fp32(folder):
    """The same card without bf16: what is left is the order of sums. Losses to the eight digits that are printed were seen, and B within 5e-7."""
    write_recipe(folder, "exact.json", output_dir="exact", device="cuda")
    succeed("run", "exact.json", cwd=folder, timeout=600, env=environment(DC_CUDA_TYPE="f32"))
    for stage in ("teacher/train", "train", "train/control"):
        for x, y in zip(metrics(folder / "cpu", stage)[0], metrics(folder / "exact", stage)[0], strict=True):
            for key in ("loss", "ce", "grad_norm"):
                check(abs(x[key] / y[key] - 1) <= 1e-5, f"{stage}, step {x['step']}: {key} {x[key]} on the CPU, {y[key]} on the card in fp32")
    for stage in ("train", "train/control"):
        whole, one = distance(adapter_B(folder / "cpu", stage), adapter_B(folder / "exact", stage))
        check(whole <= 1e-4, f"{stage}: B differs by {whole:.1e} in fp32")
        print(f"        {stage}: in fp32 B differs by {whole:.1e}, that of one linear at most by {one:.1e}", flush=True)


def killed(folder):
    """kill -9 in the middle of training, and the command again: the bytes of the run above."""
    there = folder / "killed"
    there.mkdir()
    make_data(there)
    write_recipe(there, "card.json", output_dir="card", device="cuda")
    steps = there / "card/train/metrics.jsonl"
    with open(folder / "log", "wb") as log:
        process = start("run", "card.json", cwd=there, log=log)
        end = time.monotonic() + 300
        while time.monotonic() < end and process.poll() is None and not (steps.is_file() and steps.read_text().count("\n") > 4):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        check(process.wait() == -signal.SIGKILL, "it had ended before it was killed", (folder / "log").read_text())
    succeed("run", "card.json", cwd=there, timeout=600)
    found = differing(folder / "card", there / "card")
    check(not found, "these files differ from the undisturbed run's:", *found)


def two_ranks():
    """One emulated card each, gradients summed through NCCL."""
    if reason := no_mpi() or (None if EMULATED or len(CARDS) > 1 else "one card, and NCCL wants one for each rank"):
        return reason
    with Folder() as folder:
        print("        " + ranks_agree(folder, device="cuda", distill__control=False, export=None, eval=None))
    return None


CARDS = json.loads(succeed("doctor", "--json", cwd=".").out)["cuda"]["cards"]
EMULATED = any("emulated sm_" in card for card in CARDS)
if not CARDS:
    sys.exit(f"{PROGRAM} has no card, emulated or not")
main([quickstart] if "--quickstart" in sys.argv else [every_stage, two_ranks])
