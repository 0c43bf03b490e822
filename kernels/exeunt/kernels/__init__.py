"""The scores that exit criteria read: one folder a kernel, the reference beside its device kernels."""
