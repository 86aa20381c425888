"""What the end-to-end tests share: rows of their own, a recipe that runs in a second, the program, and a little bookkeeping.

Every test is a plain script: `python3 tests/e2e/NAME.py [PROGRAM]`; PROGRAM defaults to build/release/decant."""
import collections
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77


def find_program():
    words = [a for a in sys.argv[1:] if not a.startswith("-")]
    program = pathlib.Path(words[0] if words else ROOT / "build/release/decant").resolve()
    if not program.is_file():
        sys.exit(f"{program} is not there: build it first, or name the program")
    return str(program)


PROGRAM = find_program()


# ---- data ----

SHAPES = ["circle", "square", "star", "ring", "arrow"]
COLOURS = ["red", "green", "blue", "grey"]
PLACES = ["left", "right", "top", "middle"]


def rows(n, seed):
    """Descriptions of small drawings and what they say, as prompt and completion."""
    draw = random.Random(seed)
    out = []
    for _ in range(n):
        shape, colour, place = draw.choice(SHAPES), draw.choice(COLOURS), draw.choice(PLACES)
        text = draw.choice([f"A {colour} {shape} lies at the {place}.", f"At the {place} there is a {shape}, {colour}.",
                            f"We drew a {shape} in {colour}; it stands {place}."])
        answer = json.dumps({"shape": shape, "colour": colour, "place": place})
        out.append({"prompt": text + "\n", "completion": answer})
    return out


def write_rows(path, items):
    path.write_text("".join(json.dumps(r) + "\n" for r in items))


def make_data(folder):
    write_rows(folder / "teacher.jsonl", rows(48, 1))
    write_rows(folder / "train.jsonl", rows(32, 2))
    write_rows(folder / "eval.jsonl", rows(8, 3))


def recipe(**changes):
    """The whole pipeline at a size of toys. Recipes may be JSON, so that no YAML library is needed here. A change is named
    section__key and None takes a key away."""
    made = {
        "output_dir": "out",
        "seed": 7,
        "tokenizer": {"train": {"vocab_size": 300}},
        "teacher": {
            "init": {"config": {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                                "num_attention_heads": 2, "num_key_value_heads": 1}},
            "data": {"train": "teacher.jsonl"},
            "train": {"learning_rate": 5e-3, "max_steps": 6, "per_device_train_batch_size": 8, "warmup_steps": 2, "save_steps": 2},
        },
        "student": {"init": {"prune_layers": [0]}},
        "data": {"train": "train.jsonl", "eval": "eval.jsonl", "max_length": 128, "packing": False},
        "distill": {"kd_ratio": 0.7, "n_samples": 20, "control": True},
        "lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1},
        "train": {"learning_rate": 5e-3, "max_steps": 8, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "warmup_steps": 2,
                  "save_steps": 3, "eval_steps": 4},
        "export": ["q8_0", "q4_0"],
        "eval": {"generate": [{"path": "eval.jsonl", "kind": "json_fields", "limit": 3, "max_new_tokens": 8}]},
    }
    for name, value in changes.items():
        *sections, key = name.split("__")
        at = made
        for section in sections:
            at = at.setdefault(section, {})
        if value is None:
            at.pop(key, None)
        else:
            at[key] = value
    return made


def write_recipe(folder, name="recipe.yaml", **changes):
    (folder / name).write_text(json.dumps(recipe(**changes), indent=1) + "\n")


# ---- folders ----

class Folder:
    """A temporary folder with data and recipe; kept, and named, when a test fails or --keep is given."""

    def __init__(self, **changes):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="decant-e2e-"))
        os.chmod(self.path, 0o755)
        make_data(self.path)
        write_recipe(self.path, **changes)

    def __enter__(self):
        return self.path

    def __exit__(self, kind, *rest):
        if kind is None and "--keep" not in sys.argv:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            print(f"kept: {self.path}")


def files(folder):
    """Every file below a folder: its path there and its bytes."""
    folder = pathlib.Path(folder)
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def leftovers(folder, endings=(".tmp", ".part")):
    """Names of unfinished files. No run that ends by itself leaves any; a stopped capture leaves its .part to go on from."""
    return [str(p) for p in sorted(pathlib.Path(folder).rglob("*")) if p.name.endswith(endings)]


# What differs from run to run: times, and what shows them. The lock holds the number of a process.
VARYING = ("metrics.jsonl", "times.json", "report.html", ".lock")


def differing(a, b, varying=VARYING):
    """Names whose bytes differ, or that only one of two runs has."""
    one, two = files(a), files(b)
    return [n for n in sorted(one.keys() | two.keys()) if pathlib.Path(n).name not in varying and one.get(n) != two.get(n)]


# ---- the program ----

Done = collections.namedtuple("Done", "code out err")


def environment(**changes):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "DC_"))}
    env.update({"OMP_WAIT_POLICY": "passive", "LC_ALL": "C.UTF-8"}, **changes)
    return env


def decant(*words, cwd, timeout=120, env=None, text=True, **more):
    done = subprocess.run([PROGRAM, *map(str, words)], cwd=cwd, env=env or environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=timeout, text=text, errors="replace" if text else None, **more)
    return Done(done.returncode, done.stdout, done.stderr)


def start(*words, cwd, log):
    return subprocess.Popen([PROGRAM, *map(str, words)], cwd=cwd, env=environment(), stdout=subprocess.DEVNULL, stderr=log)


def check(holds, *what):
    """Unlike assert: also under -O, and it says what was found."""
    if not holds:
        raise AssertionError("\n".join(str(w) for w in what))


def succeed(*words, cwd, **more):
    done = decant(*words, cwd=cwd, **more)
    check(done.code == 0, f"decant {' '.join(map(str, words))}: exit {done.code}", done.out, done.err)
    return done


def name_of(code):
    return signal.Signals(-code).name if code < 0 else str(code)


def main(tests):
    """Runs the functions, all of them, and tells how each ended. One that returns a text was skipped for that reason."""
    only = [a[len("--only="):] for a in sys.argv if a.startswith("--only=")]
    failed, skipped = 0, 0
    for test in tests:
        if only and test.__name__ not in only:
            continue
        try:
            reason = test()
        except Exception as error:  # pylint: disable=broad-except -- whatever it is, the other tests run and tell too
            told = str(error) if isinstance(error, AssertionError) else traceback.format_exc()
            print(f"FAILED  {test.__name__}\n        " + told.replace("\n", "\n        "), flush=True)
            failed += 1
        else:
            print(f"skipped: {test.__name__}: {reason}" if reason else f"ok      {test.__name__}", flush=True)
            skipped += bool(reason)
    sys.exit(1 if failed else SKIPPED if skipped == len(tests) else 0)
