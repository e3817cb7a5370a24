"""From LLVM IR to machine code: text, compiler, caches, memory and threads."""
