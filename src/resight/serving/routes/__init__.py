"""The routes of the API, one file per topic; each has a `router`."""
