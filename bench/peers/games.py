"""Games: a prompt with two answers, as token ids."""
import json


def read(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def sequences(games):
    """Prompt and answer of every real answer, then of every generated one: pairs lie half a list apart."""
    return [(g["prompt"], g[side]) for side in ("real", "generated") for g in games]
