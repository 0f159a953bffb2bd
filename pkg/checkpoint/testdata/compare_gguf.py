#!/usr/bin/env python3
"""Is a GGUF that spin wrote what llama.cpp's own package would have made of the original GGUF?

    pip install gguf==0.19.0; python compare_gguf.py WRITTEN.gguf ORIGINAL.gguf

Each tensor of WRITTEN must have the bytes that gguf's quants make of ORIGINAL's values, and all metadata of ORIGINAL must
be in WRITTEN, but for general.file_type. Prints one line; exits 1 where something differs, each on a line of its own.
"""
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, quants

written, original = map(GGUFReader, sys.argv[1:])
a, b = ({t.name: t for t in r.tensors} for r in (written, original))
bad = [f"{name}: in one of the two only" for name in a.keys() ^ b.keys()]
for name in a.keys() & b.keys():
    t, s = a[name], b[name]
    values = quants.dequantize(s.data, s.tensor_type).astype(np.float32)
    if t.tensor_type != GGMLQuantizationType.F32:
        values = quants.quantize(values, t.tensor_type)
    if list(t.shape) != list(s.shape) or values.tobytes() != t.data.tobytes():
        bad.append(f"{name}: {t.tensor_type.name} bytes differ from gguf's")
for key, field in original.fields.items():
    if key.startswith("GGUF.") or key == "general.file_type":
        continue
    if key not in written.fields or written.fields[key].contents() != field.contents():
        bad.append(f"{key}: metadata differs")
for line in bad:
    print(line)
print(f"{len(a)} tensors, {len(original.fields)} fields:", "different" if bad else "equal")
sys.exit(bool(bad))
