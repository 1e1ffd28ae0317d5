"""Exchange models with other frameworks: `interop.keras`, `interop.torch`, `interop.onnx`."""
