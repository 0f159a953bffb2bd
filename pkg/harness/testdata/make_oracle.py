#!/usr/bin/env python3
"""What lm-evaluation-harness asks and scores, for the tests and `make eval-oracle`.

    python make_oracle.py data OUT_DIR [--rows N]           # small files of each task's shape
    python make_oracle.py run MODEL_DIR DATA_DIR OUT.json [--limit N] [--shots N] [--max-gen-toks N] [--tasks a,b]

Needs lm-eval 0.4.13, torch, transformers, datasets; no network. The stock task files are used as they are, but for where
their data comes from.
"""
import argparse
import csv
import json
import os
import random
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

# ours: (stock file below lm_eval/tasks, splits with the names of our files)
STOCK = {
    "arc_challenge": ("arc/arc_challenge.yaml", ["train", "validation", "test"]),
    "arc_easy": ("arc/arc_easy.yaml", ["train", "validation", "test"]),
    "hellaswag": ("hellaswag/hellaswag.yaml", ["train", "validation"]),
    "winogrande": ("winogrande/default.yaml", ["train", "validation"]),
    "openbookqa": ("openbookqa/openbookqa.yaml", ["train", "validation", "test"]),
    "truthfulqa_mc1": ("truthfulqa/truthfulqa_mc1.yaml", ["validation"]),
    "truthfulqa_mc2": ("truthfulqa/truthfulqa_mc2.yaml", ["validation"]),
    "mmlu_anatomy": ("mmlu/default/mmlu_anatomy.yaml", ["dev", "test"]),
    "mmlu_high_school_us_history": ("mmlu/default/mmlu_high_school_us_history.yaml", ["dev", "test"]),
    "gsm8k": ("gsm8k/gsm8k.yaml", ["train", "test"]),
    "wikitext": ("wikitext/wikitext.yaml", ["train", "validation", "test"]),
    "bigbench_general_knowledge": ("bigbench/multiple_choice/general_knowledge.yaml", ["default"]),
}
WORDS = "river stone lamp winter bread cloud garden engine paper silver window forest bridge market candle thunder".split()


def data(out, rows=6):
    """Rows of made-up questions, the same each time."""
    rng = random.Random(7)
    word = lambda: rng.choice(WORDS)
    sentence = lambda n: " ".join(word() for _ in range(n))

    def arc(n):
        rows = []
        for i in range(n):
            numbered = i % 3 == 1  # some of ARC's choices are labelled 1 to 4
            label = list("1234" if numbered else "ABCDE"[: 4 + i % 2])
            rows.append({"id": f"q{i}", "question": f"What does a {word()} do to the {word()}?", "choices": {"text": [f"It makes a {sentence(1 + (i + k) % 4)}" for k in range(len(label))], "label": label}, "answerKey": rng.choice(label)})
        return rows

    def hellaswag(n):
        return [{"ind": i, "activity_label": f"Mending a {word()}", "ctx_a": f"A man holds the {word()} [title] slowly.", "ctx_b": f"THE {word()} then", "ctx": "",
                 "endings": [f"falls [header] on  the {sentence(2 + k)}." for k in range(4)], "label": str(rng.randrange(4))} for i in range(n)]

    def winogrande(n):
        return [{"sentence": f"The {word()} broke the {word()} because _ was too {word()} .", "option1": f"the {word()}", "option2": f"a {word()}", "answer": rng.choice("12")} for _ in range(n)]

    def openbook(n):
        return [{"id": f"o{i}", "question_stem": f"A {word()} needs", "choices": {"text": [sentence(1 + k) for k in range(4)], "label": list("ABCD")}, "answerKey": rng.choice("ABCD")} for i in range(n)]

    def truthful(n):
        rows = []
        for _ in range(n):
            right, wrong = [sentence(3).capitalize() for _ in range(2)], [sentence(4).capitalize() for _ in range(3)]
            rows.append({"question": f"What is a {word()}?", "mc1_targets": {"choices": right[:1] + wrong, "labels": [1, 0, 0, 0]}, "mc2_targets": {"choices": right + wrong, "labels": [1, 1, 0, 0, 0]}})
        return rows

    def mmlu(n):
        return [{"question": f" Which {word()} is the {word()}? ", "subject": "x", "choices": [sentence(1 + k % 2) for k in range(4)], "answer": rng.randrange(4)} for _ in range(n)]

    def gsm8k(n):
        rows = []
        for _ in range(n):
            a, b = rng.randrange(2, 40), rng.randrange(2, 40)
            rows.append({"question": f"Ann has {a} {word()}s and buys {b} more. How many does she have?", "answer": f"She has {a}+{b}=<<{a}+{b}={a+b}>>{a+b} now.\n#### {a+b}"})
        return rows

    def wiki(n):
        return [{"page": f" = {word().capitalize()} = \n \n The {word()} , built 1 @,@ 234 years ago ( {word()} ) , is \" {sentence(3)} \" . It 's {sentence(rng.randrange(5, 60))} . \n"} for _ in range(n)]

    def bigbench(n):
        rows = []
        for _ in range(n):
            choices = [sentence(1 + k) for k in range(3)]
            best = rng.randrange(3)
            rows.append({"inputs": f"Q: What is a {word()}?\n" + "".join(f"  choice: {c}\n" for c in choices) + "A:", "targets": [choices[best]], "multiple_choice_targets": choices, "multiple_choice_scores": [int(k == best) for k in range(3)]})
        return rows

    make = {"arc_challenge": arc, "arc_easy": arc, "hellaswag": hellaswag, "winogrande": winogrande, "openbookqa": openbook, "truthfulqa_mc1": truthful,
            "mmlu_anatomy": mmlu, "mmlu_high_school_us_history": mmlu, "gsm8k": gsm8k, "wikitext": wiki, "bigbench_general_knowledge": bigbench}
    os.makedirs(out, exist_ok=True)
    for name, f in make.items():
        for split in STOCK[name][1]:
            made = f(40 if split == "train" else rows)
            with open(os.path.join(out, f"{name}_{split}.jsonl"), "w") as w:
                w.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in made)
            if name == "truthfulqa_mc1":
                with open(os.path.join(out, f"truthfulqa_mc2_{split}.jsonl"), "w") as w:
                    w.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in made)


