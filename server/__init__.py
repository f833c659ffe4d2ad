"""HTTP: the protocol of ``protocol``, over a store that keeps the contract of ``engine.store``."""
