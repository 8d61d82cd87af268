"""Collections in shards: searched as one, in threads of this process or by Ray actors on many machines."""
