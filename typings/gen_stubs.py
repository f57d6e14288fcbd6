#!/usr/bin/env python3
"""Generate tensorrt/__init__.pyi from a tensorrt-*-bindings wheel, with no GPU, driver or libnvinfer.

The bindings' tensorrt.so imports nine C entry points from libnvinfer/_plugin/libnvonnxparser.
A nine-function do-nothing library with the right SONAMEs lets the real module be imported, and
pybind11's docstring signatures are then read by pybind11-stubgen.

  pip install numpy pybind11-stubgen        # build-time only; needs gcc
  python gen_stubs.py UNPACKED_WHEEL_DIR OUT_DIR        (wheel of the running Python's version)
"""
import ast, ctypes, pathlib, re, subprocess, sys, tempfile

wheel, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
NULL_C = r"""
#include <stddef.h>
void *createInferBuilder_INTERNAL(void*l,int v){return NULL;}
void *createInferRefitter_INTERNAL(void*e,void*l,int v){return NULL;}
void *createInferRuntime_INTERNAL(void*l,int v){return NULL;}
void *createNvOnnxParserRefitter_INTERNAL(void*r,void*l,int v){return NULL;}
void *createNvOnnxParser_INTERNAL(void*n,void*l,int v){return NULL;}
void *getBuilderPluginRegistry(int c){return NULL;}
int   getNvOnnxParserVersion(void){return 0;}
void *getPluginRegistry(void){return NULL;}
_Bool initLibNvInferPlugins(void*l,const char*n){return 1;}
"""
so = next(wheel.glob("tensorrt*/tensorrt*.so"))
needed = re.findall(r"\[(libnv[^\]]+)\]", subprocess.run(["readelf", "-d", so], capture_output=True, text=True).stdout)
tmp = pathlib.Path(tempfile.mkdtemp())
(tmp / "nv.c").write_text(NULL_C)
for name in needed:
    subprocess.run(["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", tmp / name, tmp / "nv.c"], check=True)
    ctypes.CDLL(str(tmp / name), mode=ctypes.RTLD_GLOBAL)      # the loader then finds the SONAME loaded
sys.path.insert(0, str(wheel))
import tensorrt_bindings as trt                                # noqa: E402  the REAL bindings

# C++ names that leak into docstrings -> the Python class of the same (or given) name
CPP = {"IParserError": "ParserError", "IBuilder": "Builder", "IRuntime": "Runtime"}
def fix(s: str) -> str:
    s = re.sub(r"(?:nvinfer1|nvonnxparser)::(?:v_\d+_\d+::)?(\w+)",
               lambda m: "tensorrt_bindings.tensorrt." + CPP.get(m[1], m[1]), s)
    s = re.sub(r"(?<=[(, ])in: ", "in_: ", s)                  # one method names an argument `in`
    s = re.sub(r"detail::accessor<[^,()]*>", "typing.Any", s)
    return re.sub(r"(?<![\w.])capsule(?!\w)", "typing.Any", s)

from pybind11_stubgen import main                              # noqa: E402
from pybind11_stubgen.parser.mixins.parse import ExtractSignaturesFromPybind11Docstrings as X  # noqa: E402
for meth in ("parse_function_docstring",):
    orig = getattr(X, meth)
    setattr(X, meth, lambda self, n, lines, _o=orig: _o(self, n, [fix(x) for x in lines]))
enums = []
def walk(o, path):
    for n, v in vars(o).items():
        if isinstance(v, type) and not n.startswith("_"):
            if hasattr(v, "__members__"):
                enums.append(f"^{n}$:{path}.{n}")
            elif v.__qualname__ == f"{getattr(o, '__qualname__', '')}.{n}".lstrip("."):
                walk(v, f"{path}.{n}")
import tensorrt_bindings.tensorrt as ext                       # noqa: E402
for n, v in vars(ext).items():
    if isinstance(v, type):
        enums += [f"^{n}$:tensorrt_bindings.tensorrt.{n}"] if hasattr(v, "__members__") else []
        for m, w in vars(v).items():
            if isinstance(w, type) and hasattr(w, "__members__"):
                enums.append(f"^{m}$:tensorrt_bindings.tensorrt.{n}.{m}")
argv = ["tensorrt_bindings.tensorrt", "-o", str(tmp / "raw")]
for e in dict.fromkeys(enums):
    argv += ["--enum-class-locations", e]
