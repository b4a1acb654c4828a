"""An explicit-state search over `decide`: every event in every state that can be reached; see README.md."""
