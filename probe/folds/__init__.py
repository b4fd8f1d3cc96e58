"""Who is tested together: folds and splits, given or made, and the parts that choose inside them."""
