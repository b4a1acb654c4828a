"""Whole erasures under a virtual clock and a seeded scheduler, with everything going wrong; see README.md."""
