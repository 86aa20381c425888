"""Bad input: one clear error that names file, place, what was expected and found; the promised exit code; nothing half-written."""
import contextlib
import functools
import json
import os
import pathlib
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile

import common
from common import Folder, check, decant, differing, files, leftovers, main, make_data, recipe, rows, start, succeed, write_recipe, write_rows

STAGES = ("decant ", "prepare ", "teach ", "teacher ", "train ", "control ", "merge ", "export ", "warning: ")


UNFINISHED = (".tmp", ".gguf.part")


def error_of(done):
    """The lines of stderr that are no progress."""
    return [line for line in done.err.splitlines() if line.strip() and not line.startswith(STAGES)]


def refuse(code, *words, cwd, says=(), out="out", **more):
    """The command must fail with this code and one error that holds all of `says`."""
    done = decant(*words, cwd=cwd, **more)
    if "--show" in sys.argv:
        print(f"        decant {' '.join(map(str, words))} -> {done.code}\n" + "".join(f"          {line}\n" for line in done.err.splitlines()), end="")
    what = f"decant {' '.join(map(str, words))}"
    check(done.code == code, f"{what}: exit {done.code}, not {code}", done.err)
    error = error_of(done)
    check(error or done.err.startswith("decant "), f"{what}: no error is told", done.err)
    text = "\n".join(error) or done.err
    for part in says:
        check(part in text, f"{what}: the error does not say '{part}':", text)
    check(len(error) <= 4, f"{what}: more than one error:", text)
    check(len(set(error)) == len(error), f"{what}: said twice:", text)
    if (pathlib.Path(cwd) / out).is_dir():
        check(not leftovers(pathlib.Path(cwd) / out, UNFINISHED), f"{what}: left behind:",
              *leftovers(pathlib.Path(cwd) / out, UNFINISHED))
    return done


# ---- models to be damaged ----

