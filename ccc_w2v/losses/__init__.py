"""Pure functions of tensors: negatives, clustering, the contrastive terms."""
