//! What the acceptance tests need to run the real binary and to look at what it left behind.

pub(crate) mod derived;
pub(crate) mod results;
pub(crate) mod site;
