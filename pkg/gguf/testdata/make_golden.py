#!/usr/bin/env python3
"""Write types.gguf and types.json with the reference implementation: pip install gguf==0.19.0; python make_golden.py

types.gguf holds every kind of metadata value and one tensor of each type; types.json holds the metadata and, for each
tensor, its type, shape and dequantised values as hexadecimal float32 bits, plus the Q8_0 bytes that gguf makes of "source".
"""
import json
import pathlib

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFReader, GGUFValueType, GGUFWriter, quants

here = pathlib.Path(__file__).parent
rng = np.random.default_rng(1)
w = GGUFWriter(here / "types.gguf", "llama")
w.add_uint8("u8", 200)
w.add_int8("i8", -100)
w.add_uint16("u16", 60000)
w.add_int16("i16", -30000)
w.add_uint32("u32", 4000000000)
w.add_int32("i32", -2000000000)
w.add_uint64("u64", 1 << 63)
w.add_int64("i64", -(1 << 62))
w.add_float32("f32", 0.1)
w.add_float64("f64", 0.1)
w.add_bool("yes", True)
w.add_bool("no", False)
w.add_string("text", "naïve 日本\n")
w.add_string("empty", "")
w.add_array("ints", [1, -2, 3])
w.add_array("floats", [0.5, -1.5])
w.add_array("strings", ["a", "", "Ġb"])
w.add_array("bools", [True, False])
w.add_key_value("bytes", [1, 255], GGUFValueType.ARRAY, GGUFValueType.UINT8)
w.add_key_value("longs", [1, -(1 << 40)], GGUFValueType.ARRAY, GGUFValueType.INT64)

source = rng.normal(size=(3, 64)).astype(np.float32)
source[1, :32] = 0  # a block whose scale is 0
source[2, 3] = 2.5e-5  # subnormal in F16
w.add_tensor("f32", source)
w.add_tensor("f16", source.astype(np.float16))
w.add_tensor("vector", source[0])
w.add_tensor("cube", source.reshape(2, 3, 32))
for t in (T.BF16, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0):
    w.add_tensor(t.name.lower(), quants.quantize(source, t), raw_dtype=t)
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()

r = GGUFReader(here / "types.gguf")
hexed = lambda a: np.ascontiguousarray(a, "<f4").tobytes().hex()
golden = {
    "metadata": {k: f.contents() for k, f in r.fields.items() if not k.startswith("GGUF.")},
    "tensors": {
        t.name: {"type": t.tensor_type.name, "shape": [int(d) for d in reversed(t.shape)],
                 "f32": hexed(quants.dequantize(t.data, t.tensor_type))}
        for t in r.tensors
    },
    "q8_0_of_source": quants.quantize(source, T.Q8_0).tobytes().hex(),
}
(here / "types.json").write_text(json.dumps(golden, indent=1) + "\n")
