"""int8 layers, by ONNX Runtime's dynamic quantisation of a bundle's float32 graphs."""

from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from exeunt.engine.bundle.manifest import Manifest, PrecisionSpec
from exeunt.engine.bundle.reader import Bundle, file_sha256
from exeunt.export.errors import ExportError

INT8_TOLERANCE = 1.0
# One scale is taken over a batch's whole tensor, so a row's numbers move with its mates.
INT8 = PrecisionSpec(layers="int8", batch_invariant=False)
INTEGER_PRODUCT = "MatMulInteger"


def quantise_layers(bundle: Bundle) -> Manifest:
    """Give the bundle's layer segments int8 weights; entry, heads and joins stay float32.

    Weights are symmetric int8, one scale a matrix; activations become uint8 while they run, one
    scale a tensor. Products of two activations (attention) stay float32.

    Args:
        bundle: its layer files are written anew, in place.

    Returns:
        The manifest with the new checksums, and with the precision that it now has.

    Raises:
        ExportError: a layer has no matrix product with constant weights, or is not understood.
    """
    segments = dict(bundle.manifest.segments)
    for name, spec in bundle.manifest.segments.items():
        if spec.kind == "layer":
            file = bundle.path(spec.file)
            file.write_bytes(quantised(name, onnx.load(file)))
            segments[name] = spec.model_copy(update={"sha256": file_sha256(file)})
    return bundle.manifest.model_copy(update={"segments": segments, "precision": INT8})


def quantised(name: str, model: onnx.ModelProto) -> bytes:
    """Return a layer's graph with int8 weights; the same graph always gives the same bytes.

    Raises:
        ExportError: nothing of it can be quantised.
    """
    library = import_module("onnxruntime.quantization")
    # Unmarked, it logs the advice to fuse the graph first; ours is quantised as it was exported.
    import_module("onnxruntime.quantization.quant_utils").add_pre_process_metadata(model)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "int8.onnx"
        try:
            library.quantize_dynamic(
                model, file, op_types_to_quantize=["MatMul"], weight_type=library.QuantType.QInt8
            )
        except Exception as error:  # the library documents no types
            raise ExportError(f"segment {name!r} cannot be quantised: {error}") from error
        result = onnx.load(file)
    if not any(node.op_type == INTEGER_PRODUCT for node in result.graph.node):
        raise ExportError(
            f"segment {name!r} has no matrix product with constant weights to quantise: export it"
            " with --precision fp32"
        )
    del result.metadata_props[:]
    del result.graph.value_info[:]
    content: bytes = result.SerializeToString(deterministic=True)
    return content