@functools.lru_cache(None)
def trained():
    """The folder of one whole run, whose files tests copy. It goes when the script ends."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="decant-e2e-models-"))
    make_data(folder)
    write_recipe(folder, export=["f32", "q8_0"], eval=None, distill__control=False)
    succeed("run", "recipe.yaml", cwd=folder)
    return folder


def model(folder, name="model"):
    """A copy of the merged student as an HF directory."""
    to = folder / name
    to.mkdir()
    for path in (trained() / "out/merged").iterdir():
        if path.name not in ("summary.json", "times.json"):
            shutil.copy(path, to)
    return to


def gguf(folder, kind="F32"):
    return pathlib.Path(shutil.copy(trained() / f"out/export/out-{kind}.gguf", folder))


def edit_json(path, **changes):
    made = json.loads(path.read_text())
    made.update(changes)
    path.write_text(json.dumps(made))


def edit_safetensors(path, change):
    """change(header, data) may edit both; data is a bytearray."""
    whole = path.read_bytes()
    n = struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8:8 + n]), bytearray(whole[8 + n:])
    change(header, data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def says_what(path):
    return ("--model", path, "--prompt", "A red", "--max-new-tokens", "2")


# ---- weights ----

def truncated_gguf():
    with Folder() as folder:
        path = gguf(folder)
        whole = path.read_bytes()
        succeed("generate", *says_what(path), cwd=folder)
        for n in (0, 3, 8, 24, 100, 1000, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:n])
            refuse(1, "generate", *says_what(path), cwd=folder, says=[path.name])
            refuse(1, "inspect", path, cwd=folder, says=[path.name])
        path.write_bytes(whole[:4] + struct.pack("<I", 99) + whole[8:])
        refuse(1, "generate", *says_what(path), cwd=folder, says=[path.name, "99"])
        path.write_bytes(b"GGML" + whole[4:])
        refuse(1, "generate", *says_what(path), cwd=folder, says=[path.name])


def truncated_safetensors():
    with Folder() as folder:
        there = model(folder)
        path = there / "model.safetensors"
        whole = path.read_bytes()
        succeed("generate", *says_what(there), cwd=folder)
        for n in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:n])
            refuse(1, "generate", *says_what(there), cwd=folder, says=["model.safetensors"])
        refuse(1, "run", "recipe.yaml", "teacher.init=null", f"teacher.model={there}", f"student.model={there}", "student.init=null", "teacher.data=null",
               "teacher.train=null", "tokenizer=null", cwd=folder, says=["model.safetensors"])
        check(not list((folder / "out").rglob("*.gguf")), "an export of a damaged model")


def wrong_dtype():
    def integers(header, data):
        header["model.norm.weight"]["dtype"] = "I32"

    def unknown(header, data):
        header["model.norm.weight"]["dtype"] = "F31"

    def shape(header, data):
        header["model.norm.weight"]["shape"] = [16, 2]

    def offsets(header, data):
        header["model.norm.weight"]["data_offsets"] = [0, 1 << 60]

    def missing(header, data):
        del data[header.pop("model.norm.weight")["data_offsets"][0]:]

    for change, says in ((integers, "I32"), (unknown, "F31"), (shape, "model.norm.weight"), (offsets, "model.norm.weight"), (missing, "model.norm.weight")):
        with Folder() as folder:
            there = model(folder)
            edit_safetensors(there / "model.safetensors", change)
            refuse(1, "generate", *says_what(there), cwd=folder, says=["model.norm.weight", says])


def nan_weights():
    def poison(header, data):
        begin = header["model.layers.0.mlp.up_proj.weight"]["data_offsets"][0]
        data[begin + 40:begin + 44] = struct.pack("<f", float("nan"))

    with Folder() as folder:
        there = model(folder)
        edit_safetensors(there / "model.safetensors", poison)
        for words in (("generate", *says_what(there)), ("export", "--model", there, "--out", "x.gguf", "--type", "q8_0")):
            refuse(1, *words, cwd=folder, says=["model.layers.0.mlp.up_proj.weight"])
        check(not (folder / "x.gguf").exists(), "an export of NaN")
        refuse(1, "run", "recipe.yaml", "teacher.init=null", f"teacher.model={there}", f"student.model={there}", "student.init=null", "teacher.data=null",
               "teacher.train=null", "tokenizer=null", cwd=folder, says=["model.layers.0.mlp.up_proj.weight"])


def unknown_family():
    with Folder() as folder:
        there = model(folder)
        edit_json(there / "config.json", model_type="mamba9")
        refuse(1, "generate", *says_what(there), cwd=folder, says=["config.json", "mamba9"])
        edit_json(there / "config.json", model_type="llama", hidden_size=33)
        refuse(1, "generate", *says_what(there), cwd=folder, says=["model.embed_tokens.weight", "[300, 32]", "[300, 33]", "config"])
        (there / "config.json").write_text("{")
        refuse(1, "generate", *says_what(there), cwd=folder, says=["config.json"])
        (there / "config.json").unlink()
        refuse(1, "generate", *says_what(there), cwd=folder, says=["config.json"])


def other_vocabulary(folder, size):
    """A model with a tokenizer of another size."""
    write_recipe(folder, "other.yaml", output_dir="other", tokenizer__train__vocab_size=size, distill=None, lora=None, student={"init": {"config": recipe()["teacher"]["init"]["config"]}},
                 teacher=None, export=None, eval=None)
    succeed("run", "other.yaml", cwd=folder)
    return folder / "other/train/model"


def tokenizer_disagrees():
    with Folder() as folder:
        there = model(folder)
        larger = other_vocabulary(folder, 350)
        from_models = dict(teacher=None, student={"model": str(there)}, distill=None, eval=None)
        write_recipe(folder, tokenizer={"path": str(larger)}, **from_models)
        refuse(1, "run", "recipe.yaml", cwd=folder, says=["350", "300"])
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(larger / name, there)
        refuse(1, "generate", *says_what(there), cwd=folder, says=["350", "300"])
        for text in ("", "{}", '{"model": {"type": "BPE"}}', "[" * 100000):
            (there / "tokenizer.json").write_text(text)
            refuse(1, "tokenize", "--model", there, "red", cwd=folder, says=["tokenizer.json"])


def vocabularies_differ():
    with Folder() as folder:
        teacher, student = other_vocabulary(folder, 350), model(folder)
        write_recipe(folder, tokenizer=None, teacher={"model": str(teacher)}, student={"model": str(student)}, eval=None)
        refuse(1, "run", "recipe.yaml", cwd=folder, says=["teacher", "student", "350", "300"])


# ---- recipes and command lines ----

def misspelt_recipe():
    with Folder() as folder:
        text = (folder / "recipe.yaml").read_text()
        (folder / "recipe.yaml").write_text(text.replace('"kd_ratio"', '"kd_ration"'))
        refuse(2, "run", "recipe.yaml", cwd=folder, says=["recipe.yaml:", "kd_ration", "did you mean 'kd_ratio'", "nothing was started"])
        check(not (folder / "out").exists(), "output_dir was made for a recipe that is wrong")
        (folder / "recipe.yaml").write_text(text.replace('"r": 4', '"r": "sixteen"'))
        refuse(2, "run", "recipe.yaml", cwd=folder, says=["recipe.yaml:", "lora.r", "sixteen"])
        for broken in ("a: [", "\t- x", "", "[1, 2]", "seed: 1\nseed: 2\n", "\x00", "{" * 10000):
            (folder / "recipe.yaml").write_text(broken)
            refuse(2, "run", "recipe.yaml", cwd=folder, says=["recipe.yaml"] if broken else [])
        (folder / "recipe.yaml").write_text(text)
        refuse(2, "run", "recipe.yaml", "train.max_steps=many", cwd=folder, says=["command line", "train.max_steps", "many"])
        refuse(2, "run", "recipe.yaml", "train.max_step=3", cwd=folder, says=["max_step", "did you mean"])
        refuse(1, "run", "absent.yaml", cwd=folder, says=["absent.yaml"])
        refuse(1, "run", folder, cwd=folder, says=[str(folder)])
        refuse(2, "run", cwd=folder, says=["needs a recipe"])


def command_line():
    with Folder() as folder:
        refuse(2, "rnu", cwd=folder, says=["rnu", "did you mean 'run'"])
        refuse(2, "run", "--restrat", "recipe.yaml", cwd=folder, says=["--restrat", "did you mean '--restart'"])
        refuse(2, "generate", "--frobnicate", cwd=folder, says=["--frobnicate"])
        refuse(2, "generate", "--prompt", "x", cwd=folder, says=["--model"])
        refuse(2, "generate", "--model", cwd=folder, says=["--model"])
        refuse(2, "run", "recipe.yaml", "two.yaml", cwd=folder, says=["two.yaml"])
        refuse(2, "doctor", "word", cwd=folder, says=["word"])
        refuse(2, "generate", "--model", "m", "--prompt", "x", "--temperature", "hot", cwd=folder, says=["--temperature", "hot"])
        check(not (folder / "out").exists(), "a command line that is wrong began a run")


def stages_in_order():
    with Folder() as folder:
        refuse(1, "teach", "recipe.yaml", cwd=folder, says=["prepare"])
        refuse(1, "train", "recipe.yaml", cwd=folder, says=["prepare"])
        succeed("prepare", "recipe.yaml", cwd=folder)
        refuse(1, "train", "recipe.yaml", cwd=folder, says=["teach"])
        refuse(1, "merge", "recipe.yaml", cwd=folder, says=["train"])
        refuse(1, "export", "recipe.yaml", cwd=folder, says=["train"])


def absent_files():
    with Folder() as folder:
        for path in ("absent", "absent.gguf", "absent/model"):
            refuse(1, "generate", *says_what(path), cwd=folder, says=[path])
        refuse(1, "inspect", "absent.bin", cwd=folder, says=["absent.bin"])
        refuse(1, "run", "recipe.yaml", "data.train=absent.jsonl", cwd=folder, says=["absent.jsonl"])
        refuse(1, "run", "recipe.yaml", "data.eval=no*.jsonl", cwd=folder, says=["no*.jsonl"])
        write_recipe(folder, teacher={"model": "absent-teacher"}, tokenizer={"path": str(model(folder))}, student={"model": str(folder / "model")})
        refuse(1, "run", "recipe.yaml", cwd=folder, says=["absent-teacher"])


def adapters():
    with Folder() as folder:
        there = model(folder)
        write_recipe(folder, lora__target_modules=["query_proj"])
        refuse(1, "run", "recipe.yaml", "output_dir=targets", cwd=folder, out="targets", says=["query_proj"])
        other = other_vocabulary(folder, 350)
        adapter = trained() / "out/train/adapter"
        with_adapter = ("--adapter", folder / "adapter")
        shutil.copytree(adapter, folder / "adapter")
        base = ("--model", trained() / "out/merged", "--prompt", "x", "--max-new-tokens", "1")
        succeed("generate", *base, *with_adapter, cwd=folder)
        edit_json(folder / "adapter/adapter_config.json", use_dora=True)
        refuse(1, "generate", *base, *with_adapter, cwd=folder, says=["adapter_config.json", "use_dora"])
        edit_json(folder / "adapter/adapter_config.json", use_dora=False, r=5)
        refuse(1, "generate", *base, *with_adapter, cwd=folder, says=["adapter"])
        edit_json(folder / "adapter/adapter_config.json", r=4)
        whole = (folder / "adapter/adapter_model.safetensors").read_bytes()
        (folder / "adapter/adapter_model.safetensors").write_bytes(whole[:-9])
        refuse(1, "generate", *base, *with_adapter, cwd=folder, says=["adapter_model.safetensors"])
        (folder / "ids.json").write_text("[1, 2, 300]")
        refuse(1, "logits", "--model", there, "--ids", "ids.json", "--out", "x.npy", cwd=folder, says=["300"])
        (folder / "ids.json").write_text("[1, 2")
        refuse(1, "logits", "--model", there, "--ids", "ids.json", "--out", "x.npy", cwd=folder, says=["ids.json"])
        for text, says in (("[]", "is empty"), ('{"ids": [1, -1]}', "item 1 is no token id"), ('{"id": [1]}', "a list of token ids was expected")):
            (folder / "ids.json").write_text(text)
            refuse(1, "logits", "--model", there, "--ids", "ids.json", "--out", "x.npy", cwd=folder, says=["ids.json: ", says])
        (folder / "ids.jsonl").write_text('[]\n[1, "x"]\n')
        refuse(1, "detokenize", "--model", there, "--lines", "ids.jsonl", cwd=folder, says=["ids.jsonl: line 2: item 1 is no token id"])
        check(not (folder / "x.npy").exists() and other.is_dir(), "logits of no ids")


# ---- data ----

def odd_rows():
    with Folder() as folder:
        good = [json.dumps(r) for r in rows(20, 5)]
        bad = ["{not json", "[1, 2]", '"text"', "", "null", '{"prompt": 3, "completion": "x"}', '{"prompt": "only"}', "\xff\xfe", '{"prompt": "x", "completion": ""}']
        (folder / "train.jsonl").write_bytes("\n".join(good[:10] + bad + good[10:]).encode("latin-1"))
        succeed("prepare", "recipe.yaml", cwd=folder)
        lines = (folder / "out/data/rejects.jsonl").read_text().splitlines()
        rejects = [json.loads(line) for line in lines]
        check(len(rejects) >= 6, "too few rejects:", *lines)
        check(any("train.jsonl" in r["place"] and "11" in r["place"] for r in rejects), "no reject names line 11:", *lines)
        check(all(r["reason"] for r in rejects), "a reject without a reason", *lines)
        refuse(1, "prepare", "recipe.yaml", "data.max_bad_rows=2", cwd=folder, says=["data.max_bad_rows", "train.jsonl"])
        for text in ("", "\n\n", "{oops\n{oops\n", '{"prompt": "x"}\n'):
            (folder / "train.jsonl").write_text(text)
            done = refuse(1, "prepare", "recipe.yaml", cwd=folder, says=["data.train", "nothing to learn"])
            check("{oops" not in text or "train.jsonl" in done.err, "the first rejected row is not named:", done.err)
            check("32 rows" not in done.err and "48 rows" not in done.err, "rows of other sets are counted:", done.err)
            check(not (folder / "out/data/train-00000.h5").exists(), "a shard of nothing")
        (folder / "train.jsonl").write_text(json.dumps({"prompt": "A red circle. " * 200, "completion": "x"}) + "\n")
        refuse(1, "prepare", "recipe.yaml", cwd=folder, says=["train.jsonl", "data.max_length", "truncation"])
        (folder / "train.jsonl").unlink()
        (folder / "train.jsonl").mkdir()
        refuse(1, "prepare", "recipe.yaml", cwd=folder, says=["train.jsonl"])


# ---- output folders ----

def second_run():
    with Folder(train__max_steps=100000) as folder:
        with open(folder / "log", "wb") as log:
            first = start("run", "recipe.yaml", cwd=folder, log=log)
            try:
                while first.poll() is None and not (folder / "out/data").is_dir():
                    pass
                refuse(1, "run", "recipe.yaml", cwd=folder, says=["out", "in use", str(first.pid)], out="none")
                refuse(1, "train", "recipe.yaml", cwd=folder, says=["out", "in use", str(first.pid)], out="none")
            finally:
                first.send_signal(signal.SIGTERM)
                check(first.wait(60) == 75, "the first run was disturbed by the second", (folder / "log").read_text())


def stop_in_training(folder, *words, where="out/train"):
    with open(folder / "log", "wb") as log:
        process = start("run", "recipe.yaml", *words, cwd=folder, log=log)
        while process.poll() is None and not list((folder / where).glob("checkpoint-*[0-9]")):
            pass
        process.send_signal(signal.SIGTERM)
        check(process.wait(60) == 75, "was not stopped in training", (folder / "log").read_text())


def changed_recipe():
    """A change is refused by name; changed back the run goes on; with --restart the result is that of a new run."""
    longer = ("train.max_steps=60", "train.save_steps=2")
    with Folder(export=None, eval=None, distill__control=False) as folder:
        stop_in_training(folder, *longer)
        before = files(folder / "out")
        refuse(1, "run", "recipe.yaml", *longer, "train.learning_rate=1e-3", cwd=folder, says=["train.learning_rate", "0.001", "0.005", "--restart"])
        refuse(1, "run", "recipe.yaml", *longer, "distill.n_samples=30", cwd=folder, says=["distill.n_samples", "30", "20", "--restart"])
        refuse(1, "run", "recipe.yaml", *longer, "teacher.train.max_steps=9", cwd=folder, says=["teacher.train.max_steps", "9", "6", "--restart"])
        after = files(folder / "out")
        lost = [n for n in before if n in (set(before) - set(after)) or (n.endswith((".safetensors", ".h5")) and before[n] != after[n])]
        check(not lost, "a refusal changed files:", *lost)
        succeed("run", "recipe.yaml", *longer, "train.logging_steps=1", "train.save_steps=50", cwd=folder)
        refuse(1, "run", "recipe.yaml", *longer, "data.max_length=100", cwd=folder, says=["data.max_length", "100", "128", "--restart"])
        succeed("run", "recipe.yaml", *longer, "train.learning_rate=1e-3", "--restart", cwd=folder)
        succeed("run", "recipe.yaml", *longer, "train.learning_rate=1e-3", "output_dir=new", cwd=folder)
        found = [n for n in differing(folder / "out", folder / "new") if not n.startswith(".stages/") and n != "recipe.json" and "/checkpoint-" not in n]
        check(not found, "--restart leaves other bytes than a new run:", *found)


def changed_elsewhere():
    """A stopped stage minds the keys that it reads itself, and no others."""
    longer = ("teacher.train.max_steps=60", "teacher.train.save_steps=2")
    with Folder(export=None, eval=None, distill__control=False) as folder:
        stop_in_training(folder, *longer, where="out/teacher/train")
        refuse(1, "run", "recipe.yaml", *longer, "teacher.train.learning_rate=1e-3", cwd=folder,
               says=["teacher.train.learning_rate", "0.001", "0.005", "--restart"])
        refuse(1, "run", "recipe.yaml", *longer, "data.packing=true", cwd=folder, says=["data.packing", "true", "false", "--restart"])
        student = ("train.learning_rate=1e-3", "lora.r=2", "student.init.prune_layers=[1]")
        done = succeed("run", "recipe.yaml", *longer, *student, cwd=folder)
        check("teacher  goes on behind step" in done.err, "the teacher's training began anew", done.err)
        done = succeed("run", "recipe.yaml", *longer, *student, cwd=folder)
        check("teach     kept" in done.err, "the finished stage is not kept", done.err)
        adapter = "out/train/adapter/adapter_model.safetensors"
        succeed("run", "recipe.yaml", *longer, *student, "output_dir=new", cwd=folder)
        check((folder / adapter).read_bytes() == (folder / adapter.replace("out", "new", 1)).read_bytes(), "not the adapter of a run from the start")


def changed_data():
    """The recipe is the same, the file is not: no checkpoint of the old rows may be gone on from."""
    with Folder(export=None, eval=None) as folder:
        succeed("run", "recipe.yaml", cwd=folder)
        old = (folder / "train.jsonl").read_text()
        write_rows(folder / "train.jsonl", rows(32, 99))
        refuse(1, "run", "recipe.yaml", cwd=folder, says=["out/teacher", "other inputs", "--restart"])
        (folder / "train.jsonl").write_text(old)
        again = succeed("run", "recipe.yaml", cwd=folder)
        check(sum(" kept " in line for line in again.err.splitlines()) >= 2, "changed back, but not kept", again.err)
        write_rows(folder / "train.jsonl", rows(32, 99))
        for stage in ("prepare", "teach", "train"):
            succeed(stage, "recipe.yaml", "--restart", cwd=folder)
        succeed("run", "recipe.yaml", "output_dir=new", cwd=folder)
        for name in ("teacher/train-00000.h5", "train/adapter/adapter_model.safetensors"):
            check((folder / "out" / name).read_bytes() == (folder / "new" / name).read_bytes(), f"{name} is not the one of the new rows")


def other_store():
    with Folder() as folder:
        for out, extra in (("out", []), ("other", ["data.max_tokens=300"])):
            for stage in ("prepare", "teach"):
                succeed(stage, "recipe.yaml", f"output_dir={out}", *extra, cwd=folder)
        kept = (folder / "out/teacher/train-00000.h5").read_bytes()
        shutil.copy(folder / "other/teacher/train-00000.h5", folder / "out/teacher/train-00000.h5")
        refuse(1, "train", "recipe.yaml", cwd=folder, says=["out/teacher/train-00000.h5", "data"])
        for n in (0, 100, len(kept) // 2, len(kept) - 1):
            (folder / "out/teacher/train-00000.h5").write_bytes(kept[:n])
            refuse(1, "train", "recipe.yaml", cwd=folder, says=["out/teacher/train-00000.h5"])
        (folder / "out/teacher/train-00000.h5").write_bytes(kept)
        shard = (folder / "out/data/train-00000.h5").read_bytes()
        (folder / "out/data/train-00000.h5").write_bytes(shard[:len(shard) // 2])
        refuse(1, "train", "recipe.yaml", cwd=folder, says=["out/data/train-00000.h5"])
        (folder / "out/data/train-00000.h5").write_bytes(shard)
        succeed("train", "recipe.yaml", cwd=folder)


def damaged_checkpoint():
    """It is named, the one before it is used, and the end has the same bytes."""
    with Folder(export=None, eval=None, distill__control=False) as folder:
        succeed("run", "recipe.yaml", cwd=folder)
        wanted = (folder / "out/train/adapter/adapter_model.safetensors").read_bytes()
        for name in ("state.safetensors", "state.json", "manifest.json"):
            for damage in ("cut", "flip", "gone"):
                (folder / "out/train/summary.json").unlink()
                path = folder / "out/train/checkpoint-8" / name
                whole = bytearray(path.read_bytes())
                whole[len(whole) // 2] ^= 0x40
                path.write_bytes(whole if damage == "flip" else whole[:len(whole) // 3])
                if damage == "gone":
                    path.unlink()
                done = succeed("run", "recipe.yaml", cwd=folder)
                check("checkpoint-8 is not used" in done.err and "goes on behind step 6" in done.err, f"{name} {damage}:", done.err)
                check((folder / "out/train/adapter/adapter_model.safetensors").read_bytes() == wanted, f"{name} {damage}: other bytes")


@contextlib.contextmanager
def refusing(path):
    """A disk that does not tell what stands at a path: a link to itself, since root may read everything else."""
    aside = path.parent / "aside"
    if path.exists():
        path.rename(aside)
    path.symlink_to(path.name)
    yield
    path.unlink()
    if aside.exists():
        aside.rename(path)


def refused_by_disk():
    """What the disk refuses is not absent: nothing is made anew, left out or passed over. Then the same command goes on."""
    with Folder(export=None, eval=None, distill__control=False) as folder:
        succeed("run", "recipe.yaml", cwd=folder)
        out = folder / "out"
        wanted = (out / "train/adapter/adapter_model.safetensors").read_bytes()
        (out / "train/summary.json").unlink()
        before = files(out)
        for name, command in (("data/summary.json", "run"), (".stages/train.json", "train"), ("train/summary.json", "train"),
                              ("data/eval-00000.h5", "train"), ("train/checkpoint-8/manifest.json", "train")):
            with refusing(out / name):
                refuse(1, command, "recipe.yaml", cwd=folder, says=[f"out/{name}"])
            after = files(out)
            changed = [n for n in sorted(before.keys() | after.keys()) if n != ".lock" and before.get(n) != after.get(n)]
            check(not changed, f"{name}: a refusal changed files:", *changed)
        with refusing(out / "tokenizer/chat_template.jinja"):
            refuse(1, "tokenize", "--model", "out/tokenizer", "x", cwd=folder, says=["chat_template.jinja"])
        succeed("run", "recipe.yaml", cwd=folder)
        check((out / "train/adapter/adapter_model.safetensors").read_bytes() == wanted, "other bytes after the refusals")


def foreign_folder():
    with Folder(output_dir=".") as folder:
        (folder / "data").mkdir()
        (folder / "data/precious.txt").write_text("mine")
        refuse(1, "run", "recipe.yaml", cwd=folder, says=["data", "precious.txt", "output_dir"], out="none")
        refuse(1, "run", "recipe.yaml", "--restart", cwd=folder, says=["data", "precious.txt", "output_dir"], out="none")
        check((folder / "data/precious.txt").read_text() == "mine", "somebody's file was changed")


@contextlib.contextmanager
def small_disk(folder, size):
    at = folder / f"disk-{size}"
    at.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", at], capture_output=True).returncode == 0
    try:
        yield at if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", at], check=True)


def full_disk():
    met = set()
    with Folder() as folder:
        for size in ("8k", "32k", "64k", "128k", "200k", "300k", "400k", "600k", "800k", "1200k", "1600k", "2m", "2600k", "4m"):
            with small_disk(folder, size) as disk:
                if not disk:
                    return "a small disk cannot be mounted here (it takes root)"
                done = decant("run", "recipe.yaml", f"output_dir={disk}/out", cwd=folder)
                if done.code:
                    refuse(1, "run", "recipe.yaml", f"output_dir={disk}/out", cwd=folder, says=[str(disk)], out=disk / "out")
                    text = "\n".join(error_of(done))
                    check("full" in text or "free" in text, f"{size}: the error does not speak of space:", text)
                    met.add(done.err.splitlines()[-1])
                    larger = decant("run", "recipe.yaml", f"output_dir={folder}/whole-{size}", cwd=folder)
                    check(larger.code == 0, larger.err)
        check(len(met) >= 3, "a full disk was met at too few places:", *met)


def as_nobody(folder):
    """A program and a preexec function for a user without rights; None where this process has none to give up."""
    if os.geteuid() != 0:
        return None
    program = folder / "decant"
    shutil.copy(common.PROGRAM, program)
    os.chmod(program, 0o755)

    def drop():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)

    return str(program), drop


def read_only_folder():
    with Folder() as folder:
        nobody = as_nobody(folder)
        more = {"preexec_fn": nobody[1]} if nobody else {}
        program, common.PROGRAM = common.PROGRAM, nobody[0] if nobody else common.PROGRAM
        try:
            (folder / "closed").mkdir(mode=0o555)
            os.chmod(folder / "closed", 0o555)
            refuse(1, "run", "recipe.yaml", "output_dir=closed/out", cwd=folder, says=["closed/out", "Permission denied"], **more)
            refuse(1, "run", "recipe.yaml", "output_dir=closed", cwd=folder, says=["closed", "Permission denied"], **more)
            model(folder)
            refuse(1, "export", "--model", "model", "--type", "q8_0", "--out", "closed/x.gguf", cwd=folder, says=["closed/x.gguf", "Permission denied"], **more)
            os.chmod(folder / "train.jsonl", 0)
            os.chmod(folder, 0o777)
            refuse(1, "run", "recipe.yaml", cwd=folder, says=["train.jsonl", "Permission denied"], **more)
        finally:
            common.PROGRAM = program
            os.chmod(folder, stat.S_IRWXU)


TESTS = [truncated_gguf, truncated_safetensors, wrong_dtype, nan_weights, unknown_family, tokenizer_disagrees, vocabularies_differ, misspelt_recipe,
         command_line, stages_in_order, absent_files, adapters, odd_rows, second_run, changed_recipe, changed_elsewhere, changed_data, other_store,
         damaged_checkpoint, refused_by_disk, foreign_folder, full_disk, read_only_folder]
try:
    main(TESTS)
finally:
    if trained.cache_info().currsize:
        shutil.rmtree(trained())
