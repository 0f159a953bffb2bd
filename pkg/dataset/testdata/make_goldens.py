#!/usr/bin/env python3
"""Test data for pkg/dataset.

    pip install pyarrow
    pip download --no-deps chitchat-dataset==0.9.0 && unzip chitchat_dataset-*.whl
    python make_goldens.py chitchat_dataset/dataset.json

chitchat.json: some conversations of the set (MIT, (c) 2019 Perception, Control and Cognition Lab), some cut short, and two
made up to meet the filter. chitchat.rows.json: the rows by another implementation of the rule that pkg/dataset states.
*.parquet: the layouts that people publish, as pyarrow and datasets write them.
"""
import hashlib
import json
import re
import sys

import pyarrow as pa
import pyarrow.parquet as pq

REFUSED = re.compile(r"fuck|555|@bob|www\.", re.I)  # enough for the made-up conversations; the others hold nothing of the kind


def turn(who, *texts):
    return [{"text": t, "timestamp": "2018-05-02T19:38:15Z", "sender": who} for t in texts]


LONG = "well that is a longer story but the short of it is that I never found the time"
MADE_UP = {
    "made-up-1": {"start": "2018-05-02T19:38:15Z", "messages": [
        turn("a", "what the fuck do you do all day?"), turn("b", LONG), turn("a", "and what do you do for fun?"),
        turn("b", LONG, "call me at 555 123 4567"), turn("a", "what did you say about fun?"), turn("b", LONG, "I am @bob there"),
        turn("a", "where can I read more about it?"), turn("b", LONG, "see www.example.org"), turn("a", "ok?"), turn("b", LONG),
        turn("a", "this one is no question at all"), turn("b", LONG), turn("a", "is this answer too short now?"), turn("b", "yes it is"),
        turn("a", "does anybody else talk here too?"), turn("a", LONG)]},
    "made-up-2": {"start": "2018-05-02T19:38:15Z", "messages": [
        turn("a", "what is it that you like?", "  in the morning?"), turn("b", "Émile said: " + LONG, "😀"),
        turn("a", "what is it that you like?", "  in the morning?"), turn("b", "Émile said: " + LONG, "😀")]},
}


def rows(conversations):
    found, seen = [], set()
    for name, conversation in conversations.items():
        turns = [(t[0]["sender"], " ".join(m["text"] for m in t).strip()) for t in conversation["messages"]]
        for i, ((asks, prompt), (answers, reply)) in enumerate(zip(turns, turns[1:])):
            if (asks != answers and 5 <= len(prompt.split()) <= 120 and prompt.endswith("?") and 15 <= len(reply.split()) <= 120
                    and not REFUSED.search(prompt + " " + reply) and (prompt, reply) not in seen):
                seen.add((prompt, reply))
                found.append((hashlib.sha256(f"{name}{i}".encode()).hexdigest(), name, prompt, reply))
    out, names = [], set()
    for _, name, prompt, reply in sorted(found):
        if name not in names:
            names.add(name)
            out.append({"group": name, "prompt": prompt, "response": reply})
    return out


def main():
    with open(sys.argv[1]) as f:
        everything = json.load(f)
    some = {k: v for k, v in list(everything.items())[:400] if not REFUSED.search(json.dumps(v))}
    some = {k: {**v, "messages": v["messages"][:12]} for k, v in list(some.items())[::25]}
    some |= MADE_UP
    with open("chitchat.json", "w") as f:
        json.dump(some, f, indent=0)
    with open("chitchat.rows.json", "w") as f:
        json.dump(rows(some), f, indent=1)
    user, assistant = ({"content": "Why? 東京", "role": "user"}, {"content": "Because.", "role": "assistant"})
    again = {"content": "And?", "role": "user"}
    other = {"content": "No.", "role": "assistant"}
    for name, table in {
        "messages": {"id": [1, 2], "messages": [[user, assistant], [again, assistant, user, other]]},
        "response": {"prompt": ["Why?", "How?", "Why?"], "response": ["So.", "Thus.", "So."], "score": [0.5, None, 1.0]},
        "chosen": {"prompt": ["Why? 東京"], "chosen": [[user, assistant]], "rejected": [[user, other]]},
        "pairs": {"real": [[user, assistant]], "generated": [[user, other]]},
    }.items():
        pq.write_table(pa.table(table), f"{name}.parquet", compression="snappy")


if __name__ == "__main__":
    main()
