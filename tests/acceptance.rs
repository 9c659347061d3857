//! The whole system against a plain sequential oracle.

mod oracle;
