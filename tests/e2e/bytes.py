"""Two runs of a whole recipe leave the same bytes in every file but logs and times, with any number of threads."""
import fnmatch
import json

from common import Folder, check, differing, environment, files, leftovers, main, make_data, succeed, write_recipe

EXPECTED = ["recipe.json", "report.html", "data/summary.json", "data/train-00000.h5", "data/eval-00000.h5", "data/teacher-00000.h5",
            "data/manifest.jsonl", "tokenizer/tokenizer.json", "teacher/model/model.safetensors", "teacher/train-00000.h5",
            "teacher/eval-00000.h5", "train/adapter/adapter_model.safetensors", "train/adapter/adapter_config.json",
            "train/control/adapter/adapter_model.safetensors", "train/checkpoint-8/state.safetensors", "merged/model.safetensors",
            "merged/tokenizer.json", "merged/config.json", "merged/generation_config.json", "export/out-Q8_0.gguf",
            "export/out-Q8_0.parity.json", "export/out-Q4_0.gguf", "eval/summary.json"]


def run_in(folder, name, **env):
    """Beside each other the runs have one relative output_dir, so that recipe.json must be equal too."""
    home = folder / name
    home.mkdir()
    make_data(home)
    write_recipe(home)
    succeed("run", "recipe.yaml", cwd=home, env=environment(**env))
    return home / "out"


def same_bytes():
    with Folder() as folder:
        one = run_in(folder, "one")
        there = files(one)
        check(not [n for n in EXPECTED if n not in there], "missing:", [n for n in EXPECTED if n not in there], sorted(there))
        check(not leftovers(one), leftovers(one))
        for name, env in (("two", {}), ("thread", {"OMP_NUM_THREADS": "1"}), ("threads", {"OMP_NUM_THREADS": "2"}), ("many", {"OMP_NUM_THREADS": "5"})):
            other = run_in(folder, name, **env)
            check(not differing(one, other), f"{name} ({env}) differs from the first run in:", *differing(one, other))


def other_folder():
    """The folder's name stands in recipe.json, in the copies of it that checkpoints keep, and in the names of the exports."""
    with Folder() as folder:
        succeed("run", "recipe.yaml", "output_dir=a", "export=[{type: q8_0, name: x}]", cwd=folder)
        succeed("run", "recipe.yaml", f"output_dir={folder}/deep/b", "export=[{type: q8_0, name: x}]", cwd=folder)
        one, two = folder / "a", folder / "deep/b"
        found = [n for n in differing(one, two) if n != "recipe.json" and not fnmatch.fnmatch(n, "*/checkpoint-*/*.json")
                 and not n.startswith(".stages/")]
        check(not found, "differ with the name of output_dir:", *found)
        recipes = [json.loads((d / "recipe.json").read_text()) for d in (one, two)]
        for r in recipes:
            del r["output_dir"]
        check(recipes[0] == recipes[1], "recipe.json differs in more than output_dir")


def seed_matters():
    """The comparison can fail: another seed is another run."""
    with Folder() as folder:
        succeed("run", "recipe.yaml", "output_dir=a", cwd=folder)
        succeed("run", "recipe.yaml", "output_dir=b", "seed=8", cwd=folder)
        found = differing(folder / "a", folder / "b")
        for name in ("train/adapter/adapter_model.safetensors", "teacher/train-00000.h5", "merged/model.safetensors"):
            check(name in found, f"{name} is the same with another seed", *found)


def kept():
    """A second run keeps every stage; a run to the end again changes nothing."""
    with Folder() as folder:
        first = succeed("run", "recipe.yaml", cwd=folder)
        before = files(folder / "out")
        again = succeed("run", "recipe.yaml", cwd=folder)
        for stage in ("prepare", "teach", "train", "merge", "export"):
            check(any(line.split()[:2] == [stage, "kept"] for line in again.err.splitlines()), f"{stage} was not kept:", again.err)
        after = files(folder / "out")
        changed = [n for n in sorted(before.keys() | after.keys()) if n != ".lock" and before.get(n) != after.get(n)]
        check(not changed, "changed by a run that keeps everything:", *changed)
        check(first.out == again.out, "another table:", first.out, again.out)


main([same_bytes, other_folder, seed_matters, kept])
