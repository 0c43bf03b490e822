"""Hugging Face's vision-language models, from their `config.json` and weights.

The models are built of the layers in `exeunt.export.layers`, and nothing here imports
`transformers`: whoever exports need not install it, no code of a checkpoint can run, and a segment
is traced from a module that holds nothing but what the segment computes. What the official classes
compute is held by golden files, which were written with them.
"""
