"""The training loop and its parts: input pipeline, augmentation, network, optimizer, checkpoints."""
