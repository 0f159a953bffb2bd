#!/usr/bin/env python3
"""Goldens for pkg/chat: templates/*.jinja, in their public form, rendered as transformers renders them (jinja2).

    pip install transformers==5.24.0 jinja2==3.1.6
    python make_goldens.py > rendered.json

A case: template, messages, generate (add_generation_prompt), text or error (the message of raise_exception).
features.jinja is no model's: it holds the constructs that the others use, and more.
"""
import json
import pathlib

from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import _compile_jinja_template

MARK = {"bos_token": "<s>", "eos_token": "</s>"}
say = lambda *turns: [{"role": r, "content": c} for r, c in turns]
CONVERSATIONS = [
    say(("user", "What is the capital of France?")),
    say(("system", "Be brief."), ("user", "Hi!\n\nHow are you?"), ("assistant", "Fine, thanks."), ("user", "Good. 2 + 2 = ?")),
    say(("user", "Hi"), ("assistant", "Hello! How can I help?")),
    say(("user", "  spaces and <tags> & \"quotes\", 'é' 東京 🙂 {{ braces }} {% no %} \r\n"), ("assistant", "\n<think>\nhm\n</think>\n\nyes \n"), ("user", "\tand\n")),
    say(("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four"), ("user", "five"), ("assistant", "six")),
    say(("user", "one"), ("user", "two")),
    say(("system", "only a system message")),
    say(("user", "call"), ("assistant", "calling"), ("tool", "{\"r\": 1}"), ("assistant", "done")),
]


def main():
    cases = []
    for path in sorted(pathlib.Path("templates").glob("*.jinja")):
        template = _compile_jinja_template(path.read_text())
        for messages in CONVERSATIONS:
            for generate in (True, False):
                case = {"template": path.stem, "messages": messages, "generate": generate}
                try:
                    case["text"] = template.render(messages=messages, add_generation_prompt=generate, tools=None, documents=None,
                                                   date_string="26 Jul 2024", **MARK)
                except TemplateError as err:
                    case["error"] = str(err)
                cases.append(case)
    print("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]")


if __name__ == "__main__":
    main()
