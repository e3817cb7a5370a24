"""Loop nests: how they are scheduled and written as LLVM IR."""