def run(model, folder, out, limit, shots, names, new):
    import lm_eval
    from lm_eval.tasks import TaskManager

    stock = os.path.join(os.path.dirname(lm_eval.__file__), "tasks")
    with tempfile.TemporaryDirectory() as include:
        for name in names:
            path, splits = STOCK[name]
            files = {s: os.path.abspath(os.path.join(folder, f"{name}_{s}.jsonl")) for s in splits}
            with open(os.path.join(include, name + ".yaml"), "w") as w:
                w.write(f"include: {os.path.join(stock, path)}\ntask: spin_{name}\ntag: null\ndataset_path: json\ndataset_name: null\ndataset_kwargs: {json.dumps({'data_files': files})}\n")
        manager = TaskManager(include_path=include)
        result = {"lm_eval": lm_eval.__version__, "tasks": {}}
        for name in names:
            n = 0 if name == "wikitext" or name.startswith("truthfulqa") else shots
            r = lm_eval.simple_evaluate(model="hf", model_args=f"pretrained={model},dtype=float32", tasks=[f"spin_{name}"], num_fewshot=n, limit=limit, log_samples=True, device="cpu", batch_size=1, task_manager=manager, bootstrap_iters=100, gen_kwargs=f"max_gen_toks={new}" if name == "gsm8k" else None)
            key = f"spin_{name}"
            samples = []
            for s in r["samples"][key]:
                asked = [list(a) for a in (x if isinstance(x, (list, tuple)) else (x,) for x in s["arguments"])] if not isinstance(s["arguments"], dict) else s["arguments"]
                samples.append({"doc_id": s["doc_id"], "filter": s["filter"], "arguments": asked, "resps": s["resps"], "filtered": s["filtered_resps"],
                                "metrics": {m: s[m] for m in s["metrics"]}})
            result["tasks"][name] = {"shots": n, "max_gen_toks": new, "version": r["versions"][key], "results": {k: v for k, v in r["results"][key].items() if isinstance(v, (int, float))}, "samples": samples}
            print(name, result["tasks"][name]["results"], file=sys.stderr)
    with open(out, "w") as w:
        json.dump(result, w, indent=None, separators=(",", ":"), ensure_ascii=False, default=float)
        w.write("\n")


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("do", choices=["data", "run"])
    p.add_argument("paths", nargs="+")
    p.add_argument("--rows", type=int, default=6)
    p.add_argument("--limit", type=int, default=4)
    p.add_argument("--shots", type=int, default=2)
    p.add_argument("--max-gen-toks", type=int, default=256)
    p.add_argument("--tasks", default=",".join(STOCK))
    a = p.parse_args()
    if a.do == "data":
        data(*a.paths, a.rows)
    else:
        run(*a.paths, a.limit, a.shots, a.tasks.split(","), a.max_gen_toks)
