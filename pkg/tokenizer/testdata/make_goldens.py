#!/usr/bin/env python3
"""Goldens for pkg/tokenizer from the real peers: Hugging Face's tokenizers, and sentencepiece.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 transformers==5.24.0 protobuf
    pip download --no-deps chitchat-dataset==0.9.0 && unzip chitchat_dataset-*.whl
    python make_goldens.py chitchat_dataset/dataset.json [smollm2_golden.json]

For each shape it trains a vocabulary of a few hundred tokens and writes SHAPE.tokenizer.json and SHAPE.cases.json.
A case: text, ids (encode, add_special_tokens=False), plain (the same with encode_special_tokens=True: control tokens
are text), decoded (of ids, with the control tokens), clean (without them). sentencepiece.json holds the pieces, scores
and kinds that a GGUF would store, with ids by sentencepiece itself.
"""
import io
import json
import sys

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import generate_merges

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
DEEPSEEK = r"[!-~]?[a-z]+|\s?[^\s\p{L}]+|\s+$|\p{Lu}+|[一-龥]+"

TEXTS = [
    "", " ", "  ", "\n", "Hello, world!", "hello hello  hello   hello", " leading", "trailing ", "trailing  ",
    "  two  spaces\n\tand tab", "I'm 12345 years, won't you've", "IT'S DON'T we'LL I'D 'ſ 'S", "1234567890 12 123 1234",
    "3.14159 2024-01-02 1000000", "a  2 b   33", "x\n\n3 y\t 7", "½ Ⅳ ٣ 2² ①②③", "line\r\nline\r\n\r\n  line", "\r\n  \n \xa0nbsp",
    "x=1;\n\nfor i in range(10):\n    print(i)\n", "naïve café — 東京 🙂", "e\u0301 vs \u00e9, n\u0303 a\u0308\u0323", "\u1100\u1161\u11a8 각 한국어",
    "👩‍👩‍👧‍👦🏽 🇩🇪", "日本語の文章です。中文也可以。", "العربية עברית हिन्दी ไทย", "\u200bzero\u200dwidth\ufeff", "\u2028\u2029\u3000wide",
    "a\x00b\x01\x7f\x80", "﷽ ﬁ ſ K Å", "▁ ▁▁ _ ▁a", "Ġ Ċ č", "<0x0A> <0xE2>", "www.example.org/a?b=c&d=e#f", "!!!???...,,,;;;---",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "\n\n\n\n\nx\n\n \n  \n", "the the the\tthe",
    "<s>", "</s>", "<unk>", "<s>hello</s>", "hello<s> hello </s> hello", " <s> hello", "a<s></s>b", "<|im_start|>user\nhi<|im_end|>\n",
    "<|im_end|>\n<|im_start|>assistant", "<|im_start|", "<<|im_start|>>", "<|endoftext|><|endoftext|>x", "<tool_call>{\"a\": 1}</tool_call>",
    "[INST] hi [/INST] there", "[INST]hi[/INST]there</s>", "  <|assistant|>  \n hello", "x<word>y <word> z", "\ufffd \ufffd\ufffd",
]
# not UTF-8: Python's errors="replace", one U+FFFD for each maximal subpart, as Encode does
INVALID = [b"\xff", b"ok \xe2\x82 no", b"\xf0\x9f\x99x", b"\xc0\xaf \xed\xa0\x80", b"caf\xe9 \x80\x80", b"\xf4\x90\x80\x80"]


def messages(path, n):
    with open(path) as f:
        for conversation in list(json.load(f).values())[:n]:
            for turn in conversation["messages"]:
                yield from (m["text"] for m in turn)


def bpe(corpus, pre, size, specials, **options):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre
    t.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=specials))
    doc = json.loads(t.to_str())
    doc["model"].update(options)
    t = Tokenizer.from_str(json.dumps(doc))
    t.decoder = decoders.ByteLevel()
    return t


def spm(corpus, size):
    """pieces, scores and kinds of a sentencepiece BPE model in the shape of Llama 2's"""
    blob = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=blob, model_type="bpe", vocab_size=size, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.999, minloglevel=2,
        add_dummy_prefix=True, split_digits=True, allow_whitespace_only_pieces=True, num_threads=1)
    proto = sentencepiece_model_pb2.ModelProto.FromString(blob.getvalue())
    return blob.getvalue(), [(p.piece, p.score, p.type) for p in proto.pieces]


