"""The scores that exit criteria read: one folder a kernel, its reference in it."""
