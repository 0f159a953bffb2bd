"""The messages of pkg/event/proto, as Python classes: compiled when this is imported, so that no generated file can be old."""

import importlib
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[3] / "pkg/event/proto"


def _compile():
    out = tempfile.mkdtemp(prefix="spin-proto-")
    sources = sorted(str(p) for p in PROTO.glob("spin/v1/*.proto"))
    well_known = files("grpc_tools") / "_proto"
    if not sources or protoc.main(["protoc", f"-I{PROTO}", f"-I{well_known}", f"--python_out={out}", *sources]) != 0:
        sys.exit(f"schema: could not compile the messages in {PROTO}")
    sys.path.insert(0, out)


_compile()
chunk = importlib.import_module("spin.v1.chunk_pb2")
game = importlib.import_module("spin.v1.game_pb2")
checkpoint = importlib.import_module("spin.v1.checkpoint_pb2")
