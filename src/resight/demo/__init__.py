"""A world of photographs to try resight on, made on the spot from pictures that come with installed packages."""

from resight.demo.world import World, WorldPhoto, build_world

__all__ = ["World", "WorldPhoto", "build_world"]
