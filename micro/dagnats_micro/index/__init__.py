"""The visibility index: `feed` reads, `rows` says what a message means, `store` writes, `query` asks."""

from dagnats_micro.index.projection import Index as Index
