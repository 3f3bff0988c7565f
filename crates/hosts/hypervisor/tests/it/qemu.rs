//! What only a real guest can show.
