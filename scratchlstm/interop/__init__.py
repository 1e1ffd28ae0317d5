"""From and to other frameworks: `interop.keras`, `interop.torch`, `interop.onnx`."""
