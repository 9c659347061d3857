//! `tillstream token`: a new token and the entry for `http.tokens`.

use std::io::Write;

use clap::Args;

use super::usage;
use crate::config::TokenRole;

/// Makes a token for the HTTP API and prints the entry for the configuration
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tillstream token anna --role operator")]
pub struct TokenArgs {
    /// Who will hold it; stands in the audit
    name: String,
    /// What it allows: viewer (read), operator (and change) or admin (and change stores)
    #[arg(long, value_name = "ROLE", default_value = "operator")]
    role: String,
}

/// Prints the token, which nobody can show again, and its entry.
///
/// # Errors
/// If name or role make no sense.
pub fn run(args: &TokenArgs) -> anyhow::Result<()> {
    let role = TokenRole::from_name(&args.role)
        .ok_or_else(|| usage(format!("--role must be viewer, operator or admin, not {}", args.role)))?;
    if args.name.is_empty() || args.name.contains(['"', '\\']) || args.name.chars().any(char::is_control) {
        return Err(usage("the name must not be empty nor hold quotes, backslashes or control characters"));
    }
    let (token, hash) = crate::http::new_token();
    writeln!(
        std::io::stdout().lock(),
        "token: {token}\n\nIt is shown only once. In the configuration file:\n\n[[http.tokens]]\nname = \"{}\"\nrole = \"{}\"\nhash = \"{hash}\"",
        args.name,
        role.as_str(),
    )?;
    Ok(())
}
