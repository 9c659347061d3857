//! What commands that talk to a running server have in common.

use clap::Args;
use reqwest::Url;

use super::usage;

/// Which server, and who asks; before or behind the name of a subcommand.
#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// Address of the server
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:8080", env = "TILLSTREAM_URL")]
    pub(super) url: String,
    /// Token, where the server has tokens configured
    #[arg(long, global = true, value_name = "TOKEN", env = "TILLSTREAM_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
}

impl ServerArgs {
    /// The address of a path on the server.
    pub(super) fn endpoint(&self, path: &str) -> anyhow::Result<Url> {
        let base = Url::parse(&self.url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let wrong = || usage(format!("--url must be an address such as http://127.0.0.1:8080, not {}", self.url));
        let mut url = base.ok_or_else(wrong)?;
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        Ok(url)
    }
}

/// TLS for clients: reqwest and tungstenite take the process's default provider.
pub(super) fn install_tls() {
    // A second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
