//! What commands that talk to a running server have in common.

use clap::Args;
use reqwest::Url;

use super::usage;
use crate::config::RemoteUrl;

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
        Ok(self.base()?.below(path))
    }

    /// The address of the server, without what a password may be in.
    pub(super) fn shown(&self) -> String {
        self.base().map_or_else(|_| "--url".to_owned(), |base| base.shown())
    }

    pub(super) fn base(&self) -> anyhow::Result<RemoteUrl> {
        let wrong = |error| usage(format!("--url {error}. Write an address such as http://127.0.0.1:8080"));
        RemoteUrl::parse(&self.url).map_err(wrong)
    }
}

/// TLS for clients: reqwest and tungstenite take the process's default provider.
pub(super) fn install_tls() {
    // A second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> ServerArgs {
        ServerArgs { url: url.to_owned(), token: None }
    }

    #[test]
    fn a_path_of_the_api_stands_behind_the_servers_own_and_nowhere_else() {
        let endpoint = |url| server(url).endpoint("/health/live").map(|url| url.to_string());
        assert_eq!(endpoint("http://127.0.0.1:8080/").unwrap(), "http://127.0.0.1:8080/health/live");
        assert_eq!(endpoint("https://proxy.example/till").unwrap(), "https://proxy.example/till/health/live");
        for wrong in ["http://user:hunter2@h/?tenant=7", "http://user:hunter2@h#f", "h:8080", "ftp://user:hunter2@h"] {
            let error = endpoint(wrong).unwrap_err().to_string();
            assert!(error.starts_with("--url must") && !error.contains("hunter2"), "{error}");
        }
        assert_eq!(server("http://user:hunter2@h:1").shown(), "http://h:1");
    }
}
