"""Workloads, evaluation, load generation and reports."""
