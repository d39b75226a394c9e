"""export: a trained model for other programs: ONNX files, a PyTorch module, a page that explores the latent space."""
