//! Traces, as a collector gets them.

mod trees;
