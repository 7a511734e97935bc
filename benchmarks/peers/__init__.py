"""The whole way of other tools beside ours: same text, base, tokens, cores, threads and allocator."""
