//! Named places where the lab can hold or delay a thread.
