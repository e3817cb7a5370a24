"""The public functions, by family; each records ops."""