main(argv)
raw = (tmp / "raw/tensorrt_bindings/tensorrt.pyi").read_text()
while True:                                                    # add_scale_nd: a required argument after defaulted ones
    try:
        tree = ast.parse(raw)
        break
    except SyntaxError as e:
        if "non-default argument" not in e.msg:
            raise
        lines = raw.splitlines(keepends=True)
        cut = e.end_offset - 1
        lines[e.lineno - 1] = lines[e.lineno - 1][:cut] + " = ..." + lines[e.lineno - 1][cut:]
        raw = "".join(lines)

JUNK = {"_pybind11_conduit_v1_", "__buffer__", "__release_buffer__"}
class Clean(ast.NodeTransformer):
    def _body(self, node):
        self.generic_visit(node)
        b = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant) and isinstance(s.value.value, str))]
        b = [s for s in b if not (isinstance(s, ast.FunctionDef) and s.name in JUNK - {"__buffer__"})]
        node.body = b or [ast.Expr(ast.Constant(...))]
        return node
    visit_ClassDef = visit_FunctionDef = visit_Module = _body
    def visit_Attribute(self, node):
        self.generic_visit(node)
        if ast.unparse(node).startswith("tensorrt_bindings.tensorrt."):
            return ast.parse(ast.unparse(node)[len("tensorrt_bindings.tensorrt."):], mode="eval").body
        return node
tree = Clean().visit(tree)

# What docstring signatures cannot tell, from python/src/*.cpp of NVIDIA/TensorRT:
#  tuples and lists convert to Dims (py::implicitly_convertible), Dims is a sequence, IHostMemory a buffer,
#  and these calls hand back a null pointer, so None, when they fail.
NULLABLE = {"build_serialized_network", "build_engine_with_config", "deserialize_cuda_engine",
            "create_execution_context", "create_timing_cache", "get_timing_cache"}
class Semantics(ast.NodeTransformer):
    def visit_FunctionDef(self, node):
        for a in node.args.args + node.args.kwonlyargs:
            if a.annotation is not None and ast.unparse(a.annotation) == "Dims":
                a.annotation = ast.parse("Dims | collections.abc.Sequence[int]", mode="eval").body
        self.generic_visit(node)
        if node.name in NULLABLE and node.returns is not None:
            node.returns = ast.parse(f"{ast.unparse(node.returns)} | None", mode="eval").body
        return node
    def visit_Name(self, node):                                # trt.bool is a DataType and hides the builtin
        return ast.parse("builtins.bool", mode="eval").body if node.id == "bool" and isinstance(node.ctx, ast.Load) else node
    def visit_ClassDef(self, node):
        self.generic_visit(node)
        add = {"Dims": "def __iter__(self) -> collections.abc.Iterator[int]: ...\ndef __contains__(self, x: object) -> bool: ...",
               "IHostMemory": "def __buffer__(self, flags: int, /) -> memoryview: ..."}.get(node.name)
        if add:
            node.body += ast.parse(add).body
        return node
tree = Semantics().visit(tree)
# what tensorrt_bindings/__init__.py adds in Python
for node in tree.body:
    if isinstance(node, ast.ClassDef) and node.name == "DataType":
        node.body += ast.parse("@property\ndef itemsize(self) -> float: ...").body
    if isinstance(node, ast.ClassDef) and node.name == "Logger":
        have = {t.target.id for t in node.body if isinstance(t, ast.AnnAssign) and isinstance(t.target, ast.Name)}
        add = ["Severity = ILogger.Severity"] + [f"{k}: typing.ClassVar[ILogger.Severity]" for k in trt.ILogger.Severity.__members__]
        node.body = ast.parse("\n".join(a for a in add if a.split(":")[0] not in have)).body + node.body
tree.body += ast.parse("__version__: str\ndef volume(iterable: typing.Iterable[int]) -> int: ...\ndef nptype(trt_type: DataType) -> typing.Any: ...").body
tree.body = [n for n in tree.body if not (isinstance(n, ast.AnnAssign) and getattr(n.target, "id", "") == "__all__")]
text = ast.unparse(ast.fix_missing_locations(tree))
dst = out / "tensorrt/__init__.pyi"
dst.parent.mkdir(parents=True, exist_ok=True)
text = text.replace("import typing\n", "import builtins\nimport typing\n", 1)
if "import collections.abc" not in text:
    text = text.replace("import typing\n", "import collections.abc\nimport typing\n", 1)
dst.write_text(f"# Generated by gen_stub.py from the tensorrt bindings {trt.__version__}; docstrings left out.\n"
               "# mypy: ignore-errors\n" + text + "\n")
print(dst, len(text), "bytes;", text.count("-> ..."), "unresolved returns;", len(re.findall(r": \.\.\.[,)]", text)), "unresolved args")