def llama2(pieces, normalized=False):
    vocab = {piece: i for i, (piece, _, _) in enumerate(pieces)}
    scores = {piece: score for piece, score, kind in pieces if kind in (1, 4)}
    t = Tokenizer(models.BPE(vocab=vocab, merges=generate_merges(vocab, scores, {p for p, _, kind in pieces if kind not in (1, 4)}),
                             unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.add_special_tokens([AddedToken(s, normalized=normalized, special=True) for s in ("<unk>", "<s>", "</s>")])
    return t


def shapes(corpus, pieces):
    chatml = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    gpt2 = lambda: pre_tokenizers.ByteLevel(add_prefix_space=False)
    split = lambda expr: pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(expr), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    yield "gpt2", bpe(corpus, gpt2(), 500, chatml[:1])
    yield "smollm", bpe(corpus, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2()]), 500, chatml)
    yield "llama3", bpe(corpus, split(LLAMA3), 600, chatml, ignore_merges=True)
    qwen2 = bpe(corpus, split(QWEN2), 600, chatml)
    qwen2.normalizer = normalizers.NFC()
    qwen2.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("</tool_call>", normalized=False),
                      AddedToken("<word>", single_word=True)])
    yield "qwen2", qwen2
    yield "regex", bpe(corpus, pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(DEEPSEEK), "isolated"), pre_tokenizers.Digits(), pre_tokenizers.Split(" ", "merged_with_previous"),
        pre_tokenizers.ByteLevel(add_prefix_space=True)]), 500, chatml)
    yield "llama2", llama2(pieces)
    yield "llama2-normalized", llama2(pieces, normalized=True)
    mistral = llama2(pieces)
    mistral.normalizer = None
    mistral.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    mistral.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in ("[INST]", "[/INST]")])
    mistral.add_special_tokens([AddedToken("<|assistant|>", normalized=False, special=True, lstrip=True, rstrip=True)])
    yield "mistral", mistral
    metaspace = llama2(pieces)
    metaspace.normalizer = None
    metaspace.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    metaspace.decoder = decoders.Metaspace(prepend_scheme="always")
    yield "metaspace", metaspace


def case(t, text):
    t.encode_special_tokens = False
    ids = t.encode(text, add_special_tokens=False).ids
    out = {"text": text, "ids": ids, "decoded": t.decode(ids, skip_special_tokens=False), "clean": t.decode(ids)}
    t.encode_special_tokens = True
    plain = t.encode(text, add_special_tokens=False).ids
    return out | ({"plain": plain} if plain != ids else {})


def write(name, doc, **how):
    with open(name, "w", encoding="utf-8") as f:
        json.dump(doc, f, ensure_ascii=False, **how)
        f.write("\n")


def main():
    corpus = list(messages(sys.argv[1], 60)) + [t for t in TEXTS if "\x00" not in t] * 2
    model, pieces = spm(corpus, 800)
    for name, t in shapes(corpus, pieces):
        cases = [case(t, text) for text in TEXTS]
        for raw in INVALID:
            c = case(t, raw.decode("utf-8", errors="replace"))
            cases.append(c | {"bytes": list(raw)})
        if name == "llama2-normalized":  # tokenizers 0.23 spells a control token of normalized text with its prefix, even when told to skip it
            cases = [{k: v for k, v in c.items() if k != "clean" and (k != "decoded" or not set(c["ids"]) & {0, 1, 2})} for c in cases]
        t.encode_special_tokens = False
        write(f"{name}.tokenizer.json", json.loads(t.to_str()), separators=(",", ":"))
        with open(f"{name}.cases.json", "w", encoding="utf-8") as f:
            f.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    write("sentencepiece.json", {
        "tokens": [p for p, _, _ in pieces], "scores": [s for _, s, _ in pieces], "kinds": [k for _, _, k in pieces],
        "cases": [{"text": t, "ids": processor.encode(t)} for t in TEXTS if "\x00" not in t and "▁" not in t]})
    if len(sys.argv) > 2:
        with open(sys.argv[2]) as f:
            golden = json.load(f)
        cases = [{"text": c["text"], "ids": c["ids"]} for c in golden["tokenizer"]]
        for g in golden["generations"]:
            cases += [{"text": g["rendered"], "ids": g["prompt_ids"]}, {"text": g["text"], "ids": g["new_ids"]}]
        with open("smollm2-135m.cases.json", "w") as f:
            f.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


if __name__ == "__main__":
    main()
