//! Tests of whole clouds on real hosts; there is nothing in the library, see `tests/it`.
