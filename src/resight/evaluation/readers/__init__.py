"""Readers of published ground-truth files: each turns a path into an `Annotation`."""
