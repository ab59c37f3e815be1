"""Makes a backbone smaller: structured pruning by channel groups, sparsity and clustering."""
