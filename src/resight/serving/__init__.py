"""The service: an HTTP API over collections, and the page on it (extra `serve`). See docs/serve.md."""
