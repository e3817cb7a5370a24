"""Matrix products: tile libraries, packing, and the kernels around them."""
